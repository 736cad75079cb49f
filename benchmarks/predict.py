"""Pixels per second and peak memory of prediction: uvea's engines beside MONAI and nnU-Net with the same weights.

    python benchmarks/predict.py
    python benchmarks/predict.py --only 2D --engine torch

A network is trained for some steps on synthetic images, so that its answers are about something. Every tool predicts
one large image in memory, from raw pixels to classes, and then a folder of files, from the start of a process to its
end. No tool mirrors.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from accuracy import ROOT, BenchmarkError, log
from numpy.typing import NDArray
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
    in_turns,
    medians,
    ratio_text,
    record,
    run_main,
    setting_of,
    spread,
    succeeded,
    table,
    times_as_fast,
    whole_job,
)

sys.path.insert(0, str(ROOT / "src"))  # uvea need not be installed

import uvea
from uvea.datasets.synthetic import make, write_dataset

WIDTHS = (32, 64, 128, 256, 512)
"""Of the `standard` preset."""

ENGINES = ("torch", "openvino", "onnxruntime", "int8")

OURS = "uvea, torch"
"""What the others are compared with."""

GOALS = {"torch": (4.0, 0.001), "int8": (7.0, 0.002)}
"""Times as fast as MONAI and nnU-Net, and by how much Dice may differ."""

Mask = NDArray[np.generic]


@dataclass(frozen=True, kw_only=True)
class Part:
    """Images of one kind."""

    kind: str
    """Synthetic."""

    axes: str
    size: tuple[int, ...]
    patch: tuple[int, ...]
    steps: int
    """Of the training before."""

    trained_on: tuple[int, ...]
    """Size of the images of that training."""

    files: int
    """In the folder of the whole job."""

    widths: tuple[int, ...] = WIDTHS


PARTS = {
    "2D": Part(
        kind="nuclei", axes="yx", size=(2048, 2048), patch=(256, 256), steps=150, trained_on=(256, 256), files=2
    ),
    # Not blobs: they grow with the volume, and a network of small volumes finds none in a large one.
    "3D": Part(
        kind="nuclei3d", axes="zyx", size=(256,) * 3, patch=(64,) * 3, steps=150, trained_on=(128,) * 3, files=1
    ),
}
QUICK = {
    "2D": replace(PARTS["2D"], size=(320, 320), patch=(64, 64), steps=40, trained_on=(64, 64), widths=(8, 16, 32)),
    "3D": replace(
        PARTS["3D"], size=(48, 64, 64), patch=(32,) * 3, steps=30, trained_on=(64,) * 3, files=2, widths=(8, 16, 32)
    ),
}


def main(words: Sequence[str] | None = None) -> int:
    """Measure, and add the runs to the files of the day.

    Returns:
        0 when every installed tool came to its end; 1 when one failed.
    """
    asked = _arguments(words)
    setting = setting_of(asked)
    runs = []
    for name in asked.only or PARTS:
        part = (QUICK if asked.quick else PARTS)[name]
        with tempfile.TemporaryDirectory(prefix="uvea-predict-") as work:
            for found in measure(part, Path(work), setting, repeat=asked.repeat, engines=asked.engine or ENGINES):
                run = {**begun(asked), "part": name, "size": list(part.size), **found}
                # At once: the files may take an hour more, and may be broken off.
                record("predict", [run], asked, as_markdown)
        runs.append(run)
    return exit_code([entry for run in runs for kind in ("tools", "jobs") for entry in run[kind].values()])


def measure(part: Part, work: Path, setting: Setting, *, repeat: int, engines: Sequence[str]) -> Iterator[Run]:
    """The tables of one part: first of an image in memory alone, then also of a folder of files."""
    log(f"training a network on {part.kind}")
    model = trained(part, work, setting)
    write_images(part, work)
    plan = json.loads((model / "plan.json").read_text())
    tools = in_turns(tools_of(plan, model, work, engines=engines), setting, repeat=repeat)
    masks = {
        name: _classes(work / f"{_word(name)}.npy", plan, ours="uvea" in name) for name in tools if _done(tools, name)
    }
    truth = _classes(work / "truth.npy", plan, ours=True)
    for name, mask in masks.items():
        tools[name]["truth_dice"] = agreement(truth, mask, classes=len(plan["labels"]["names"]))
        if OURS in masks:
            tools[name]["dice"] = agreement(masks[OURS], mask, classes=len(plan["labels"]["names"]))
    found = {"tools": tools, "jobs": {}, "files": part.files, "tile": plan["tile"], "patch": plan["patch"]}
    yield found
    yield {**found, "jobs": jobs_in_turns(part, model, work, setting, repeat=repeat)}


def trained(part: Part, work: Path, setting: Setting) -> Path:
    """A model folder with the network of the preset, made by the command line.

    Raises:
        BenchmarkError: if that fails.
    """
    write_dataset(work / "data", kind=part.kind, count=10, seed=1, size=part.trained_on)
    settings = {
        "width": ",".join(map(str, part.widths)),
        "patch": ",".join(map(str, part.patch)),
        "batch": "2",
        "norm": "batch",
        "block": "plain",
        "convs": "2",
        "deep_supervision": "no",
        "normalization": "zscore",
    }
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    model = work / "model"
    steps = ["--steps", str(part.steps), "--quiet"]
    succeeded(command(["train", str(work / "data"), "--out", str(model), *steps, *words], setting))
    return model


def write_images(part: Part, work: Path) -> None:
    """One large image as an array, and all of the whole job as files."""
    (work / "images").mkdir()
    for number in range(part.files):
        sample = make(part.kind, seed=100 + number, size=part.size)
        # nnU-Net's names: one file per channel.
        name = f"image{number}_0000{'.png' if part.axes == 'yx' else '.nii.gz'}"
        uvea.write(work / "images" / name, sample.image)
        if number == 0:
            np.save(work / "image.npy", sample.image.array)
            np.save(work / "truth.npy", sample.mask.array[0])


def tools_of(plan: Mapping[str, Any], model: Path, work: Path, *, engines: Sequence[str]) -> dict[str, Tool]:
    """Who predicts the image in memory. MONAI takes part twice: with its defaults, and with uvea's tiles."""

    def settings(name: str, **more: Any) -> dict[str, Any]:
        return {"model": str(model), "image": str(work / "image.npy"), "out": str(work / f"{_word(name)}.npy"), **more}

    found = {}
    for engine in engines:
        name = f"uvea, {engine}"
        given = settings(name, engine=engine)
        found[name] = Tool(job="ours:prediction", settings=given, extra=engine != "torch")
    shape = np.load(work / "image.npy", mmap_mode="r").shape[1:]
    tile = [min(size, length) for size, length in zip(plan["tile"], shape, strict=True)]
    shares = [min(0.9, overlap / size) for overlap, size in zip(plan["overlap"], tile, strict=True)]
    windows: dict[str, dict[str, Any]] = {
        "MONAI": {"roi": plan["patch"], "overlap": 0.25, "mode": "constant", "batch": 4},
        "MONAI, tiles of uvea": {"roi": tile, "overlap": shares, "mode": "gaussian", "batch": 1},
    }
    for name, window in windows.items():
        found[name] = Tool(job="peers_torch:sliding_window", settings=settings(name, **window), peer=True)
    found["nnU-Net"] = Tool(job="peers_nnunet:predictor", settings=settings("nnU-Net"), peer=True)
    return found


