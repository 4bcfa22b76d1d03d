"""``zoo quickstart``: from no clips to a tested model, by the commands that one would type."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

import zoo

EXTRACTOR, HEADS = "ast_motionformer", ("correlation", "sync")
DELAY_S = 0.8


def quickstart(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything.")] = Path(
        "runs/quickstart"
    ),
    clips: Annotated[int, typer.Option(min=40, help="Synthetic clips to render.")] = 800,
    workers: Annotated[int, typer.Option(min=1, help="Ray Train workers.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Random offsets per held-out clip.")] = 25,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Passed on to zoo train.")
    ] = None,
) -> None:
    """Render clips, train both stages and two heads, evaluate, shift a clip and find its offset.

    Takes under 10 minutes on two cores.  Every step is a command that you can type yourself; a
    quickstart that was interrupted goes on where it stopped.

    Example: zoo quickstart
    """
    started = time.perf_counter()
    manifest, broken = out / "clips" / "manifest.parquet", out / "desynchronized.mp4"
    seconds: dict[str, float] = {}
    split = "train=0.75,valid=0.125,test=0.125"
    synth = ["data", "synth", out / "clips", "--kind", "sparse", "--clips", clips, "--seed", 1]
    _run(seconds, "render", *synth, "--split", split)
    runs = {head: out / head for head in HEADS}
    for head, run in runs.items():
        if (run / "recipe.json").exists():
            arguments: list[object] = ["--resume"]
        else:
            arguments = ["--extractor", EXTRACTOR, "--head", head, "--data", manifest]
            arguments += ["--stage", 2, "--init", runs["correlation"]] if head == "sync" else []
            arguments += [part for setting in settings or () for part in ("--set", setting)]
        if not (run / "model.json").exists():
            _run(seconds, f"train {head}", "train", "--out", run, "--workers", workers, *arguments)
    for head, run in runs.items():
        evaluate = ["evaluate", run, "--data", manifest, "--rounds", rounds]
        _run(seconds, f"evaluate {head}", *evaluate, "--out", run / "report.json")
    clip = _held_out_clip(manifest)
    _run(seconds, "shift", "data", "shift", clip, "--delay", DELAY_S, "--out", broken)
    for run in runs.values():
        _run(seconds, "predict", "predict", run, broken)
    _summarise(runs, seconds, time.perf_counter() - started)


def _run(seconds: dict[str, float], name: str, *words: object) -> None:
    """Show a zoo command, run it, note how long it took; end with it if it fails."""
    from rich.console import Console

    arguments = [str(word) for word in words]
    command = shlex.join(["zoo", *arguments])
    Console().print(f"\n[bold cyan]$ {command}[/]", soft_wrap=True, highlight=False)
    started = time.perf_counter()
    code = subprocess.run([sys.executable, "-m", "zoo.cli", *arguments], check=False).returncode
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started
    if code:
        raise typer.Exit(code)


def _held_out_clip(manifest: Path) -> Path:
    """Return the test clip with the most events."""
    from zoo.data.manifest import Manifest

    clips = Manifest.read(manifest).select("test").clips
    return max(clips, key=lambda clip: len(clip.events_s or ())).path


def _summarise(runs: dict[str, Path], seconds: dict[str, float], total_s: float) -> None:
    from rich.console import Console
    from rich.table import Table

    from zoo.registry.manager import registry

    reports = {head: json.loads((run / "report.json").read_text()) for head, run in runs.items()}
    first = next(iter(reports.values()))
    title = (
        f"Held-out clips: {first['num_clips']} x {first['rounds']} random offsets, "
        f"{total_s / 60:.1f} minutes in all"
    )
    scores = registry().task(first["task"]).scores
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for score in scores:
        table.add_column(score.title, justify="right")

    def cells(found: dict[str, Any]) -> list[str]:
        return [score.show(found[score.name]) for score in scores]

    for head, report in reports.items():
        table.add_row(f"[bold]{head}[/] head", *cells(report["pooled"]))
        for name, found in report["controls"].items():
            table.add_row(f"  [dim]control: {name}[/]", *cells(found))
    table.add_row("sliding check (no head)", *cells(first["sliding"]))
    table.add_row("rule without learning", *cells(first["rule"]))
    table.add_row("chance", *cells(first["chance"]))
    console = Console()
    console.print()
    console.print(table)
    times = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    console.print(f"Time: {times}", highlight=False, soft_wrap=True)
    for run in runs.values():
        for plot in sorted((run / "plots").glob("*.png")):
            console.print(f"Plot: {plot}", highlight=False, soft_wrap=True)


@zoo.hookimpl
def register_commands() -> list[zoo.CommandSpec]:
    """Register ``zoo quickstart``."""
    return [zoo.CommandSpec(name="quickstart", function=quickstart)]
