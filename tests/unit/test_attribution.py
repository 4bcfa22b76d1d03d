"""Evidence attribution: masks, scores, and whether the evidence lies where the events are."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.attribution import Evidence, Options, attribute
from zoo.attribution.crops import Crop, choose_other, mean_of, read_crop
from zoo.attribution.evidence import Attribution
from zoo.attribution.masking import MaskedContent, MaskedTokens, encode_crop
from zoo.cli.app import run
from zoo.contracts import Modality
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, MediaError
from zoo.evaluation.ranking import roc_auc
from zoo.inference.load import load_offsets
from zoo.inference.offset_predictor import OffsetPredictor
from zoo.media import shift_audio
from zoo.models.segments import Tokens
from zoo.timeline import chunk_at, clock_tenths, count_chunks

CHUNK_S, NUM_CHUNKS = 0.1, 48  # of the 4.8 s of a crop
MODALITIES: tuple[Modality, ...] = ("audio", "vision")


@pytest.fixture(scope="module")
def shipped() -> OffsetPredictor:
    return load_offsets("tiny-synthetic", synchronizability="none")


@pytest.fixture(scope="module")
def crops(shipped: OffsetPredictor, clips: Manifest) -> list[Crop]:
    return [read_crop(shipped.model, clip.path, 1.92) for clip in clips.clips[:2]]


def test_moments_are_written_as_players_do() -> None:
    assert [clock_tenths(t) for t in (2.0, 2.5, 2.96, 62.1)] == ["0:02", "0:02.5", "0:03", "1:02.1"]


def test_chunks_cover_a_crop() -> None:
    assert count_chunks(4.8, 0.1) == 48
    assert count_chunks(4.85, 0.1) == 49
    assert chunk_at([0.0, 0.1, 0.3, 0.39, 4.79, 4.9], 0.1, 48).tolist() == [0, 1, 3, 3, 47, 47]


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("way", [MaskedTokens, MaskedContent])
def test_a_mask_that_keeps_all_changes_nothing_and_one_that_keeps_none_takes_all(
    shipped: OffsetPredictor,
    crops: list[Crop],
    way: type[MaskedTokens | MaskedContent],
    modality: Modality,
) -> None:
    masked = way(shipped.model, modality, *crops, CHUNK_S, NUM_CHUNKS)
    both = masked.tokens(np.stack([np.ones(NUM_CHUNKS, bool), np.zeros(NUM_CHUNKS, bool)]))
    for tokens, crop in zip(both.values, crops, strict=True):
        whole = encode_crop(shipped.model, modality, crop).values[0]
        torch.testing.assert_close(tokens, whole, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("modality", MODALITIES)
def test_replaced_content_is_that_of_a_crop_spliced_by_hand(
    shipped: OffsetPredictor, crops: list[Crop], modality: Modality
) -> None:
    one, two = crops
    mask = np.random.default_rng(3).random((1, NUM_CHUNKS)) < 0.5
    masked = MaskedContent(shipped.model, modality, one, two, CHUNK_S, NUM_CHUNKS)
    kept_frames = mask[0, chunk_at((np.arange(120) + 0.5) / 25, CHUNK_S, NUM_CHUNKS)]
    kept_samples = mask[0, np.arange(76_800) // 1600]
    spliced = Crop(
        np.where(kept_frames[:, None, None, None], one.frames, two.frames),
        np.where(kept_samples, one.samples, two.samples),
    )
    whole = encode_crop(shipped.model, modality, spliced)
    torch.testing.assert_close(masked.tokens(mask).values, whole.values, atol=2e-3, rtol=1e-3)


def test_each_distinct_content_is_encoded_once(shipped: OffsetPredictor, crops: list[Crop]) -> None:
    masked = MaskedContent(shipped.model, "audio", *crops, CHUNK_S, NUM_CHUNKS)
    masks = np.random.default_rng(0).random((40, NUM_CHUNKS)) < 0.8
    masked.tokens(masks)
    once = masked.num_encoded
    assert once < 40 * 14
    masked.tokens(masks[::-1])
    assert masked.num_encoded == once
    changed = masks[:1].copy()
    changed[0, 0] ^= True
    masked.tokens(changed)
    assert masked.num_encoded <= once + 1  # the first chunk is seen by the first segment only


def test_the_mean_is_a_still_and_silence(crops: list[Crop]) -> None:
    mean = mean_of(crops[0])
    assert mean.frames.shape == crops[0].frames.shape
    assert (mean.frames == mean.frames[0]).all()
    assert not mean.samples.any()


def test_scores_are_the_shares_of_masks_as_defined(
    shipped: OffsetPredictor, clips: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled: list[np.ndarray] = []
    tokens = MaskedTokens.tokens

    def remember(self: MaskedTokens, masks: np.ndarray) -> Tokens:
        sampled.append(masks)
        return tokens(self, masks)

    monkeypatch.setattr(MaskedTokens, "tokens", remember)
    options = Options(masks=50, keep=0.3)
    found = attribute(shipped, clips.clips[0].path, start_s=1.92, options=options)
    audio, vision = found.audio, found.vision
    assert audio.keep == vision.keep == 0.3
    for evidence, masks in ((audio, sampled[0]), (vision, sampled[1])):
        num_right = round(evidence.right * 50)
        ratio = np.asarray(evidence.all_masks) / np.maximum(evidence.recorded, 1e-12)
        assert ratio[np.asarray(evidence.recorded) > 0] == pytest.approx(num_right / 50, rel=1e-3)
        assert (np.asarray(evidence.all_masks) <= masks.mean(0) + 1e-6).all()
    assert not np.array_equal(sampled[0], sampled[1])
    again = attribute(shipped, clips.clips[0].path, start_s=1.92, options=options)
    assert again == found
    other = attribute(shipped, clips.clips[0].path, start_s=1.92, options=replace(options, seed=1))
    assert other.audio.recorded != found.audio.recorded


def test_evidence_lies_where_the_events_are(shipped: OffsetPredictor, clips: Manifest) -> None:
    areas = []
    for clip in clips.clips[:4]:
        found = attribute(shipped, clip.path, start_s=1.92)
        truth = np.zeros(NUM_CHUNKS, bool)
        events_s = [t for t in clip.events_s or () if found.start_s <= t < found.end_s]
        truth[chunk_at(np.asarray(events_s) - found.start_s, CHUNK_S, NUM_CHUNKS)] = True
        areas += [roc_auc(np.asarray(e.recorded), truth) for e in (found.audio, found.vision)]
        assert 0.3 < found.audio.right < 0.7
    assert np.mean(areas) > 0.75


def test_evidence_of_a_shifted_clip_lies_apart_by_the_offset(
    shipped: OffsetPredictor, clips: Manifest, tmp_path: Path
) -> None:
    shift_audio(clips.clips[0].path, tmp_path / "late.mp4", 0.6)
    found = attribute(shipped, tmp_path / "late.mp4")
    assert found.offset_s == pytest.approx(-0.6)
    audio, vision = found.audio.excess, found.vision.excess
    agreement = [float(audio[max(0, k) : 48 + min(0, k)] @ vision[max(0, -k) : 48 - max(0, k)])
                 for k in range(-12, 13)]  # fmt: skip
    assert np.argmax(agreement) - 12 in (5, 6, 7)


def _evidence(recorded: list[float]) -> Evidence:
    return Evidence(all_masks=recorded, recorded=recorded, right=0.5, keep=0.5, noise=0.05)


def test_neighbouring_chunks_are_one_moment_and_the_strongest_comes_first() -> None:
    flat = _evidence([0.5] * 5)
    peaks = _evidence([0.8, 0.5, 0.7, 0.9, 0.5])
    found = Attribution(
        path="c.mp4",
        model="m",
        replaced="tokens",
        against=None,
        start_s=1.0,
        end_s=1.45,
        chunk_s=0.1,
        chunks_s=[1.0, 1.1, 1.2, 1.3, 1.4],
        reference_s=0.0,
        tolerance_s=0.2,
        offset_s=0.0,
        probability=1.0,
        masks=100,
        seed=0,
        audio_track=None,
        audio=flat,
        vision=peaks,
    )
    assert found.moments_s(flat) == []
    assert found.moments_s(peaks) == [(1.2, 1.4), (1.0, 1.1)]
    assert found.as_dict()["vision"]["moments_s"] == [[1.2, 1.4], [1.0, 1.1]]
    assert found.moments_s(_evidence([0.5, 0.5, 0.5, 0.5, 0.9])) == [(1.4, 1.45)]


def test_the_stand_in_is_another_clip_that_is_long_enough(
    shipped: OffsetPredictor, clips: Manifest, tmp_path: Path
) -> None:
    path, folder = clips.clips[0].path, clips.clips[0].path.parent
    chosen = choose_other(folder, path, shipped.model, seed=0)
    assert chosen != path
    assert choose_other(folder, path, shipped.model, seed=0) == chosen
    assert choose_other(chosen, path, shipped.model, seed=0) == chosen
    (tmp_path / "a.mp4").symlink_to(path)
    with pytest.raises(MediaError, match=r"holds no clip of 4\.8 s"):
        choose_other(tmp_path, path, shipped.model, seed=0)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (Options(keep=1.0), "keep must lie between 0 and 1"),
        (Options(chunk_s=0.7), "a chunk must lie between 0 and 0.64 s"),
        (Options(masks=0), "masks must be 1 or more"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    shipped: OffsetPredictor, clips: Manifest, options: Options, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        attribute(shipped, clips.clips[0].path, options=options)


@pytest.mark.parametrize("offset_s", [2.1, -50.0, float("nan")])
def test_an_offset_that_the_model_does_not_know_is_refused(shipped, clips, offset_s) -> None:
    with pytest.raises(ConfigError, match=r"an offset of .* tells apart: -2 to 2 s"):
        attribute(shipped, clips.clips[0].path, reference_s=offset_s)


def test_work_stops_when_its_progress_says_so(shipped: OffsetPredictor, clips: Manifest) -> None:
    class Enough(Exception):  # noqa: N818 - no error
        pass

    seen: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))
        if len(seen) == 3:
            raise Enough

    with pytest.raises(Enough):
        attribute(shipped, clips.clips[0].path, start_s=0.0, progress=progress)
    assert seen[-1] == (192, 2 * (1000 + 384))


def test_the_command_prints_moments_and_draws_them(
    clips: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, out = str(clips.clips[0].path), tmp_path / "evidence.png"
    command = ["attribute", "tiny-synthetic", clip, "--masks", "200", "-o", str(out)]
    assert run(command) == 0
    assert "evidence in the picture: " in capsys.readouterr().out
    assert out.read_bytes().startswith(b"\x89PNG")
    assert run(command) == 2
    assert "exists; choose another file" in " ".join(capsys.readouterr().err.split())
    folder = str(clips.clips[0].path.parent)
    ways = ["--replace", "content", "--against", folder, "--keep", "0.8", "--overwrite"]
    assert run([*command, *ways, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["replaced"] == "content"
    assert Path(answer["against"]).parent == Path(folder)
    assert len(answer["audio"]["recorded"]) == len(answer["chunks_s"]) == 48


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["tiny-synthetic", "{folder}/missing.mp4"], "there is no file"),
        (["tiny-synthetic", "{folder}/text.mp4"], "is not a media file"),
        (["tiny-synthetic", "{clip}", "--start", "5"], "has no crop of 4.8 s from 5 s on"),
        (["tiny-synthetic", "{clip}", "--against", "{folder}"], "holds no clip"),
        (["tiny-synthetic-trust", "{clip}"], "says whether audio and video can be synchronized"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    clips: Manifest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    reason: str,
) -> None:
    (tmp_path / "text.mp4").write_text("no film")
    words = [word.format(folder=tmp_path, clip=clips.clips[0].path) for word in words]
    assert run(["attribute", *words, "-o", str(tmp_path / "evidence.png")]) == 2
    assert reason in " ".join(capsys.readouterr().err.split())
    assert [file.name for file in tmp_path.iterdir()] == ["text.mp4"]