def jobs_in_turns(part: Part, model: Path, work: Path, setting: Setting, *, repeat: int) -> dict[str, Run]:
    """A folder of files in, a folder of masks out, by processes of their own; what fails has an "error"."""
    images = sorted(map(str, (work / "images").iterdir()))
    turn = 0

    def out(name: str) -> str:
        folder = work / f"masks-{_word(name)}-{turn}"
        folder.mkdir()
        return str(folder)

    def ours() -> Run:
        done = succeeded(command(["predict", str(model), *images, "--out", out("uvea"), "--quiet"], setting))
        return {"seconds": done.seconds, "cpu_seconds": done.cpu_seconds, "peak_bytes": done.peak_memory_bytes}

    def theirs(job: str, name: str) -> Run:
        given = {"model": str(model), "images": images, "out": out(name), "axes": part.axes}
        return whole_job(Tool(job=job, settings=given, peer=True), setting)

    callers: dict[str, Callable[[], Run]] = {
        "uvea predict": ours,
        "MONAI": lambda: theirs("peers_torch:monai_files", "MONAI"),
        "nnU-Net": lambda: theirs("peers_nnunet:files", "nnU-Net"),
    }
    found: dict[str, Run] = {name: {"turns": []} for name in callers}
    for turn in range(repeat):
        for name, call in callers.items():
            if "error" in found[name]:
                continue
            try:
                found[name]["turns"].append(call())
                log(f"{name}, files: turn {turn + 1} of {repeat}, {found[name]['turns'][-1]['seconds']:.2f} s")
            except BenchmarkError as error:
                log(f"{name}, files: {error}")
                found[name] = {"error": str(error)}
    return {name: entry | medians(entry["turns"]) if "error" not in entry else entry for name, entry in found.items()}


def agreement(one: Mask, other: Mask, *, classes: int) -> float:
    """The mean Dice between two label maps over the classes but the background.

    Raises:
        BenchmarkError: if their shapes differ.
    """
    if one.shape != other.shape:
        raise BenchmarkError(f"one mask is {one.shape}, another {other.shape}")
    return fmean(uvea.metrics.dice(one == label, other == label) for label in range(1, classes))


