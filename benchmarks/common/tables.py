"""Put the results of the benchmarks into docs/performance.md, between its markers.

python -m benchmarks.common.tables
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.common.markdown import Result, table, times, where
from benchmarks.common.results import FOLDER

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
GIGA = 1e9
INDEXED = "key frame per second"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def extractor(result: Result) -> str:
    """Write what the extractors do."""
    ceiling = {name: value / GIGA for name, value in result["ceiling_flops"].items()}
    rows, ratios = [], []
    first = result["rows"][0]["forward"]
    compared = [name for name in first if "_against_" in name]
    for row in result["rows"]:
        for work in ("forward", "training"):
            found = row[work]
            label = f"{row['preset']}, {work}"
            for name in found["seconds"]:
                rows.append(
                    [
                        label,
                        name.replace("_", ", "),
                        f"{found['segments_per_s'][name]:.4g}",
                        _number(found["segments_per_s"][name] / 14),
                        _number(row["flops_of_a_segment"] * _factor(work) / GIGA),
                        f"{found['share_of_ceiling'][name]:.0%}",
                    ]
                )
            ratios.append([label, *(times(found[name]) for name in compared)])
    parts = [
        f"Largest matrix product: {ceiling['fp32']:.0f} GFLOP/s in fp32, "
        f"{ceiling['bf16']:.0f} in bf16.",
        table(
            [
                "preset, work",
                "how",
                "segments/s",
                "clips of 14/s",
                "GFLOP a segment",
                "share of the ceiling",
            ],
            rows,
        ),
        table(
            ["preset, work", *(_compared(name) for name in compared)],
            ratios,
        ),
    ]
    for row in result["rows"]:
        parts += [_compiled(row)] if "compiled" in row else []
        parts += [_gpu(row)] if "gpu_hours" in row else []
    return "\n\n".join([*parts, where(result)])


def _compared(name: str) -> str:
    fast, slow = name.split("_against_")
    return f"{fast} : {slow.replace('_', ', ')}"


def _factor(work: str) -> int:
    return 3 if work == "training" else 1


def _compiled(row: Result) -> str:
    found = row["compiled"]
    return (
        f"`torch.compile`, {row['preset']}, training step: fp32 "
        f"{times(found['fp32_against_plain'])} as fast, bf16 {times(found['bf16_against_plain'])}; "
        f"the first steps of all four took {found['first_steps_s']:.0f} s."
    )


def _gpu(row: Result) -> str:
    hours, memory = row["gpu_hours"], row["peak_training_bytes"]
    return (
        f"{row['preset']}: stage I {hours['stage1']} GPU-hours, stage II online "
        f"{hours['stage2_online']}, from the store at most {hours['stage2_store_at_most']}; peak "
        f"memory of a training step {memory['plain'] / GIGA:.1f} GB, with gradient checkpointing "
        f"{memory['checkpointed'] / GIGA:.1f} GB."
    )


def loader(result: Result) -> str:
    """Write how many samples a core reads."""
    rows = []
    for row in result["rows"]:
        rate = row["clips_per_s_and_core"]
        cache = row.get("cache_against_published")
        rows.append(
            [
                f"{row['clips']}, {row['size']}",
                f"{rate['published']:.3g}",
                f"{rate['window']:.3g}",
                times(row["window_against_published"]),
                f"{rate['bytes']:.3g}",
                times(row["bytes_against_published"]),
                times(row["decoding_against_published"]),
                f"{rate['cache']:.3g}, {times(cache)}" if cache else "",
            ]
        )
    head = [
        "clips, size",
        "published, clips/s",
        "window, clips/s",
        "ratio",
        "as bytes, clips/s",
        "ratio",
        "ratio of decoding alone",
        "cache, clips/s and ratio",
    ]
    return "\n\n".join([table(head, rows), where(result)])


def stages(result: Result) -> str:
    """Write what a sample of stage II costs."""
    names = ("store", "online_cache", "online", "published")
    rows = [
        [
            row["head"],
            *(f"{1000 * row['seconds_of_a_sample'][name]:.3g}" for name in names),
            times(row["store_against_online"]),
            times(row["store_against_published"]),
            times(row["online_against_published"]),
        ]
        for row in result["rows"]
    ]
    head = [
        "head",
        "store, ms",
        "online from the cache, ms",
        "online, ms",
        "published, ms",
        "store : online",
        "store : published",
        "online : published",
    ]
    pays = max(row["epochs_that_pay_for_the_store"] for row in result["rows"])
    stage1 = result["stage1"]
    text = (
        f"A clip of 9 s costs {result['seconds_to_store_a_clip']:.2f} s to store, which "
        f"{pays:.0f} epochs pay for. A step of stage I (4 clips of 12 segments) takes "
        f"{stage1['step']:.2f} s, reading its batch from the cache {stage1['load']:.2f} s."
    )
    return "\n\n".join([table(head, rows), text, where(result)])


def growth(result: Result) -> str:
    """Write what predictions take and how costs grow."""
    predictions = table(
        ["model", "clip, s", "crops", "CPU seconds", "peak memory, GB"],
        [
            [
                row["model"],
                f"{row['clip_s']:g}",
                row["crops"],
                f"{row['cpu_s']:.3g}",
                f"{row['peak_bytes'] / GIGA:.2f}",
            ]
            for row in result["prediction"]
        ],
    )
    segments = table(
        ["segments of a crop", "encoder, ms", "head, ms"],
        [
            [num, f"{1000 * row['encoder']:.3g}", f"{1000 * row['head']:.3g}"]
            for num, row in result["segments"].items()
        ],
    )
    parts = [predictions, segments]
    if "workers" in result:
        rates = [[num, f"{rate:.3g}"] for num, rate in result["workers"].items()]
        parts.append(table(["loader workers", "clips/s on the wall"], rates))
    return "\n\n".join([*parts, where(result)])


def projection(result: Result) -> str:
    """Write what both stages would take on GPUs."""
    names = {
        "stage1": "stage I, 20 epochs",
        "stage2_online": "stage II online, 326 epochs",
        "stage2_store": "stage II from the store, 326 epochs",
    }
    shares = [(gpu, share) for gpu, hours in result["hours"].items() for share in hours]
    rows = [
        [
            label,
            f"{result['flops'][name]:.2g}",
            *(_number(result["hours"][gpu][share][name]) for gpu, share in shares),
        ]
        for name, label in names.items()
    ]
    head = ["", "operations", *(f"{gpu}-hours at {float(share):.0%}" for gpu, share in shares)]
    paper = [
        f"{hours} MI250-hours for stage {'I' if stage == 'stage1' else 'II'} "
        f"({result['paper_share'][stage]:.0%} of the peak)"
        for stage, hours in result["paper_hours"].items()
    ]
    return "\n\n".join([table(head, rows), f"The paper reports {' and '.join(paper)}."])


def ingest(result: Result) -> str:
    """Write who decodes how fast."""
    labels = {
        "here": "the worker itself",
        "loader": "one loader process",
        "ray": "one Ray Data task at a time",
    }
    rows = []
    for name, label in labels.items():
        runs = result["ways"][name]
        firsts = ", ".join(f"{run['first_s']:.1f} s" for run in runs)
        rows.append([label, f"{median(run['clips_per_s'] for run in runs):.3g}", firsts])
    head = ["who decodes", "samples/s", "until the first one, by run"]
    return "\n\n".join([table(head, rows), where(result)])


def pretraining(result: Result) -> str:
    """Write what a step of pre-training costs."""
    labels = {
        "cavmae_published": ("cavmae", "published"),
        "cavmae_published_bf16": ("cavmae", "published, bf16"),
        "cavmae_fp32": ("cavmae", "fp32"),
        "cavmae_bf16": ("cavmae", "bf16"),
        "avsiam_published": ("avsiam", "published, stop-gradient of the paper"),
        "avsiam_published_bf16": ("avsiam", "published, stop-gradient of the paper, bf16"),
        "avsiam_source": ("avsiam", "published source of the base model"),
        "avsiam_fp32": ("avsiam", "fp32"),
        "avsiam_bf16": ("avsiam", "bf16"),
        "beside_full": ("full", "fp32, encoder of all patches"),
    }
    ceiling, flops, clips = result["ceiling_flops"], result["flops"], result["clips"]
    shares = result.get("shares")  # were not measured on a GPU
    rows = []
    for name in filter(result["seconds"].__contains__, labels):
        model, how = labels[name]
        rate = flops[model] / result["seconds"][name]
        peak = ceiling["bf16" if name.endswith("bf16") else "fp32"]
        cells = [model, how, f"{result['seconds'][name] / clips:.3g}"]
        cells += [f"{share:.0%}" for share in shares[name].values()] if shares else []
        rows.append([*cells, f"{rate / peak:.0%}"])
    head = ["step", "how", "s a clip", *(["in products", "in fused attention"] if shares else [])]
    head.append("share of the ceiling")
    ratios = [[name, times(value)] for name, value in result["ratios"].items()]
    apart = result["optimiser_seconds"]
    operations = ", ".join(f"{name} {flops[name] / clips / GIGA:.0f}" for name in flops)
    return "\n\n".join(
        [
            f"Batches of {clips} clips. GFLOP a clip: {operations}. Whatever the batch, the "
            f"optimiser of `cavmae` takes {apart['published']:.2g} s as published and "
            f"{apart['fp32']:.2g} s here.",
            table(head, rows),
            table(["slow : fast", "ratio"], ratios),
            where(result),
        ]
    )


def fusion(result: Result) -> str:
    """Write what a step of Audiovisual MAE and of MBT costs."""
    labels = {
        "masked": "pre-training, as published",
        "everything": "pre-training, encoder of all patches",
        "audio": "pre-training, audio alone",
        "video": "pre-training, video alone",
        "mbt": "fine-tuning, MBT",
        "full": "fine-tuning, attention over all tokens",
    }
    clips, flops, held = result["clips"], result["flops"], result["memory_bytes"]
    rows = [
        [
            title,
            f"{result['seconds'][name] / clips:.3g}",
            f"{flops[name] / clips / GIGA:.0f}",
            f"{held[name]['step'] / GIGA:.2f}",
        ]
        for name, title in labels.items()
    ]
    counted = "GFLOP a clip" if "gpu" in result["machine"] else "GFLOP a clip, attention apart"
    head = ["step", "s a clip", counted, "memory of a step, GB"]
    ratios = [[name.replace("_", " "), times(value)] for name, value in result["ratios"].items()]
    return "\n\n".join([table(head, rows), table(["slow : fast", "ratio"], ratios), where(result)])


def whole_clips(result: Result) -> str:
    """Write how many clips a core reads whole."""
    rows = []
    for row in result["rows"]:
        rate, each = row["clips_per_s_and_core"], row["seconds_of_a_clip"]
        size = row["kilobytes_of_a_clip"]
        label = f"{row['size']}, {row['key_frame_s']} s, {row['kilobits_per_s']} kbit/s"
        cells = [label, *(f"{rate[name]:.3g}" for name in ("extracted", "direct"))]
        cells += [times(row["direct_against_extracted"]), f"{rate['cache']:.3g}"]
        cells += [times(row["cache_against_extracted"])]
        cells += [f"{1000 * each['frame']:.0f} + {1000 * each['sound']:.0f}"]
        rows.append([*cells, " / ".join(f"{size[n]}" for n in ("mp4", "extracted", "cache"))])
    head = ["size, key frames, video and audio", "extracted, clips/s", "mp4, clips/s", "ratio"]
    head += ["cache, clips/s", "ratio", "mp4: frame + audio, ms", "kB: mp4 / extracted / cache"]
    return "\n\n".join([table(head, rows), where(result)])


def one_pass(result: Result) -> str:
    """Write what reading costs by key frames and index."""
    works = ("anew", "windows", "predict", "features", "store")
    indexed = {r["clip_s"]: r["cpu_s"] for r in result["rows"] if r["kind"] == INDEXED}
    rows = []
    for row in result["rows"]:
        twin = indexed[row["clip_s"]]
        cells = [f"{row['kind']}, {row['clip_s']:g} s"]
        for work in works:
            ratio = row["cpu_s"][work] / twin[work]
            beside = "" if row["cpu_s"] is twin else f" ({ratio:.2f}x)"
            cells.append(f"{row['cpu_s'][work]:.2f}{beside}")
        rows.append(cells)
    head = ["clip", "windows, opened anew", "windows in one pass"]
    return "\n\n".join(
        [table([*head, "predict", "features", "feature store"], rows), where(result)]
    )


def many_clips(result: Result) -> str:
    """Write what a batch of clips takes, and what each clip adds."""
    rows = []
    for row in result["rows"]:
        files = " to ".join(map(str, dict.fromkeys(row["open_files"])))
        rows.append([f"`{row['command']}`", row["clips"], *row["mb"], row["kb_per_clip"], files])
    head = ["command", "clips", f"MB after {result['settled']}", "MB at the end", "kB a clip"]
    return "\n\n".join([table([*head, "open files"], rows), where(result)])


SECTIONS: dict[str, Callable[[Result], str]] = {
    "extractor": extractor,
    "loader": loader,
    "stages": stages,
    "growth": growth,
    "ingest": ingest,
    "projection": projection,
    "pretraining": pretraining,
    "fusion": fusion,
    "whole_clips": whole_clips,
    "one_pass": one_pass,
    "many_clips": many_clips,
}


def insert(page: Path, name: str, text: str) -> None:
    """Replace what stands between the markers of a section."""
    before, rest = page.read_text().split(f"<!-- {name} -->\n")
    after = rest.split(f"<!-- /{name} -->\n")[1]
    page.write_text(f"{before}<!-- {name} -->\n{text}\n<!-- /{name} -->\n{after}")


def main() -> None:
    for section, write in SECTIONS.items():
        for name in (section, f"{section}-cuda"):
            file = FOLDER / f"{name}.json"
            if file.exists():
                insert(PAGE, name, write(json.loads(file.read_text())))
                print(f"{PAGE.name}: {name}")


if __name__ == "__main__":
    main()
