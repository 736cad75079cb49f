"""Training steps and prediction on a GPU: uvea beside the bare step, plain PyTorch, MONAI and nnU-Net.

    python benchmarks/gpu.py --peers-python PATH
    python benchmarks/gpu.py --only train

Without a GPU that torch can use it says so and ends with exit code 2. Peers that are not installed in the environment
that is given have rows that say so.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from accuracy import log
from peer_data import write_cases
from predict import PARTS as PICTURES
from predict import QUICK as SMALL_PICTURES
from predict import WIDTHS, Part, tools_of, trained, write_images
from turns import (
    Run,
    Setting,
    Tool,
    about,
    begun,
    common_arguments,
    exit_code,
    gib,
    in_turns,
    ratio_text,
    record,
    run_main,
    spread,
    table,
)

from uvea.datasets.synthetic import make, write_dataset

KINDS = ("train", "predict")
GOAL = 0.10
"""By how much a step of uvea's training may take longer than the bare step."""

SHAPES = {"2D": [32, 1, 256, 256], "3D": [4, 1, 96, 96, 96]}
"""Of a training batch."""


def main(words: Sequence[str] | None = None) -> int:
    """Measure, and add the runs to the files of the day.

    Returns:
        0 when every installed tool came to its end; 1 when one failed; 2 where there is no GPU.
    """
    asked = _arguments(words)
    name = gpu_name()
    if name is None:
        print("no GPU that torch can use: this benchmark needs one", file=sys.stderr)
        return 2
    # On a rented machine there may be one environment for all.
    peers = asked.peers_python if asked.peers_python.exists() else Path(sys.executable)
    setting = Setting(peers=peers, threads=asked.threads, gpu=True)
    runs = []
    for kind in asked.only or KINDS:
        for dims in ("2D", "3D"):
            log(f"{kind}, {dims}, {name}")
            with tempfile.TemporaryDirectory(prefix="uvea-gpu-") as work:
                found = measure(kind, dims, Path(work), asked, setting, device="cuda")
            runs.append({**begun(asked), "kind": kind, "dims": dims, "gpu": name, **found})
            record("gpu", runs[-1:], asked, as_markdown)
    return exit_code([entry for run in runs for entry in run["tools"].values()])


def gpu_name() -> str | None:
    """The first GPU that torch can use, None without one; asked in a process of its own."""
    code = "import torch; print(torch.cuda.get_device_name(0) if torch.cuda.is_available() else '')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.stdout.strip() or None


def measure(kind: str, dims: str, work: Path, asked: argparse.Namespace, setting: Setting, *, device: str) -> Run:
    """One table: what is trained or predicted, and all tools in turns."""
    if kind == "train":
        shape = training_shape(dims, quick=asked.quick)
        tools = training_tools(shape, work, device=device, quick=asked.quick)
        return {"shape": shape, "tools": in_turns(tools, setting, repeat=asked.repeat)}
    part: Part = (SMALL_PICTURES if asked.quick else PICTURES)[dims]
    model = trained(part, work, setting)
    write_images(part, work)
    plan = json.loads((model / "plan.json").read_text())
    tools = on_device(tools_of(plan, model, work, engines=["torch"]), device)
    return {"shape": list(part.size), "tools": in_turns(tools, setting, repeat=asked.repeat)}


def training_shape(dims: str, *, quick: bool) -> list[int]:
    """Of a batch, (b, c, ...)."""
    small = {"2D": [2, 1, 32, 32], "3D": [1, 1, 32, 32, 32]}
    return (small if quick else SHAPES)[dims]


def training_tools(shape: Sequence[int], work: Path, *, device: str, quick: bool) -> dict[str, Tool]:
    """Who trains: on random data that is there already, and from images on disk.

    The whole training of uvea and that of nnU-Net read data written to `work`, have batches of their own choice in
    nnU-Net's case, and are not to be compared by steps but by pixels.
    """
    dims = len(shape) - 2
    widths = (4, 8, 16, 32, 64) if quick else WIDTHS
    steps = 2 if quick else 20
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
    }
    whole = {"data": str(work / "data"), "out": str(work), "steps": 30 * steps, "overrides": plan, "device": device}
    folders = {"train": str(work / "cases.npz"), "work": str(work / "nnunet"), "classes": 2}
    monai = "peers_torch:monai_steps"
    return {
        "uvea, step": Tool(job="ours:standard_steps", settings=given),
        "uvea, whole training": Tool(job="ours:whole_training", settings=whole),
        "uvea, compiled": Tool(job="ours:whole_training", settings={**whole, "overrides": {**plan, "compiled": "yes"}}),
        "plain PyTorch, float32": Tool(job="peers_torch:plain_steps", settings=given, peer=True),
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
    return {
        name: Tool(job=tool.job, settings={**tool.settings, "device": device}, peer=tool.peer)
        for name, tool in tools.items()
    }


def as_markdown(day: str, runs: Sequence[Run]) -> str:
    """The newest run of each table."""
    newest = {(run["kind"], run["dims"]): run for run in runs}
    lines = [
        f"# GPU, {day}",
        "",
        "Written by `benchmarks/gpu.py`. Medians over the turns, with the smallest and largest. Memory: the most that",
        "tensors took of the GPU, and the most that torch held for them. Steps are recorded as a CUDA graph, or eager:",
        "one kernel after the other. The bare step: the network of the same plan alone, on random data that is there",
        "already, in the precision of the training and recorded where that is.",
    ]
    for (kind, dims), run in newest.items():
        what = "Training" if kind == "train" else "Prediction"
        lines += ["", f"## {what}, {dims}, {'×'.join(map(str, run['shape']))}, {run['gpu']}", ""]
        lines += [*(_training(run) if kind == "train" else _prediction(run)), *about(run)]
    return "\n".join(lines) + "\n"


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
        ratio = None if entry is ours or "error" in ours else entry["seconds"] / ours["seconds"]
        speed = f"{entry['pixels'] / entry['seconds'] / 1e6:.2f}"
        runs_in = ", ".join(in_words(entry, "runs_in"))
        rows.append([name, spread(entry), speed, ratio_text(ratio), runs_in, *_memory(entry)])
    return table("tool|seconds|million pixels per second|uvea is × as fast|precision|GPU memory taken|held", rows)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure training and prediction on a GPU beside other tools.")
    parser.add_argument("--only", nargs="+", choices=KINDS, metavar="KIND", help=f"some of: {', '.join(KINDS)}")
    common_arguments(parser, repeat=5)
    return parser.parse_args(words)


if __name__ == "__main__":
    run_main(main)
