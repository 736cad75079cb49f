"""Training steps and prediction on a GPU: uvea beside the bare step, plain PyTorch, MONAI and nnU-Net.

    python benchmarks/gpu.py --peers-python PATH
    python benchmarks/gpu.py --only train --dims 2D --seconds 150
    python benchmarks/gpu.py --quick --device cpu

Without a GPU that torch can use it says why and ends with exit code 2. Peers that are not installed in the environment
that is given have rows that say so. What is measured is written after each turn, so that it may be cut off.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

from accuracy import ROOT, BenchmarkError, log
from peer_data import write_cases
from predict import PARTS as PICTURES
from predict import QUICK as SMALL_PICTURES
from predict import WIDTHS, Part, tools_of, trained, write_images
from turns import (
    OUT_OF_TIME,
    Run,
    Setting,
    Tool,
    about,
    begun,
    common_arguments,
    exit_code,
    gib,
    in_turns,
    placeless,
    ratio_text,
    recorded,
    results_file,
    run_main,
    spread,
    table,
    write_page,
    write_runs,
)

sys.path.insert(0, str(ROOT / "src"))  # uvea need not be installed

from uvea.datasets.synthetic import make, write_dataset

TOOLS = {
    "train": (
        "uvea, step",
        "uvea, whole training",
        "uvea, compiled",
        "plain PyTorch, float32 (TF32 convolutions)",
        "plain PyTorch, bfloat16",
        "plain PyTorch, bfloat16 channels-last",
        "MONAI BasicUNet, bfloat16",
        "MONAI DynUNet, bfloat16",
        "nnU-Net, whole training",
    ),
    "predict": ("uvea, torch", "MONAI", "MONAI, tiles of uvea", "nnU-Net"),
}
"""Kinds of tables, and who is in them."""

ON_DEMAND = "uvea, compiled"
"""Only with --tool: it compiles for a minute in each turn."""

GOAL = 0.10
"""By how much a step of uvea's training may take longer than the bare step."""

SHAPES = {"2D": [32, 1, 256, 256], "3D": [4, 1, 96, 96, 96]}
SMALL_SHAPES = {"2D": [2, 1, 32, 32], "3D": [1, 1, 32, 32, 32]}
"""Of a training batch, (b, c, ...)."""

STEPS = {"2D": 50, "3D": 20}
"""In a turn, of all but uvea's whole training."""

WHOLE_STEPS = 480
"""Of uvea's whole training: enough that fewer steps have a validation than are left out for being slow."""


def main(words: Sequence[str] | None = None) -> int:
    """Measure, and add the runs to the files of the day.

    Returns:
        0 when every installed tool came to its end; 1 when one failed.

    Raises:
        BenchmarkError: where there is no GPU.
    """
    asked = _arguments(words)
    ends = None if asked.seconds is None else time.monotonic() + asked.seconds
    name = gpu_name() if asked.device == "cuda" else "a processor"
    # On a rented machine there may be one environment for all.
    peers = asked.peers_python if asked.peers_python.exists() else Path(sys.executable)
    path = results_file("gpu", asked)
    notes = None if path is None else path.with_suffix(".log")
    setting = Setting(peers=peers, threads=asked.threads, gpu=asked.device == "cuda", limit=asked.limit, log=notes)
    runs = recorded(path) if path else []
    earlier = len(runs)
    tables = [(kind, dims) for kind in _kinds(asked) for dims in asked.dims or SHAPES]
    for left, (kind, dims) in zip(range(len(tables), 0, -1), tables, strict=True):
        log(f"{kind}, {dims}, {name}")
        now = time.monotonic()
        until = None if ends is None else now + (ends - now) / left
        shape = shape_of(kind, dims, quick=asked.quick)
        runs.append({**begun(asked), "kind": kind, "dims": dims, "gpu": name, "shape": shape, "tools": {}})
        try:
            with tempfile.TemporaryDirectory(prefix="uvea-gpu-", ignore_cleanup_errors=True) as work:
                tools = tools_in(kind, dims, Path(work), asked, setting, until=until)
                told = partial(_keep, path, runs)
                runs[-1]["tools"] = in_turns(tools, setting, repeat=asked.repeat, until=until, told=told)
        except BenchmarkError as error:
            log(str(error))
            runs[-1]["error"] = str(error)
        _keep(path, runs, runs[-1]["tools"])
        if path is None:
            print(as_markdown(runs[-1]["started"][:10], runs[-1:]))
        else:
            write_page(path, runs, as_markdown)
    return exit_code([entry for run in runs[earlier:] for entry in (run, *run["tools"].values())])