def _classes(path: Path, plan: Mapping[str, Any], *, ours: bool) -> Mask:
    mask: Mask = np.load(path)
    return np.searchsorted(np.array(plan["labels"]["values"]), mask) if ours else mask


def _done(tools: Mapping[str, Run], name: str) -> bool:
    return "error" not in tools[name]


def _word(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-")


def as_markdown(day: str, runs: Sequence[Run]) -> str:
    """The newest run of each part."""
    newest = {run["part"]: run for run in runs}
    lines = [
        f"# Prediction, {day}",
        "",
        "Written by `benchmarks/predict.py`. The network of the `standard` preset with the same weights for all tools.",
        "In memory: from raw pixels to classes; loading and a first small image are not measured. MONAI slides a",
        "window of the training patch with its defaults (a quarter overlaps), and once with uvea's tiles; nnU-Net",
        "overlaps by half, as it comes. No tool mirrors. Files: from the start of a process to its end. Seconds are",
        "medians over the turns, with the smallest and largest; the ratio is the median over the turns of the tool's",
        "seconds by those of uvea. Memory is the peak of the process, and what of it came on top of loading. Dice is",
        f"that of the tool's mask to the truth, and to the mask of {OURS}.",
    ]
    for run in newest.values():
        size = "×".join(map(str, run["size"]))
        tile, patch = ("×".join(map(str, run[name])) for name in ("tile", "patch"))
        lines += ["", f"## {run['part']}, {size}", "", f"Patch {patch}, tile of uvea {tile}.", "", *_memory_table(run)]
        if run["jobs"]:
            lines += ["", f"{run['files']} such file(s):", "", *_file_table(run)]
        lines += about(run)
    goals = [f"{name} {ratio:g} times, Dice within {dice:g}" for name, (ratio, dice) in GOALS.items()]
    return "\n".join([*lines, "", f"Goals, against MONAI and nnU-Net: {'; '.join(goals)}."]) + "\n"


def _memory_table(run: Run) -> list[str]:
    tools = run["tools"]
    rows = []
    for name, entry in tools.items():
        if "error" in entry:
            rows.append([name, entry["error"], *[""] * 7])
            continue
        # For our engines: how many times as fast as torch; for the others, how many times as fast torch is.
        ratio = None if name == OURS or OURS not in tools else times_as_fast(tools[OURS], entry)
        speed = f"{entry['pixels'] / entry['seconds'] / 1e6:.3f}"
        above = gib(max(0, entry["peak_bytes"] - entry["floor_bytes"]))
        cores = f"{entry['cpu_seconds'] / entry['seconds']:.2f}"
        dice = [f"{entry[kind]:.4f}" if kind in entry else "" for kind in ("truth_dice", "dice")]
        rows.append([name, spread(entry), speed, ratio_text(ratio), cores, gib(entry["peak_bytes"]), above, *dice])
    headings = f"tool|seconds|million pixels per second|{OURS} is × as fast|cores used|peak memory|above loading"
    headings += f"|Dice to the truth|Dice to {OURS}"
    lines = table(headings, rows)
    if pairs := _engine_ratios(tools):
        lines += ["", *pairs]
    return lines


def _engine_ratios(tools: Mapping[str, Run]) -> list[str]:
    """How each engine stands against MONAI and nnU-Net as they come, as one line each."""
    lines = []
    for name, entry in tools.items():
        if not name.startswith("uvea") or "error" in entry:
            continue
        against = {peer: times_as_fast(entry, tools[peer]) for peer in ("MONAI", "nnU-Net") if peer in tools}
        said = [f"{ratio:.2f} times as fast as {peer}" for peer, ratio in against.items() if ratio is not None]
        if said:
            lines.append(f"- {name}: {', '.join(said)}")
    return lines


def _file_table(run: Run) -> list[str]:
    rows = []
    for name, entry in run["jobs"].items():
        if "error" in entry:
            rows.append([name, entry["error"], "", ""])
            continue
        ratio = None if name == "uvea predict" else times_as_fast(run["jobs"]["uvea predict"], entry)
        rows.append([name, spread(entry), ratio_text(ratio), gib(entry["peak_bytes"])])
    return table("tool|seconds|uvea is × as fast|peak memory of the first process", rows)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure prediction beside other tools with the same weights.")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="PART", help=f"some of: {', '.join(PARTS)}")
    parser.add_argument("--engine", nargs="+", choices=ENGINES, metavar="ENGINE", help=f"of uvea: {', '.join(ENGINES)}")
    common_arguments(parser, repeat=5)
    return parser.parse_args(words)


if __name__ == "__main__":
    run_main(main)
