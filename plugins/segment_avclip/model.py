"""InfoNCE between the audio and video of the same segment."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from plugins.segment_avclip import SHIFT_WINDOW, SegmentAvclipConfig, window_of
from zoo.contracts import Modality
from zoo.errors import ConfigError, option
from zoo.models.modules import Encoder, Gather, Objective, SeparableEncoder
from zoo.models.segments import Segments


class SegmentAvclip(Objective):
    """Segment AVCLIP (paper section 3.2, equation 4).

    Every segment is its own class: its other modality is the positive, all other segments of the
    same clip and of the other clips are negatives.
    """

    num_sums = 3

    def __init__(self, config: SegmentAvclipConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        self.tokens = {"audio": encoder.io.audio.tokens, "vision": encoder.io.vision.tokens}
        self.temperature = nn.Parameter(torch.tensor(config.temperature))
        # Interpolates tokens to the times of the modality with fewer steps.
        fewer = min(self.tokens.values(), key=lambda tokens: tokens.steps)
        for modality, tokens in self.tokens.items():
            is_aligned = config.compare == "aligned"
            matrix = interpolation(tokens.times_s, fewer.times_s) if is_aligned else None
            self.register_buffer(f"{modality}_at", matrix, persistent=False)

    @property
    def can_compare(self) -> bool:
        """Whether the tokens of both modalities are equally wide."""
        return self.tokens["audio"].dim == self.tokens["vision"].dim

    def embed(self, modality: Modality, tokens: Float[Tensor, "N TxP D"]) -> Float[Tensor, "N E"]:
        """Turn the tokens of segments into unit vectors to compare (paper section 3.2)."""
        declared = self.tokens[modality]
        if declared.positions > 1:
            tokens = tokens.unflatten(1, (declared.steps, -1)).mean(dim=2)  # (N, T, D)
        matrix = getattr(self, f"{modality}_at")
        if matrix is None:
            return normalize(tokens.mean(dim=1), dim=-1)
        return normalize((matrix @ tokens).flatten(1), dim=-1)

    def forward(self, encoder: Encoder, segments: Segments, gather: Gather) -> dict[str, Tensor]:
        """Return the loss and the accuracy of picking the right segment out of the batch."""
        self._require_one_width()
        if not encoder.keeps_apart:
            raise ConfigError(
                "the objective 'segment_avclip' compares audio with video, and this encoder lets "
                "each see the other, which gives the answer away",
                f"choose another {option('objective')}, or leave stage I out: {option('set')} "
                f"stage2.encoder=trained {option('features')} online",
            )
        audio_tokens, vision_tokens = encoder(segments)
        audio = self.embed("audio", audio_tokens.per_segment)  # (N, E)
        vision = self.embed("vision", vision_tokens.per_segment)  # (N, E)
        loss = self.contrast(audio, vision, gather if self.config.gather else _alone)
        return {**loss, "temperature": self.temperature.detach()}

    def contrast(
        self, audio: Float[Tensor, "N D"], vision: Float[Tensor, "N D"], gather: Gather
    ) -> dict[str, Tensor]:
        """Contrast this worker's segments with those of all workers."""
        with torch.no_grad():
            self.temperature.clamp_(self.config.min_temperature, self.config.max_temperature)
        all_audio, all_vision = gather(audio), gather(vision)  # (W*N, D)
        first = 0
        if len(all_audio) > len(audio):
            first = torch.distributed.get_rank() * len(audio)
        target = first + torch.arange(len(audio), device=audio.device)
        to_audio = vision @ all_audio.T / self.temperature  # (N, W*N)
        to_vision = audio @ all_vision.T / self.temperature  # (N, W*N)
        loss = (cross_entropy(to_audio, target) + cross_entropy(to_vision, target)) / 2
        hits = (to_audio.argmax(1) == target).float() + (to_vision.argmax(1) == target).float()
        return {"loss": loss, "segment_accuracy": hits.mean() / 2}

    @torch.no_grad()
    def prepare(self, encoder: Encoder, segments: Segments) -> None:
        """Set the biases of the projections so that embeddings start centred.

        An untrained extractor maps all segments to nearly the same vector; without this the first
        hundreds of steps are spent on removing what they share.
        """
        if not isinstance(encoder, SeparableEncoder):
            return
        pairs = ((encoder.audio, segments.audio), (encoder.vision, segments.vision))
        for part, given in pairs:
            projection = getattr(part, "projection", None)
            if isinstance(projection, nn.Linear):
                tokens = part.encode(given.flatten(0, 1))  # (N, T, D)
                projection.bias.sub_(tokens.mean(dim=(0, 1)))

    @torch.no_grad()
    def validate(self, encoder: Encoder, segments: Segments) -> list[float]:
        """Validate by shifted windows: which audio window belongs to a video window, and back."""
        audio, vision = encoder.encode_many(segments)
        precision = 0.0
        num, window = audio.num_segments, window_of(audio.num_segments)
        pairs = zip(
            self.embed("audio", audio.per_segment).split(num),
            self.embed("vision", vision.per_segment).split(num),
            strict=True,
        )
        for a, v in pairs:
            precision += shifted_window_precision(a, v, window)
        windows = num - window + 1
        return [precision, len(segments) / windows, float(len(segments))]

    def scores(self, sums: list[float]) -> dict[str, float]:
        """Return how often the right window is found, and how often by chance."""
        precision, chance, count = sums
        return {"precision": precision / max(1, count), "chance": chance / max(1, count)}

    def _require_one_width(self) -> None:
        if not self.can_compare:
            widths = " and ".join(str(tokens.dim) for tokens in self.tokens.values())
            raise ConfigError(
                f"stage 1 compares tokens of both modalities, and theirs are {widths} wide: set "
                "model.audio.projection_dim and model.vision.projection_dim to one width, or train "
                "stage 2 only"
            )


def shifted_window_precision(
    audio: Float[Tensor, "S D"], vision: Float[Tensor, "S D"], window: int = SHIFT_WINDOW
) -> float:
    """Return how often a window of segments finds its other modality among all shifts.

    Source: Synchformer's zero-shot validation; chance is one over the number of windows.
    """
    window = min(window, len(audio))
    a, v = (x.unfold(0, window, 1).flatten(1) for x in (audio, vision))  # (M, D*W)
    similarity = a @ v.T  # (M, M)
    truth = torch.arange(len(a), device=a.device)
    by_video = (similarity.argmax(0) == truth).float().mean()
    by_audio = (similarity.argmax(1) == truth).float().mean()
    return float(by_video + by_audio) / 2


def interpolation(times_s: tuple[float, ...], wanted_s: tuple[float, ...]) -> Float[Tensor, "L T"]:
    """Return the matrix that interpolates values at some times linearly to other times."""
    columns = [np.interp(wanted_s, times_s, row) for row in np.eye(len(times_s))]
    return torch.tensor(np.stack(columns, axis=1), dtype=torch.float32)


def _alone(tensor: Tensor) -> Tensor:
    return tensor