def gpu_name() -> str:
    """The first GPU that torch can use; asked in a process of its own.

    Raises:
        BenchmarkError: with torch's own words, where there is none.
    """
    code = "import torch; torch.cuda.init(); print(torch.cuda.get_device_name(0))"
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        raise BenchmarkError("no GPU that torch can use: torch did not find one in 120 s") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise BenchmarkError(f"no GPU that torch can use: {placeless(said[-1])}")
    return done.stdout.strip()


def _kinds(asked: argparse.Namespace) -> list[str]:
    """Tables that are asked for, and have one of the tools that are asked for."""
    return [kind for kind in asked.only or TOOLS if not asked.tool or set(asked.tool) & set(TOOLS[kind])]


def _keep(path: Path | None, runs: Sequence[Run], tools: dict[str, Run]) -> None:
    """Write what there is so far of the last run."""
    runs[-1]["tools"] = tools
    if path is not None:
        write_runs(path, runs)


def tools_in(
    kind: str, dims: str, work: Path, asked: argparse.Namespace, setting: Setting, *, until: float | None = None
) -> dict[str, Tool]:
    """The tools of a table that are asked for, and in `work` what they need.

    Raises:
        BenchmarkError: if the time is up, or the network that predicts cannot be trained.
    """
    if until is not None and time.monotonic() >= until:
        raise BenchmarkError(OUT_OF_TIME)
    if kind == "train":
        shape = shape_of(kind, dims, quick=asked.quick)
        tools = training_tools(shape, work, device=asked.device, quick=asked.quick)
    else:
        part: Part = (SMALL_PICTURES if asked.quick else PICTURES)[dims]
        model = trained(part, work, setting)
        write_images(part, work)
        plan = json.loads((model / "plan.json").read_text())
        tools = on_device(tools_of(plan, model, work, engines=["torch"]), asked.device)
    return {name: tool for name, tool in tools.items() if name in (asked.tool or {*tools} - {ON_DEMAND})}


def shape_of(kind: str, dims: str, *, quick: bool) -> list[int]:
    """Of a training batch, (b, c, ...), or of the image that is predicted."""
    if kind == "train":
        return (SMALL_SHAPES if quick else SHAPES)[dims]
    return list((SMALL_PICTURES if quick else PICTURES)[dims].size)


