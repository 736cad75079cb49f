"""Objects told apart: uvea, StarDist, and a plain U-Net with connected components, for the same minutes.

    data -> train/ and held/ -> each tool: train, predict -> uvea evaluate --instances -> results/objects-DATE.*

Nothing of held/ is seen before a model is done: uvea and StarDist take their validation cases, on which they choose
weights and settings of decoding, out of train/. Beside that: how long decoding takes, and whether tiles change it.
With all five folds every real image is held back once, and their objects are scored together. Of the real images,
those of fluorescence, the kind that published figures are given of, have a row of their own.

    python benchmarks/objects.py
    python benchmarks/objects.py --only nuclei --quick
    python benchmarks/objects.py --only dsb2018_stage1 --tool uvea --fold 1 2 3 4 5
"""

import argparse
import csv
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from accuracy import ROOT, BenchmarkError, drawn, log
from turns import (
    ABSENT,
    Run,
    Setting,
    Tool,
    about,
    begun,
    command,
    common_arguments,
    exit_code,
    in_turns,
    record,
    run_main,
    setting_of,
    succeeded,
    table,
    whole_job,
)

LEVELS = ("ap_50", "ap_70", "ap_75", "ap_90", "mean_ap")
"""Scores of the table, pooled over the held-back images."""

COUNTED = tuple(f"ap_{level}" for level in range(50, 100, 5))
"""Scores of which true positives are counted again, to put folds together; their mean is the mean AP."""

FOLDS = 5

OURS, PLAIN, STARDIST = "uvea", "uvea, classes and components", "StarDist"

DECODING = "decoding"
"""The part without a training."""

HEADINGS = "tool|AP 0.50|AP 0.70|AP 0.75|AP 0.90|mean AP|Dice|training s|prediction s|reached"


@dataclass(frozen=True, kw_only=True)
class Data:
    """One dataset of the table."""

    name: str
    goals: dict[str, float]
    """By score, for ten minutes."""

    hour: dict[str, float] = field(default_factory=dict)
    """For an hour, where there are others."""

    fill: Callable[[Path, "Data", int, argparse.Namespace], None]
    """Make train/ and held/ of a fold, each with images/ and masks/ of equal names."""

    dims: int = 2
    held: int = 0
    trained: int = 0
    """Images, where they are made."""

    folds: int = 1
    """Into which the images can be parted."""

    def goals_of(self, minutes: float) -> dict[str, float]:
        """By score, for trainings of so many minutes."""
        return self.hour if self.hour and minutes >= 60 else self.goals


def shared(folder: Path, data: Data, fold: int, asked: argparse.Namespace) -> None:
    """Links to a dataset with images/ and masks/; a seeded fifth is held back, for each fold another one."""
    source = (asked.data_root / data.name).resolve()
    if not (source / "images").is_dir():
        raise BenchmarkError(f"no {data.name} in {asked.data_root}: give --data-root, or set UVEA_DATA")
    names = sorted(path.name for path in (source / "images").iterdir() if path.name[0] != ".")
    names = names[:: 12 if asked.quick else 1]
    held = set(drawn(names, fold))
    for name in names:
        for kind in ("images", "masks"):
            link = folder / ("held" if name in held else "train") / kind / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source / kind / name)


def fluorescent(index: Path) -> set[str]:
    """Names of the images of dsb2018_stage1 with bright nuclei on a dark ground: gray, with a mean below 100 of 255."""
    with index.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return {row["id"] for row in rows if row["mode"] == "gray" and float(row["mean_intensity"]) < 100}


