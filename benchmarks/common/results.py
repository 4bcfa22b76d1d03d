"""What a benchmark leaves: one JSON file with the machine it ran on."""

from __future__ import annotations

import argparse
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import torch

FOLDER = Path(__file__).parents[1] / "results"


def machine(device: torch.device) -> dict[str, Any]:
    """Describe where a benchmark runs."""
    found = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": [round(value, 1) for value in os.getloadavg()],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "av": av.__version__,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def parser(
    description: str | None, name: str, rounds: int = 5, *, on_gpu: bool = False
) -> argparse.ArgumentParser:
    """Return a parser that knows where the result goes; with ``on_gpu`` also on which device."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--out", type=Path, default=FOLDER / f"{name}.json", help="where to write")
    made.add_argument("--rounds", type=int, default=rounds, help="timed repetitions")
    if on_gpu:
        made.add_argument("--device", default="cpu", help="cuda writes NAME-cuda.json")
    return made


def write(path: Path, device: torch.device, result: dict[str, Any]) -> None:
    """Write a result and print it; what a GPU did is kept beside what a processor did."""
    if device.type == "cuda" and path.parent == FOLDER:
        path = path.with_stem(f"{path.stem}-cuda")
    text = json.dumps({"machine": machine(device), **result}, indent=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    print(text)
