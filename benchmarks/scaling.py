"""How time and memory of uvea's commands grow with the size of images, their number, and the number of classes.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --only size

Each figure is that of a whole command in a process of its own, start and files included.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from accuracy import BenchmarkError, log
from turns import (
    Run,
    Setting,
    Tool,
    about,
    begun,
    command,
    common_arguments,
    exit_code,
    gib,
    medians,
    record,
    run_main,
    spread,
    succeeded,
    table,
    whole_job,
)

FULL = {
    "size": (256, 512, 1024, 2048, 4096, 8192, 16384),
    "images": (10, 100, 1000, 10000),
    "classes": (2, 4, 8, 16, 32, 64),
}
QUICK = {"size": (256, 512), "images": (10, 30), "classes": (2, 5)}

TITLES = {
    "size": "`uvea predict` on one gray image of n×n, uint8, two classes",
    "images": "n gray images of 64×64",
    "classes": "n classes: training on 8 images of 256×256, prediction of them",
}

GOAL_BYTES = 1.5 * 2**30
"""Of memory beyond input and output for the largest image."""

Step = tuple[str, Sequence[str]]
"""Name of a measurement, and the words of its command; OUT stands for a fresh place."""


def main(words: Sequence[str] | None = None) -> int:
    """Measure, and add the runs to the files of the day.

    Returns:
        0 when every command came to its end; 1 when one failed.
    """
    asked = _arguments(words)
    setting = Setting(peers=asked.peers_python, threads=asked.threads)
    runs = []
    for part in asked.only or FULL:
        found = {}
        for count in asked.counts or (QUICK if asked.quick else FULL)[part]:
            with tempfile.TemporaryDirectory(prefix="uvea-scaling-") as work:
                found[str(count)] = measure(part, count, Path(work), setting, repeat=asked.repeat)
        runs.append({**begun(asked), "part": part, "counts": found})
        record("scaling", runs[-1:], asked, as_markdown)
    return exit_code([entry for run in runs for steps in run["counts"].values() for entry in steps.values()])


def measure(part: str, count: int, work: Path, setting: Setting, *, repeat: int) -> dict[str, Run]:
    """All commands of one part for one n, in turns; what fails has an "error"."""
    try:
        steps = PREPARE[part](count, work, setting)
    except BenchmarkError as error:
        return {"preparing": {"error": str(error)}}
    found: dict[str, Run] = {name: {"turns": []} for name, _ in steps}
    for turn in range(repeat):
        for name, words in steps:
            if "error" in found[name]:
                continue
            try:
                out = str(work / f"{name}-{turn}")
                done = succeeded(command([out if word == "OUT" else word for word in words], setting))
            except BenchmarkError as error:
                found[name] = {"error": str(error)}
                log(f"{part} {count}, {name}: {error}")
                continue
            entry = {"seconds": done.seconds, "cpu_seconds": done.cpu_seconds, "peak_bytes": done.peak_memory_bytes}
            found[name]["turns"].append(entry)
            log(f"{part} {count}, {name}: {done.seconds:.2f} s, {gib(done.peak_memory_bytes)}")
    return {name: entry | medians(entry["turns"]) if "error" not in entry else entry for name, entry in found.items()}


def _one_picture(count: int, work: Path, setting: Setting) -> list[Step]:
    _make("many", setting, folder=str(work / "data"), count=20)
    model = _trained(work / "data", work, setting)
    picture = str(work / "picture.tif")
    _make("picture", setting, path=picture, size=count)
    return [("predict", ["predict", str(model), picture, "--out", "OUT", "--quiet"])]


def _many_pictures(count: int, work: Path, setting: Setting) -> list[Step]:
    _make("many", setting, folder=str(work / "data"), count=count)
    data = str(work / "data")
    model = _trained(work / "data", work, setting)
    return [
        ("check", ["check", data]),
        ("train, 5 steps", ["train", data, "--out", "OUT", "--steps", "5", "--quiet"]),
        ("predict", ["predict", str(model), f"{data}/images", "--out", "OUT", "--quiet"]),
    ]


def _many_classes(count: int, work: Path, setting: Setting) -> list[Step]:
    _make("classes", setting, folder=str(work / "data"), count=count, images=8, size=256)
    data = str(work / "data")
    model = _trained(work / "data", work, setting, "--no-instances")
    return [
        ("train, 20 steps", ["train", data, "--out", "OUT", "--steps", "20", "--no-instances", "--quiet"]),
        ("predict", ["predict", str(model), f"{data}/images", "--out", "OUT", "--quiet"]),
    ]


PREPARE: dict[str, Callable[[int, Path, Setting], list[Step]]] = {
    "size": _one_picture,
    "images": _many_pictures,
    "classes": _many_classes,
}


def _make(job: str, setting: Setting, **settings: object) -> None:
    whole_job(Tool(job=f"made:{job}", settings=settings), setting)


def _trained(data: Path, work: Path, setting: Setting, *words: str) -> Path:
    model = work / "model"
    succeeded(command(["train", str(data), "--out", str(model), "--steps", "2", "--quiet", *words], setting))
    return model


def as_markdown(day: str, runs: Sequence[Run]) -> str:
    """The newest run of each part."""
    newest = {run["part"]: run for run in runs}
    lines = [
        f"# Scaling, {day}",
        "",
        "Written by `benchmarks/scaling.py`. Whole commands in processes of their own, start and files included.",
        "Seconds are medians over the turns, with the smallest and largest; memory is the largest peak, resident.",
    ]
    for part, run in newest.items():
        lines += ["", f"## {TITLES[part]}", "", *_rows(part, run), *about(run)]
    return "\n".join(lines) + "\n"


def _rows(part: str, run: Run) -> list[str]:
    rows = []
    for count, steps in run["counts"].items():
        for name, entry in steps.items():
            if "error" in entry:
                rows.append([count, name, entry["error"], "", ""])
                continue
            rest = gib(beyond_files(int(count), entry)) if part == "size" else ""
            rows.append([count, name, spread(entry), gib(entry["peak_bytes"]), rest])
    lines = table("n|command|seconds|peak memory|of it beyond input and output", rows)
    if part == "size":
        said = f"Input and output are n² bytes each. Goal at 16384: {gib(GOAL_BYTES)} beyond them."
        return [*lines, "", said]
    return lines


def beyond_files(size: int, entry: Run) -> float:
    """Peak memory without an image of n×n bytes and its mask of as many."""
    return float(entry["peak_bytes"]) - 2 * size**2


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure how time and memory of uvea's commands grow.")
    parser.add_argument("--only", nargs="+", choices=list(FULL), metavar="PART", help=f"some of: {', '.join(FULL)}")
    parser.add_argument("--counts", nargs="+", type=int, metavar="N", help="in place of the usual ones, for one part")
    common_arguments(parser, repeat=3)
    asked = parser.parse_args(words)
    if asked.counts and len(asked.only or []) != 1:
        parser.error("--counts is for one part: give it with --only")
    return asked


if __name__ == "__main__":
    run_main(main)
