"""What the choices of the plan are worth: trainings that differ in one setting, for equal times, over several seeds.

    python benchmarks/ablation.py --only drive nuclei
    python benchmarks/ablation.py --only msd_hippocampus --minutes 2 --choice optimizer loss

Every training is a `uvea train` in a process of its own; its last weights are scored on held-back cases by
`uvea.metrics`. The plan of the first one, with no setting, says what the others are to change. With the first seed they
are trained by the clock; with the others for as many steps as that gave, so that only the first needs a machine with
nothing else to do. Settings that cannot change the cost of a step get equal steps. A training that today's results have
from the same commit is not run again: what was broken off can be started again.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from accuracy import ROOT, BenchmarkError, log, steps_of
from time_to_dice import SETS, Prepared, last_dice, prepared
from turns import (
    FOLDER,
    Run,
    Setting,
    about,
    begun,
    command,
    common_arguments,
    exit_code,
    record,
    recorded,
    run_main,
    succeeded,
    table,
)

DEFAULTS = "defaults"

ONE_CYCLE = 0.3
"""Share of the steps in which the learning rate rises (Smith and Topin 2018)."""

OPTIONS: dict[str, tuple[str, ...]] = {
    "schedule": ("linear", "cosine", "poly"),
    "loss": ("dice_and_cross_entropy", "cross_entropy", "soft_dice", "focal"),
    "norm": ("instance", "batch", "group"),
    "block": ("plain", "residual"),
    "optimizer": ("muon", "adamw"),
    "ema": ("0", "0.99", "0.999"),
    "augment": ("0", "0.5", "1", "1.5"),
    "clean_finish": ("0", "0.1"),
    "deep_supervision": ("no", "yes"),
}
"""Settings that are tried with these values, where the plan has another one."""

CHEAP = ("learning rate", "schedule", "ema", "augment", "clean_finish")
"""Choices that do not change what a step costs: only chance would give them more or fewer of them."""

FOLLOWS = ("width", "augment_chance", "clean_finish")
"""Decisions of a plan that follow from the budget: trainings by steps are given those of the training by the clock."""

SCALED = ("learning rate", "schedule", "batch", "patch", "width")
"""Choices of which what is tried follows from the plan."""


def main(words: Sequence[str] | None = None) -> int:
    """Train and score, and merge the runs into the files of the day.

    Returns:
        0 when every training came to its end; 1 when one failed.
    """
    asked = _arguments(words)
    setting = Setting(peers=asked.peers_python, threads=asked.threads)
    chosen = [data for data in SETS if data.name in asked.only]
    absent = [d.name for d in chosen if not (d.synthetic or (asked.data_root / d.name / "images").is_dir())]
    if absent:
        raise BenchmarkError(f"no {', '.join(absent)} in {asked.data_root}: give --data-root, or set UVEA_DATA")
    runs: list[Run] = []
    for data in chosen:
        with tempfile.TemporaryDirectory(prefix="uvea-ablation-") as work:
            ready = prepared(data, Path(work), root=asked.data_root, quick=asked.quick)
            first = ablate(ready, Path(work), asked, setting, seed=0)
            runs += first
            for seed in range(1, asked.repeat):
                runs += ablate(ready, Path(work), asked, setting, seed=seed, first=first)
    return exit_code(runs)


def equal_steps(runs: Sequence[Run]) -> dict[str, int]:
    """How many steps each variant gets, by trainings for equal times; those whose steps cost the same get the same."""
    done = [run for run in runs if "error" not in run]
    alike = [run["steps"] for run in done if run["choice"] in ("", *CHEAP)]
    return {run["variant"]: round(median(alike)) if run["choice"] in ("", *CHEAP) else run["steps"] for run in done}


def ablate(
    ready: Prepared,
    work: Path,
    asked: argparse.Namespace,
    setting: Setting,
    *,
    seed: int,
    first: Sequence[Run] = (),
) -> list[Run]:
    """All trainings with one seed, each recorded as soon as it is done.

    Args:
        ready: the dataset.
        work: for temporary folders.
        asked: what was said on the command line.
        setting: of the processes.
        seed: of the trainings.
        first: the trainings with the first seed, which say what is tried and for how many steps; without any, it is the
            clock that counts.
    """
    entry = {**begun(asked), "data": ready.data.name, "seed": seed, "minutes": asked.minutes}
    keys = ("data", "seed", "minutes", "commit", "quick")
    known = {
        run["variant"]: run
        for path in (asked.out or FOLDER / "results").glob("ablation-*.json")
        for run in recorded(path)
        if all(run[key] == entry[key] for key in keys) and "error" not in run
    }

    steps = equal_steps(first)
    follows = {
        run["variant"]: {name: text_of(run["plan"][name]) for name in FOLLOWS if name in run["plan"]}
        for run in first
        if "error" not in run
    }

    def run_of(variant: str, choice: str, settings: Mapping[str, str]) -> Run:
        if variant in known and (not first or known[variant]["steps"] == steps.get(variant)):
            return known[variant]
        log(f"{ready.data.name}: {variant}, seed {seed}")
        found = {**entry, "variant": variant, "choice": choice, "settings": dict(settings)}
        try:
            if not first:
                budget = ("--minutes", f"{asked.minutes:.6g}")
            elif variant in steps:
                budget = ("--steps", str(steps[variant]))
                settings = {**follows[variant], **settings}
            else:
                raise BenchmarkError("it failed with the first seed")
            found |= train(ready, work, settings, setting, budget=budget, seed=seed)
            log(f"  Dice {found['dice']:.4f} after {found['steps']} steps")
        except BenchmarkError as error:
            log(f"  {error}")
            found |= {"error": str(error)}
        # At once: all of them take hours, and may be broken off.
        record("ablation", [found], asked, as_markdown)
        return found

    runs = [run_of(DEFAULTS, "", {})]
    if "error" in runs[0]:
        return runs
    decided = first[0] if first else runs[0]
    for variant, (choice, settings) in variants(decided["plan"], steps=decided["steps"]).items():
        if choice in asked.choice:
            runs.append(run_of(variant, choice, settings))
    return runs


def train(
    ready: Prepared, work: Path, settings: Mapping[str, str], setting: Setting, *, budget: tuple[str, str], seed: int
) -> Run:
    """One training, scored with its last weights.

    Raises:
        BenchmarkError: if a command failed.
    """
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=work))
    model = folder / "model"
    chosen = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    words = ["train", str(ready.folder), "--out", str(model), *budget, "--seed", str(seed), "-q"]
    done = succeeded(command([*words, *chosen], setting))
    dice = last_dice(ready, folder, setting)
    plan = json.loads((model / "plan.json").read_text())
    kept = ("learning_rate", "batch", "patch", "width", "strides", "dims", "augment_chance", *OPTIONS)
    return {
        "dice": dice,
        "steps": steps_of(model),
        "seconds": done.seconds,
        "plan": {name: plan[name] for name in kept},
    }


def variants(plan: Mapping[str, Any], *, steps: int) -> dict[str, tuple[str, dict[str, str]]]:
    """What is tried beside a plan: a name for people, which choice it belongs to, and the settings that make it.

    Args:
        plan: the part of a plan that `train` keeps.
        steps: of a training by it, in the same time.
    """
    rate, batch = plan["learning_rate"], plan["batch"]
    found: dict[str, tuple[str, dict[str, str]]] = {
        f"rate {rate * factor:g}": ("learning rate", {"learning_rate": f"{rate * factor:g}"}) for factor in (0.5, 2)
    }
    found["one-cycle"] = ("schedule", {"warmup_steps": str(round(ONE_CYCLE * steps))})
    for size in (batch // 2, batch * 2):
        if size:
            found[f"batch {size}"] = ("batch", {"batch": str(size)})
    smaller = [side // 2 for side in plan["patch"]]
    strides = [[*axis] for axis in zip(*plan["strides"], strict=True)]
    if all(side >= 2 * _product(axis) for side, axis in zip(smaller, strides, strict=True)):
        text = ",".join(map(str, smaller))
        found[f"patch {text.replace(',', '×')}, as many pixels"] = (
            "patch",
            {"patch": text, "batch": str(batch * 2 ** plan["dims"])},
        )
    for name, factor in (("half", 0.5), ("double", 2)):
        widths = ",".join(f"{width * factor:.0f}" for width in plan["width"])
        found[f"{name} the channels"] = ("width", {"width": widths})
    for name, values in OPTIONS.items():
        for value in values:
            if not _is(plan[name], value):
                found[f"{name.replace('_', ' ')} {value.replace('_', ' ')}"] = (name, {name: value})
    return found


def text_of(value: Any) -> str:
    """A decision as one would type it after --set."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _product(numbers: Sequence[int]) -> int:
    found = 1
    for number in numbers:
        found *= number
    return found


