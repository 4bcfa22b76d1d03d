"""``make soak``: a demo under siege, of whose visitors a tenth sends what no client would.

    python tests/chaos/soak_demo.py --minutes 30 --clients 32

Prints a table of memory over time, of what visitors were told, and what is left over at the end.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

from demo_server import EXAMPLES, Demo, running

from zoo.media import shift_audio

MALFORMED = 0.1  # share of the requests
LOOK_S, WAIT_S = 15.0, 0.5
OPTIONS = ("--keep-minutes", "0.2", "--max-mb", "2")
NUM_CLIPS = 8


class Visitors:
    """What they ask for, and what they are told."""

    def __init__(self, demo: Demo, clips: dict[Path, float]) -> None:
        self.demo, self.clips = demo, clips
        self.told: Counter[str] = Counter()
        self.odd: list[str] = []
        self.is_over = threading.Event()

    def visit(self, number: int) -> None:
        """Send one request after the other."""
        rng = random.Random(number)
        while not self.is_over.is_set():
            kind = "malformed" if rng.random() < MALFORMED else "clip"
            try:
                answer = self._offend(rng) if kind == "malformed" else self._predict(rng)
            except urllib.error.HTTPError as error:
                answer = self._sort(error.code, error.read().decode(errors="replace"))
            except OSError as error:
                answer = f"connection lost ({type(error).__name__})"
                self.odd.append(f"{kind}: {error}")
            self.told[f"{kind}: {answer}"] += 1
            if "wait" in answer:
                time.sleep(WAIT_S)

    def _sort(self, code: int, text: str) -> str:
        if code == 503 or "Queue is full" in text:
            return "told to wait"
        if code < 500 and text.strip() not in ("", "null"):
            return "refused with a sentence"
        self.odd.append(f"{code}: {text[:200]}")
        return f"answered {code} without a sentence"

    def _predict(self, rng: random.Random) -> str:
        clip = rng.choice(sorted(self.clips))
        (path,) = json.loads(self._upload("a.mp4", clip.read_bytes()))
        told = self._call([{"path": path, "meta": {"_type": "gradio.FileData"}}, "tiny-synthetic"])
        if "event: complete" not in told:
            return self._sort(400, told.partition("data: ")[2])
        found = json.loads(told.rpartition("data: ")[2].strip())[0]
        return "right" if abs(found["refined_s"] - self.clips[clip]) < 0.1 else "WRONG"

    def _offend(self, rng: random.Random) -> str:
        large = json.dumps({"data": ["x" * 3_000_000]}).encode()
        garbage = rng.randbytes(20_000)
        offences = [
            lambda: self._post("/gradio_api/queue/join", large),
            lambda: self._post("/gradio_api/call/predict", b"{"),
            lambda: self._call([]),
            lambda: self._call([{"path": "/etc/passwd"}, "tiny-synthetic"]),
            lambda: self._call(self._uploaded("noise.mp4", garbage)),
            lambda: self._call(self._uploaded("list.mp4", b"#EXTM3U\nfile:///etc/passwd\n")),
            lambda: self._upload("", garbage),
            lambda: self._upload("big.mp4", bytes(3_000_000)),
        ]
        return self._sort(200, rng.choice(offences)())

    def _uploaded(self, name: str, content: bytes) -> list[object]:
        (path,) = json.loads(self._upload(name, content))
        return [{"path": path, "meta": {"_type": "gradio.FileData"}}, "tiny-synthetic"]

    def _upload(self, name: str, content: bytes) -> str:
        head = f'--mark\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body = head.encode() + content + b"\r\n--mark--\r\n"
        return self._post("/gradio_api/upload", body, "multipart/form-data; boundary=mark")

    def _call(self, data: list[object]) -> str:
        event = json.loads(
            self._post("/gradio_api/call/predict", json.dumps({"data": data}).encode())
        )["event_id"]
        with urllib.request.urlopen(
            f"{self.demo.url}/gradio_api/call/predict/{event}", timeout=600
        ) as answer:
            return str(answer.read().decode())

    def _post(self, path: str, body: bytes, kind: str = "application/json") -> str:
        request = urllib.request.Request(self.demo.url + path, body, {"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=600) as answer:
            return str(answer.read().decode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=32)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        running(Path(name) / "demo", *OPTIONS, has_plugin=False) as demo,
    ):
        clips = {}
        for number in range(NUM_CLIPS):
            clip = Path(name) / f"{number}.mp4"
            shift_audio(EXAMPLES / "in-sync.mp4", clip, -0.05 * number)
            clips[clip] = 0.05 * number
        visitors = Visitors(demo, clips)
        is_well = _besiege(visitors, options.minutes, options.clients)
    sys.exit(not is_well)


def _besiege(visitors: Visitors, minutes: float, clients: int) -> bool:
    """Let visitors come for some minutes; say if all went well."""
    demo, say = visitors.demo, sys.stdout.write
    threads = [
        threading.Thread(target=visitors.visit, args=(number,), daemon=True)
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    say("| minutes | requests | memory, MB | files |\n| --- | --- | --- | --- |\n")
    begun = time.monotonic()
    while (passed_s := time.monotonic() - begun) < minutes * 60:
        time.sleep(min(LOOK_S, minutes * 60 - passed_s + 0.1))
        num, files = sum(visitors.told.values()), len(demo.uploads())
        passed = (time.monotonic() - begun) / 60
        say(f"| {passed:.1f} | {num} | {demo.memory_mb:.0f} | {files} |\n")
        sys.stdout.flush()
    visitors.is_over.set()
    for thread in threads:
        thread.join(600)
    until = time.monotonic() + 120
    while demo.uploads() and time.monotonic() < until:
        time.sleep(1)
    say("\n| answer | times |\n| --- | --- |\n")
    for answer, num in sorted(visitors.told.items()):
        say(f"| {answer} | {num} |\n")
    say(f"\nFiles left over: {len(demo.uploads())}.\n")
    for line in visitors.odd[:20]:
        say(f"odd: {line}\n")
    wrong = [answer for answer in visitors.told if "WRONG" in answer or "without" in answer]
    return not (wrong or visitors.odd or demo.uploads())


if __name__ == "__main__":
    main()