def made(folder: Path, data: Data, fold: int, asked: argparse.Namespace) -> None:
    """Synthetic nuclei that touch, numbered."""
    from uvea.datasets.synthetic import make
    from uvea.images import write

    count = 10 if asked.quick else data.trained + data.held
    size = None if not asked.quick else (128, 128) if data.dims == 2 else (16, 48, 48)
    for number in range(count):
        sample = make(data.name, seed=number, size=size)
        assert sample.instances is not None
        part = folder / (
            "held" if number >= count - max(2, count * data.held // (data.trained + data.held)) else "train"
        )
        for kind, image in (("images", sample.image), ("masks", sample.instances)):
            write(part / kind / f"{number:04d}.tif", image)


DATA = (
    Data(
        name="dsb2018_stage1",
        goals={"ap_50": 0.80, "ap_70": 0.68, "ap_90": 0.25},
        hour={"ap_50": 0.85, "ap_70": 0.73, "ap_90": 0.30},
        fill=shared,
        folds=FOLDS,
    ),
    Data(name="nuclei", goals={"ap_50": 0.95, "ap_75": 0.85}, fill=made, trained=80, held=20),
    Data(name="nuclei3d", goals={"ap_50": 0.95, "ap_75": 0.85}, fill=made, dims=3, trained=32, held=8),
)


def main() -> int:
    """Run the table, or some rows of it."""
    asked = _arguments()
    if asked.work and not asked.work.is_dir():
        raise BenchmarkError(f"--work {asked.work}: no such folder; make it, or leave the option out")
    setting = setting_of(asked)
    runs: list[Run] = []
    for data in [data for data in DATA if data.name in (asked.only or [data.name])]:
        for fold in [fold for fold in asked.fold if fold <= data.folds]:
            with tempfile.TemporaryDirectory(prefix="uvea-objects-", dir=asked.work) as work:
                runs.append(_all_tools(Path(work), data, fold, asked, setting))
            # At once: the next takes minutes, and may be broken off.
            record("objects", runs[-1:], asked, page)
    if DECODING in (asked.only or [DECODING]):
        sizes = [256, 512] if asked.quick else [2048, 4096, 8192, 16384]
        jobs = {f"{size}": Tool(job="ours_objects:decoding", settings={"size": size}) for size in sizes}
        runs.append({**begun(asked), "part": DECODING, "tools": in_turns(jobs, setting, repeat=asked.repeat)})
        record("objects", runs[-1:], asked, page)
    return exit_code([entry for run in runs for entry in run["tools"].values()])


def _all_tools(folder: Path, data: Data, fold: int, asked: argparse.Namespace, setting: Setting) -> Run:
    """One fold of a dataset with each tool that is asked for."""
    found: Run = {**begun(asked), "part": data.name, "fold": fold, "minutes": asked.minutes, "tools": {}}
    data.fill(folder, data, fold, asked)
    if data.fill is shared:
        held = {path.stem for path in (folder / "held" / "images").iterdir()}
        found["fluorescent"] = sorted(held & fluorescent(asked.data_root / data.name / "index.csv"))
    for name in asked.tool or (OURS, PLAIN, STARDIST):
        log(f"{data.name}, fold {fold}: {name}, {asked.minutes:g} minutes")
        found["tools"][name] = entry = _tried(name, folder, data, asked, setting)
        log(f"{data.name}: {name}: {entry.get('error') or _figures(entry)}")
    return found


def _tried(name: str, folder: Path, data: Data, asked: argparse.Namespace, setting: Setting) -> Run:
    try:
        if name == STARDIST:
            return _stardist(folder, data, asked, setting)
        return _ours(name, folder, asked, setting)
    except BenchmarkError as error:
        return {"error": str(error)}


def _ours(name: str, folder: Path, asked: argparse.Namespace, setting: Setting) -> Run:
    """Train, predict and score as a user does, with no setting but the minutes."""
    short = "objects" if name == OURS else "classes"
    model, masks = folder / f"model-{short}", folder / f"masks-{short}"
    words = ["train", str(folder / "train"), "--out", str(model), "--minutes", f"{asked.minutes:g}", "--quiet"]
    trained = succeeded(command([*words, *([] if name == OURS else ["--set", "task=semantic"])], setting))
    predicted = succeeded(
        command(["predict", str(model), str(folder / "held" / "images"), "--out", str(masks), "--quiet"], setting)
    )
    found: Run = {
        "seconds": trained.seconds,
        "predict_seconds": predicted.seconds,
        "peak_bytes": trained.peak_memory_bytes,
        "after": json.loads((model / "postprocessing.json").read_text())["decoding"],
        **_scores(folder, masks, setting),
    }
    if name == OURS:
        image = max((folder / "held" / "images").iterdir(), key=lambda path: path.stat().st_size)
        found["tiles"] = whole_job(
            Tool(job="ours_objects:tiles", settings={"model": str(model), "image": str(image)}), setting
        )
    return found


def _stardist(folder: Path, data: Data, asked: argparse.Namespace, setting: Setting) -> Run:
    from uvea.images import read, write

    for part in ("train", "held"):
        arrays: dict[str, Any] = {}
        for path in sorted((folder / part / "images").iterdir()):
            image, mask = read(path), read(folder / part / "masks" / path.name)
            arrays |= {f"image {path.name}": image.array, f"ids {path.name}": mask.array[0].astype(np.int32)}
            arrays[f"spacing {path.name}"] = np.array(image.spacing)
        np.savez(folder / f"{part}.npz", **arrays)
    settings = {
        "train": str(folder / "train.npz"),
        "held": str(folder / "held.npz"),
        "out": str(folder / "stardist.npz"),
        "minutes": asked.minutes,
        "seed": 42,
        "folder": str(folder),
    }
    done = whole_job(Tool(job="peers_stardist:from_scratch", settings=settings, peer=True), setting)
    masks = folder / "masks-stardist"
    with np.load(folder / "stardist.npz") as found:
        for name in found:
            image = read(folder / "held" / "images" / name)
            ids = found[name].astype(np.uint16)
            write(masks / f"{Path(name).stem}.tif", image.with_array(ids[None]))
    return {**done, "seconds": done["training_seconds"], **_scores(folder, masks, setting)}


def _scores(folder: Path, masks: Path, setting: Setting) -> Run:
    """Pooled scores and means over images, by metric, and what was counted in each image.

    Masks of classes are taken apart into connected pieces.
    """
    only = folder / f"{masks.name}-only"
    only.mkdir()
    for path in masks.iterdir():
        if path.suffix != ".csv":
            (only / path.name).symlink_to(path)
    out = folder / f"{masks.name}-scores"
    words = ["evaluate", str(only), str(folder / "held" / "masks"), "--instances", "--no-distances", "--no-report"]
    succeeded(command([*words, "--out", str(out), "--quiet"], setting))
    summary = json.loads((out / "summary.json").read_text())
    metrics = summary["foreground"]
    scores = {name: {"pooled": metrics[name]["pooled"], "mean": metrics[name]["mean"]} for name in (*LEVELS, "dice")}
    return {"scores": scores, "images": _counts(out / "scores.csv")}


def _counts(path: Path) -> dict[str, dict[str, float]]:
    """Of each image in a table of scores: objects, those predicted, Dice, and true positives at each level."""
    found: dict[str, dict[str, float]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["label"] != "0" and row["metric"] in ("objects", "objects_predicted", "dice", *COUNTED):
                found.setdefault(row["case"], {})[row["metric"]] = float(row["value"])
    for image in found.values():
        count = image["objects"] + image["objects_predicted"]
        for name in COUNTED:
            # AP = TP / (count - TP)
            image[name] = float(round(image[name] * count / (1 + image[name])))
    return found


def together(images: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Scores as `_scores` gives them of images that were counted, in whatever folds they were."""
    count = sum(image["objects"] + image["objects_predicted"] for image in images)
    positives = {name: sum(image[name] for image in images) for name in COUNTED}
    pooled = {name: tp / (count - tp) if count > tp else 1.0 for name, tp in positives.items()}
    means = {
        name: fmean(
            image[name] / rest if (rest := image["objects"] + image["objects_predicted"] - image[name]) else 1.0
            for image in images
        )
        for name in COUNTED
    }
    dice = fmean(image["dice"] for image in images)
    return {
        **{name: {"pooled": pooled[name], "mean": means[name]} for name in COUNTED},
        "mean_ap": {"pooled": fmean(pooled.values()), "mean": fmean(means.values())},
        "dice": {"pooled": dice, "mean": dice},
    }


def _figures(entry: Run) -> str:
    return ", ".join(f"{name} {entry['scores'][name]['pooled']:.3f}" for name in LEVELS)


def page(day: str, runs: Sequence[Run]) -> str:
    """The tables of a day: the newest run of each dataset, fold, number of minutes and set of tools."""
    newest = {
        (run["part"], run.get("minutes"), run["quick"], tuple(run.get("tools", ())), run.get("fold", 1)): run
        for run in runs
    }
    lines = [
        f"# Objects, {day}",
        "",
        "AP of the objects of all held-back images together, in brackets the mean over images.",
    ]
    for run in newest.values():
        goals = next((data.goals_of(run["minutes"]) for data in DATA if data.name == run["part"]), {})
        if run["part"] == DECODING:
            lines += [
                "",
                f"## Decoding, threads: {run['threads']}",
                "",
                *table("pixels|objects|seconds|million pixels per second", _decoding(run)),
            ]
        else:
            said = ", ".join(f"{name.replace('ap_', 'AP 0.')} {goal:.2f}" for name, goal in goals.items())
            fold = f", fold {run['fold']}" if run.get("fold", 1) > 1 else ""
            lines += ["", f"## {run['part']}, {run['minutes']:g} minutes{fold}", "", f"Goals: {said}.", ""]
            lines += table(HEADINGS, _rows(run, goals))
            tiles = run["tools"].get(OURS, {}).get("tiles")
            if tiles:
                lines += [
                    "",
                    f"Tiles against the whole image: AP at 0.90 {tiles['agreement']:.4f}, {tiles['objects']} objects.",
                ]
        lines += about(run)
    for key in dict.fromkeys(key[:-1] for key in newest):
        folds = [run for place, run in newest.items() if place[:-1] == key]
        if len(folds) == FOLDS:
            goals = next(data.goals_of(key[1]) for data in DATA if data.name == key[0])
            lines += ["", f"## {key[0]}, {key[1]:g} minutes, all {FOLDS} folds together", ""]
            lines += table(HEADINGS, _rows(_joined(folds), goals))
    return "\n".join(lines) + "\n"


def _joined(folds: Sequence[Run]) -> Run:
    """One run of the images of all folds; seconds are means. A tool that failed in one is left out."""
    tools: Run = {}
    for name in folds[0]["tools"]:
        entries = [run["tools"][name] for run in folds]
        if all("images" in entry for entry in entries):
            seconds = {key: fmean(entry[key] for entry in entries) for key in ("seconds", "predict_seconds")}
            images = {case: image for entry in entries for case, image in entry["images"].items()}
            tools[name] = {"scores": together(list(images.values())), "images": images, **seconds}
    return {"tools": tools, "fluorescent": [case for run in folds for case in run.get("fluorescent", [])]}


def _rows(run: Run, goals: dict[str, float]) -> list[list[str]]:
    rows = []
    for name, entry in run["tools"].items():
        if "error" in entry:
            what = entry["error"].removeprefix(ABSENT)
            rows.append([name, f"not installed: {what}" if entry["error"].startswith(ABSENT) else what, *[""] * 8])
            continue
        seconds = [f"{entry['seconds']:.0f}", f"{entry['predict_seconds']:.1f}"]
        rows.append([name, *_cells(entry["scores"]), *seconds, _reached(entry["scores"], goals)])
        alike = [image for case in run.get("fluorescent", []) if (image := entry.get("images", {}).get(case))]
        if alike:
            scores = together(alike)
            rows.append([f"of these, fluorescence ({len(alike)})", *_cells(scores), "", "", _reached(scores, goals)])
    return rows


def _cells(scores: dict[str, dict[str, float]]) -> list[str]:
    levels = [f"{scores[key]['pooled']:.3f} ({scores[key]['mean']:.3f})" for key in LEVELS]
    return [*levels, f"{scores['dice']['mean']:.3f}"]


def _reached(scores: dict[str, dict[str, float]], goals: dict[str, float]) -> str:
    return "yes" if all(scores[key]["pooled"] >= goal for key, goal in goals.items()) else "no"


def _decoding(run: Run) -> list[list[str]]:
    rows = []
    for size, entry in run["tools"].items():
        if "error" in entry:
            rows.append([f"{size}×{size}", entry["error"], "", ""])
            continue
        seconds = median(turn["seconds"] for turn in entry["turns"])
        rows.append(
            [f"{size}×{size}", f"{entry['objects']:.0f}", f"{seconds:.2f}", f"{int(size) ** 2 / 1e6 / seconds:.1f}"]
        )
    return rows


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Objects told apart, beside other tools.")
    common_arguments(parser, repeat=3)
    data = Path(os.environ.get("UVEA_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data-root", type=Path, default=data, metavar="DIR", help="folder of dsb2018_stage1")
    parser.add_argument(
        "--only", nargs="+", choices=[*(one.name for one in DATA), DECODING], metavar="PART", help="some parts"
    )
    parser.add_argument("--tool", nargs="+", choices=[OURS, PLAIN, STARDIST], metavar="TOOL", help="some tools")
    folds = range(1, FOLDS + 1)
    parser.add_argument("--fold", nargs="+", type=int, choices=folds, default=[1], help="of real images; 1")
    parser.add_argument("--minutes", type=float, help="of each training; 10, or 0.2 with --quick")
    parser.add_argument("--work", type=Path, metavar="DIR", help="for temporary folders")
    asked = parser.parse_args()
    folded = [one.name for one in DATA if one.folds > 1]
    if asked.fold != [1] and not set(asked.only or ["everything"]) <= set(folded):
        parser.error(f"--fold goes with --only {' '.join(folded)}")
    asked.minutes = asked.minutes or (0.2 if asked.quick else 10.0)
    if asked.quick:
        asked.repeat = 1
    return asked


if __name__ == "__main__":
    run_main(main)
