"""Images per second of training: uvea beside Keras, plain PyTorch and MONAI, in turns.

python benchmarks/train_step.py
python benchmarks/train_step.py --only mini
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import log
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
    setting_of,
    spread,
    table,
    times_as_fast,
)

from uvea.datasets.synthetic import make, write_dataset

PARTS = {
    "mini": "`mini` preset, 128×128×1, batch 32, binary cross-entropy, Adam",
    "standard 2D": "`standard` preset in 2D, Dice + cross-entropy, Adam",
    "standard 3D": "`standard` preset in 3D, Dice + cross-entropy, Adam",
    "overhead": "a whole `uvea.train` beside the network alone",
}
BATCH = 32
GOALS = {
    "mini": ("Keras fit", 4.0),
    "standard 2D": ("plain PyTorch", 2.5),
    "standard 3D": ("plain PyTorch", 2.0),
}
"""Of each part, the tool that the goal is about and the ratio."""

OVERHEAD_GOAL = 0.10


def main(words: Sequence[str] | None = None) -> int:
    """Measure, and add the runs to the files of the day.

    Returns:
        0 when every installed tool came to its end; 1 when one failed.
    """
    asked = _arguments(words)
    setting = setting_of(asked)
    runs = []
    for part in asked.only or PARTS:
        log(PARTS[part])
        with tempfile.TemporaryDirectory(prefix="uvea-train-step-") as work:
            runs.append({**begun(asked), "part": part, "tools": measure(part, Path(work), asked, setting)})
        record("train_step", runs[-1:], asked, as_markdown)
    return exit_code([entry for run in runs for entry in run["tools"].values()])


def measure(part: str, work: Path, asked: argparse.Namespace, setting: Setting) -> dict[str, Run]:
    """All tools of one part in turns."""
    tools = tools_of(part, work, quick=asked.quick)
    return in_turns(tools, setting, repeat=asked.repeat)


def tools_of(part: str, work: Path, *, quick: bool) -> dict[str, Tool]:
    """Who takes part, and on which data; that is written to `work`."""
    if part == "mini":
        data = str(write_mini_data(work / "mini.npz", 2 * BATCH if quick else 10 * BATCH))
        return {
            "uvea": Tool(job="ours:two_level_steps", settings={"data": data, "batch": BATCH}),
            "Keras fit": Tool(job="peers_keras:fit", settings={"data": data}, peer=True),
        }
    if part == "overhead":
        write_dataset(work / "data", kind="nuclei", count=8 if quick else 24, seed=1)
        steps = 30 if quick else 100
        given = {"data": str(work / "data"), "out": str(work), "steps": steps, "overrides": {}}
        return {"uvea": Tool(job="ours:whole_training", settings=given)}
    dims = 2 if part == "standard 2D" else 3
    shape = [2, 1, 64, 64] if dims == 2 else [1, 1, 32, 32, 32]
    if not quick:
        shape = [4, 1, 256, 256] if dims == 2 else [2, 1, 64, 64, 64]
    given = {"dims": dims, "shape": shape, "steps": 2}
    return {
        "uvea": Tool(job="ours:standard_steps", settings=given),
        "plain PyTorch": Tool(job="peers_torch:plain_steps", settings=given, peer=True),
        "MONAI BasicUNet": Tool(job="peers_torch:monai_steps", settings={**given, "kind": "BasicUNet"}, peer=True),
        "MONAI DynUNet": Tool(job="peers_torch:monai_steps", settings={**given, "kind": "DynUNet"}, peer=True),
    }


def write_mini_data(path: Path, count: int) -> Path:
    """Synthetic nuclei of 128×128 as (n, y, x, 1) float32 in [0, 1], and their masks, the same every day."""
    samples = [make("nuclei", seed=seed, size=(128, 128)) for seed in range(min(count, BATCH))]
    images = np.stack([sample.image.array[0] for sample in samples])[..., None].astype(np.float32) / 255
    masks = (np.stack([sample.mask.array[0] for sample in samples])[..., None] > 0).astype(np.float32)
    times = -(-count // len(samples))
    np.savez(path, images=np.tile(images, (times, 1, 1, 1))[:count], masks=np.tile(masks, (times, 1, 1, 1))[:count])
    return path


def as_markdown(day: str, runs: Sequence[Run]) -> str:
    """The newest run of each part."""
    newest = {run["part"]: run for run in runs}
    lines = [
        f"# Training steps, {day}",
        "",
        "Written by `benchmarks/train_step.py`. Every tool has a process of its own, and they take turns; the first",
        "steps of each are not measured. Figures are medians over the turns, with the smallest and largest. The ratio",
        "is the median over the turns of the tool's seconds by ours for as many images. Memory is the peak of the",
        "process. Peers run as their documentation shows, in float32.",
    ]
    for part in PARTS:
        if part in newest:
            run = newest[part]
            lines += [
                "",
                f"## {PARTS[part]}",
                "",
                *(_overhead(run) if part == "overhead" else _steps(run)),
                *about(run),
            ]
    return "\n".join(lines) + "\n"


def _steps(run: Run) -> list[str]:
    tools: Mapping[str, Run] = run["tools"]
    rows = []
    for name, entry in tools.items():
        if "error" in entry:
            rows.append([name, entry["error"], "", "", "", ""])
            continue
        ratio = times_as_fast(tools["uvea"], entry) if name != "uvea" else None
        speed = {**entry, "turns": [{"speed": turn["images"] / turn["seconds"]} for turn in entry["turns"]]}
        cores = f"{entry['cpu_seconds'] / entry['seconds']:.2f}"
        parameters = f"{entry['parameters']:,}"
        rows.append([name, spread(speed, "speed"), ratio_text(ratio), cores, gib(entry["peak_bytes"]), parameters])
    lines = table("tool|images per second|uvea is × as fast|cores used|peak memory|parameters", rows)
    peer, goal = GOALS[run["part"]]
    lines += ["", f"Goal: {goal:g} times {peer}. uvea runs in {tools['uvea'].get('precision', 'nothing: it failed')}."]
    return lines


def _overhead(run: Run) -> list[str]:
    entry: dict[str, Any] = run["tools"]["uvea"]
    if "error" in entry:
        return table("step of|seconds", [["uvea.train", entry["error"]]])
    share = overhead(entry)
    size = f"{entry['turns'][0]['batch']} of {'×'.join(map(str, entry['turns'][0]['patch']))}"
    rows = [["uvea.train", spread(entry)], ["the network alone", spread(entry, "bare_seconds")]]
    said = f"A batch is {size}, on synthetic nuclei. Whatever is not the network takes {share:.1%} of a step"
    return [*table("step of|seconds", rows), "", f"{said}; goal: at most {OVERHEAD_GOAL:.0%}."]


def overhead(entry: Run) -> float:
    """The share of a step that is not the network: the median over the turns."""
    return float(np.median([1 - turn["bare_seconds"] / turn["seconds"] for turn in entry["turns"]]))


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure images per second of training beside other tools.")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="PART", help=f"some of: {', '.join(PARTS)}")
    common_arguments(parser, repeat=5)
    return parser.parse_args(words)


if __name__ == "__main__":
    run_main(main)