def training_tools(shape: Sequence[int], work: Path, *, device: str, quick: bool) -> dict[str, Tool]:
    """Who trains: on random data that is there already, and from images on disk.

    The whole training of uvea and that of nnU-Net read data written to `work`, have batches of their own choice in
    nnU-Net's case, and are not to be compared by steps but by pixels.
    """
    dims = len(shape) - 2
    widths = (4, 8, 16, 32, 64) if quick else WIDTHS
    steps = 2 if quick else STEPS[f"{dims}D"]
    given: dict[str, Any] = {"dims": dims, "shape": list(shape), "steps": steps, "device": device, "widths": widths}
    low = {**given, "autocast": True}
    last = {**low, "channels_last": True}
    kind = "nuclei" if dims == 2 else "blobs"
    size = tuple(max(length, 32) for length in shape[2:])
    write_dataset(work / "data", kind=kind, count=6, seed=1, size=size)
    samples = [make(kind, seed=seed, size=size) for seed in range(6)]
    cases = [(f"case{i}", s.image.array, (s.mask.array[0] > 0).astype("uint8")) for i, s in enumerate(samples)]
    write_cases(work / "cases.npz", cases)
    plan = {
        "width": ",".join(map(str, widths)),
        "patch": ",".join(map(str, shape[2:])),
        "batch": str(shape[0]),
        "norm": "batch",
        "block": "plain",
        "convs": "2",
        "deep_supervision": "no",
        # As in the bare steps, though slices of blobs are thick.
        "strides": ";".join([",".join(["2"] * dims)] * (len(widths) - 1)),
        "kernels": ";".join([",".join(["3"] * dims)] * len(widths)),
    }
    count = 60 if quick else WHOLE_STEPS
    whole = {"data": str(work / "data"), "out": str(work), "steps": count, "overrides": plan, "device": device}
    compiled = {**whole, "out": str(work / "compiled"), "overrides": {**plan, "compiled": "yes"}}
    folders = {"train": str(work / "cases.npz"), "work": str(work / "nnunet"), "classes": 2}
    monai = "peers_torch:monai_steps"
    return {
        "uvea, step": Tool(job="ours:standard_steps", settings=given),
        "uvea, whole training": Tool(job="ours:whole_training", settings=whole),
        "uvea, compiled": Tool(job="ours:whole_training", settings=compiled),
        "plain PyTorch, float32 (TF32 convolutions)": Tool(job="peers_torch:plain_steps", settings=given, peer=True),
        "plain PyTorch, bfloat16": Tool(job="peers_torch:plain_steps", settings=low, peer=True),
        "plain PyTorch, bfloat16 channels-last": Tool(job="peers_torch:plain_steps", settings=last, peer=True),
        "MONAI BasicUNet, bfloat16": Tool(job=monai, settings={**low, "kind": "BasicUNet"}, peer=True),
        "MONAI DynUNet, bfloat16": Tool(job=monai, settings={**low, "kind": "DynUNet"}, peer=True),
        "nnU-Net, whole training": Tool(
            job="peers_nnunet:iterations", settings={**folders, "steps": steps, "device": device}, peer=True
        ),
    }


def on_device(tools: Mapping[str, Tool], device: str) -> dict[str, Tool]:
    """The same tools elsewhere."""
    return {name: replace(tool, settings={**tool.settings, "device": device}) for name, tool in tools.items()}


def as_markdown(day: str, runs: Sequence[Run]) -> str:
    """The newest run of each table; one with other tools is another."""
    lines = [
        f"# GPU, {day}",
        "",
        "Written by `benchmarks/gpu.py`. Medians over the turns, with the smallest and largest. Memory: the most that",
        "tensors took of the GPU, and the most that torch held for them, after what the first steps or the first",
        "prediction left was given back. Steps are recorded as a CUDA graph, or eager: one kernel after the other. The",
        "bare step: the network of the same plan alone, on random data that is there already, in the precision of the",
        "training and recorded where that is.",
    ]
    for run in [run for i, run in enumerate(runs) if not any(_replaces(later, run) for later in runs[i + 1 :])]:
        training = run["kind"] == "train"
        size = "×".join(map(str, run["shape"]))
        lines += ["", f"## {'Training' if training else 'Prediction'}, {run['dims']}, {size}, {run['gpu']}", ""]
        lines += [f"Failed: {run['error']}", ""] if "error" in run else []
        lines += [*(_training(run) if training else _prediction(run)), *_cut_off(run), *about(run)]
    return "\n".join(lines) + "\n"


def _replaces(later: Run, run: Run) -> bool:
    same = all(later[name] == run[name] for name in ("kind", "dims"))
    return same and run["tools"].keys() <= later["tools"].keys()


