"""Two hundred mutated files in the default suite; ``make fuzz N=50000`` for more."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.fuzz.corpus import TEXTS, make_corpus
from tests.fuzz.minimise import minimised
from tests.fuzz.mutators import MUTATORS, mutated
from tests.fuzz.operations import ANSWERED, FAULTS, SENTENCE, judge
from tests.fuzz.run import run
from zoo.media.apart import reading_apart

FILES, SEED = 200, 0
WHOLE = ("h264.", "long.", "front.", "fragments.", "hevc.", "pcm.", "mpeg2.", "vp9.", "ffv1.")
CASES = Path(__file__).parents[3] / "shared" / "cases" / "fuzz"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(autouse=True)
def _apart() -> Iterator[None]:
    logging.getLogger("zoo").setLevel(logging.ERROR)
    with reading_apart():
        yield
    logging.getLogger("zoo").setLevel(logging.NOTSET)


def test_every_file_is_answered_or_refused_in_a_sentence(
    corpus: Mapping[str, bytes], tmp_path: Path
) -> None:
    results = list(run(corpus, SEED, range(FILES), tmp_path))
    assert [result for result in results if result.outcome.kind in FAULTS] == []
    assert len({result.outcome.kind for result in results}) == 2  # both happen


def test_files_that_broke_something_do_not(tmp_path: Path) -> None:
    if not CASES.is_dir():
        pytest.skip("needs the mutated files beside the checkout")
    for case in sorted(CASES.glob("m*")):
        file = tmp_path / case.name / case.name
        file.parent.mkdir()
        file.write_bytes(case.read_bytes())
        outcome = judge(file)
        assert outcome.kind not in FAULTS, (case.name, outcome)


def test_a_clip_that_nobody_touched_is_answered(
    corpus: Mapping[str, bytes], tmp_path: Path
) -> None:
    for name, data in corpus.items():
        file = tmp_path / name / name
        file.parent.mkdir()
        file.write_bytes(data)
        outcome = judge(file)
        assert outcome.kind not in FAULTS, (name, outcome)
        if name.startswith(WHOLE):
            assert outcome.kind == ANSWERED, (name, outcome)
        if name in TEXTS:
            assert outcome.kind == SENTENCE, (name, outcome)


def test_a_seed_and_a_number_are_a_file(corpus: Mapping[str, bytes]) -> None:
    assert mutated(corpus, 1, 2) == mutated(corpus, 1, 2)
    assert len({mutated(corpus, 1, number) for number in range(50)}) == 50
    data = corpus["h264.mp4"]
    for mutator in MUTATORS:
        some = [bytes(mutator(random.Random(n), bytearray(data), corpus)) for n in range(5)]
        assert any(other != data for other in some), mutator
        for text in (b"", b"\x47"):
            mutator(random.Random(0), bytearray(text), corpus)


def test_a_file_is_made_smaller() -> None:
    data = bytes(range(256)) * 4
    found = minimised(data, lambda some: b"\x10\x11\x12" in some and some.endswith(b"\xff"))
    assert found in (b"\x10\x11\x12\xff", b"\x10\x11\x12" + b"\xff")