def _is(value: Any, text: str) -> bool:
    if isinstance(value, bool):
        return value == (text == "yes")
    return bool(float(text) == value) if isinstance(value, int | float) else bool(value == text)


def as_markdown(day: str, runs: Sequence[Run]) -> str:
    """A table per dataset and number of minutes: the newest run of each variant and seed."""
    lines = [
        f"# What the choices of the plan are worth, {day}",
        "",
        "Written by `benchmarks/ablation.py`. Mean Dice of the held-back cases with the last weights. The first seed",
        "is trained for the same time with every setting, the others for as many steps as that gave. Against the",
        "defaults: the mean over the seeds, with the smallest and largest; bold where all seeds agree on the sign,",
        "which chance alone brings about once in four times with three seeds. All rows have the same trainings by",
        "the defaults beside them: where these were lucky or not, all rows are too low or high.",
    ]
    newest = {(run["data"], run["minutes"], run["quick"], run["variant"], run["seed"]): run for run in runs}
    for data, minutes, quick in dict.fromkeys(key[:3] for key in newest):
        mine = {key[3:]: run for key, run in newest.items() if key[:3] == (data, minutes, quick)}
        defaults = {seed: run for (variant, seed), run in mine.items() if variant == DEFAULTS}
        rows = [
            _row(variant, [run for (name, _), run in mine.items() if name == variant], defaults)
            for variant in dict.fromkeys(variant for variant, _ in mine)
        ]
        lines += ["", f"## {data}, {minutes:g} minutes", "", _plan_text(defaults), ""]
        lines += [*table("setting|seeds|Dice|against the defaults|steps", rows), *about(list(mine.values())[-1])]
    return "\n".join(lines) + "\n"