def _training(run: Run) -> list[str]:
    rows, said = [], []
    for name, entry in run["tools"].items():
        if "error" in entry:
            rows.append([name, entry["error"], *[""] * 6])
            continue
        seconds = seconds_per_step(entry)
        batch = entry.get("batch", run["shape"][0])
        pixels = batch * prod(entry.get("patch") or entry["turns"][0].get("patch") or run["shape"][2:])
        flops = f"{entry['step_flops'] / seconds / 1e12:.1f}" if "step_flops" in entry else ""
        speed = [f"{1 / seconds:.2f}", f"{pixels / seconds / 1e6:.1f}", flops]
        manners = in_words(entry, "manner")
        how = [", ".join(in_words(entry, "runs_in")), ", ".join(text.split(":")[0] for text in manners)]
        rows.append([name, *speed, *how, *_memory(entry)])
        reasons = (*in_words(entry, "precision")[:1], *manners)
        said += [f"- {name}: {text}." for text in reasons if ":" in text]
        if "bare_seconds" in entry:
            over = entry["seconds"] / entry["bare_seconds"] - 1
            bare = f"{spread(entry, 'bare_seconds')} s ({', '.join(in_words(entry, 'bare_manner'))})"
            said.append(f"- {name}: {over:+.1%} on the bare step of {bare}; goal: {GOAL:.0%}.")
    headings = "tool|steps per second|million pixels per second|TFLOP/s|precision|steps|GPU memory taken|held"
    return [*table(headings, rows), "", *said]


def _cut_off(run: Run) -> list[str]:
    """Which tools had fewer turns than the others, because the time was up."""
    counts = {name: len(entry["turns"]) for name, entry in run["tools"].items() if "error" not in entry}
    said = [f"- {name}: {count} of {run['repeat']} turns." for name, count in counts.items() if count < run["repeat"]]
    return ["", *said] if said else []


def in_words(entry: Run, name: str) -> list[str]:
    """What a job said of itself when it was ready, or in its turns: each of it once."""
    said = [fact[name] for fact in (entry, *entry["turns"]) if name in fact]
    return list(dict.fromkeys(map(str, said)))


def _memory(entry: Run) -> list[str]:
    """Taken and held; empty where a job does not say it."""
    return [gib(entry[name]) if name in entry else "" for name in ("device_peak_bytes", "device_reserved_peak_bytes")]


def seconds_per_step(entry: Run) -> float:
    """From the seconds of a turn, or of a step where that is what was measured."""
    if "bare_seconds" in entry:
        return float(entry["seconds"])
    return float(entry["seconds"] / entry["steps"])


def _prediction(run: Run) -> list[str]:
    rows = []
    ours = run["tools"].get("uvea, torch", {})
    for name, entry in run["tools"].items():
        if "error" in entry:
            rows.append([name, entry["error"], *[""] * 5])
            continue
        ratio = None if entry is ours or "seconds" not in ours else entry["seconds"] / ours["seconds"]
        speed = f"{entry['pixels'] / entry['seconds'] / 1e6:.2f}"
        runs_in = ", ".join(in_words(entry, "runs_in"))
        rows.append([name, spread(entry), speed, ratio_text(ratio), runs_in, *_memory(entry)])
    return table("tool|seconds|million pixels per second|uvea is × as fast|precision|GPU memory taken|held", rows)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure training and prediction on a GPU beside other tools.")
    parser.add_argument("--only", nargs="+", choices=[*TOOLS], metavar="KIND", help=f"some of: {', '.join(TOOLS)}")
    parser.add_argument("--dims", nargs="+", choices=[*SHAPES], metavar="DIMS", help=f"some of: {', '.join(SHAPES)}")
    names = list(dict.fromkeys(name for tools in TOOLS.values() for name in tools))
    text = f"some of: {'; '.join(names)} (only so: {ON_DEMAND})"
    parser.add_argument("--tool", nargs="+", choices=names, metavar="NAME", help=text)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu goes with --quick")
    parser.add_argument(
        "--seconds", type=float, metavar="N", help="from the start; then no tool starts and no further turn begins"
    )
    parser.add_argument("--limit", type=float, default=180, metavar="N", help="seconds that a tool may take to answer")
    common_arguments(parser, repeat=3)
    asked = parser.parse_args(words)
    if not _kinds(asked):
        parser.error(f"--tool {' '.join(asked.tool)} is not in the tables of --only {' '.join(asked.only)}")
    if asked.device == "cpu" and not asked.quick:
        parser.error("--device cpu goes with --quick")
    return asked


if __name__ == "__main__":
    run_main(main)