def _row(variant: str, runs: Sequence[Run], defaults: Mapping[int, Run]) -> list[str]:
    if failed := [run["error"] for run in runs if "error" in run]:
        return [variant, failed[-1], "", "", ""]
    pairs = [run["dice"] - defaults[run["seed"]]["dice"] for run in runs if "dice" in defaults.get(run["seed"], {})]
    gain = f"{fmean(pairs):+.4f} ({min(pairs):+.4f} to {max(pairs):+.4f})" if pairs and variant != DEFAULTS else ""
    if gain and len(pairs) > 1 and (min(pairs) > 0 or max(pairs) < 0):
        gain = f"**{gain}**"
    dice, steps = (f"{fmean(run[key] for run in runs):{form}}" for key, form in (("dice", ".4f"), ("steps", ".0f")))
    return [variant, str(len(runs)), dice, gain, steps]


def _plan_text(defaults: Mapping[int, Run]) -> str:
    plan = next((run["plan"] for run in defaults.values() if "plan" in run), None)
    if plan is None:
        return "No training by the defaults."
    names = ("learning_rate", "batch", "patch", "width", *OPTIONS)
    return f"Defaults: {', '.join(f'{name} {_value_text(plan[name])}' for name in names)}."


def _value_text(value: Any) -> str:
    return "×".join(map(str, value)) if isinstance(value, list) else str(value)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    names, choices = [data.name for data in SETS], [*dict.fromkeys((*SCALED, *OPTIONS))]
    parser = argparse.ArgumentParser(description="Measure what each choice of the plan is worth, over several seeds.")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="DATA", help=f"some of: {', '.join(names)}"
    )
    parser.add_argument(
        "--choice", nargs="+", choices=choices, default=choices, metavar="NAME", help=f"some of: {', '.join(choices)}"
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="of every training; 1")
    root = os.environ.get("UVEA_DATA", ROOT.parent / "shared" / "data")
    parser.add_argument(
        "--data-root", type=Path, default=Path(root), metavar="DIR", help="of the datasets; or UVEA_DATA"
    )
    common_arguments(parser, repeat=3)
    asked = parser.parse_args(words)
    if asked.quick:
        asked.minutes, asked.repeat = min(asked.minutes, 0.05), min(asked.repeat, 2)
    return asked


if __name__ == "__main__":
    run_main(main)
