"""Time and memory of scoring, side by side with MONAI and the package surface-distance, and write them down.

    one synthetic volume, or many small masks -> one process per tool, in turns -> results/metrics-DATE.json and .md

Every tool scores the same five classes of the same files. Each run is a process of its own, so that its peak memory
is its own; tools take turns, so that a disturbed minute hits all of them. Of other packages, each does what its own
documentation shows: of a volume class by class, which is the least memory that it can take, of small masks all
classes at once, which is the least time.

    python benchmarks/metrics.py
    python benchmarks/metrics.py --size 256 --repeat 3
    python benchmarks/metrics.py --cases 1000
"""

import argparse
import csv
import importlib.metadata
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from accuracy import ROOT, BenchmarkError, Finished, describe_machine, log, run_uvea, state_of_code
from numpy.typing import NDArray
from PIL import Image

CLASSES = (1, 2, 3, 4, 5)
SPACING = (1.5, 0.8, 0.8)
TOLERANCE = 2.0
METRICS = ("hd", "hd95", "assd", "nsd")
ERROR_LINES = 6

ABSENT = "not installed"
"""In place of figures; no failure."""

ELLIPSOIDS = (
    ((0.45, 0.40, 0.50), (0.30, 0.28, 0.33)),
    ((0.55, 0.75, 0.60), (0.20, 0.14, 0.22)),
    ((0.30, 0.72, 0.25), (0.12, 0.16, 0.13)),
    ((0.75, 0.30, 0.25), (0.15, 0.15, 0.17)),
    ((0.45, 0.40, 0.45), (0.08, 0.10, 0.09)),
)
"""Centre and half axes of each class, in shares of the volume; later classes lie over earlier ones."""

SIDE = 256
"""Pixels along each side of the small masks."""

LOOP = "MONAI, a plain loop"
"""Over the small masks, in one process."""

FLAGS = ("--no-report", "--quiet", "--overwrite")
"""Of `uvea evaluate`."""

CASE_METRICS = ("dice", "iou", *METRICS)
"""Of each small mask."""

Mask = NDArray[np.uint8]
Volume = NDArray[np.uint8]
Scores = dict[str, dict[str, float]]
"""Label to metric to value."""

Run = dict[str, Any]


def synthetic(size: int, *, moved: bool) -> Volume:
    """A cube of `size` voxels a side with five wavy ellipsoids; `moved` gives the prediction.

    The prediction is off by about a voxel or two, as a good network is, and has one small false part per class.
    """
    volume = np.zeros((size,) * 3, np.uint8)
    y, x = (axis.astype(np.float32) / size for axis in np.ogrid[:size, :size])
    random = np.random.default_rng(1)
    for label, (centre, half) in zip(CLASSES, ELLIPSOIDS, strict=True):
        shift, grow = random.uniform(-1.5, 1.5, 3) / size, random.uniform(0.985, 1.015)
        far = random.uniform(0.1, 0.9, 3)
        cz, cy, cx = np.add(centre, shift) if moved else centre
        hz, hy, hx = np.multiply(half, grow) if moved else half
        for row in range(size):
            z = row / size
            wave = 1 + 0.05 * np.sin(25 * y + 9 * z + label) * np.sin(21 * x + 5 * z)
            inside = ((z - cz) / hz) ** 2 + ((y - cy) / hy) ** 2 + ((x - cx) / hx) ** 2 < wave
            if moved:
                inside |= (z - far[0]) ** 2 + (y - far[1]) ** 2 + (x - far[2]) ** 2 < 0.015**2
            volume[row][inside] = label
    return volume


def synthetic_case(number: int, side: int) -> tuple[Mask, Mask]:
    """Reference and prediction of `side`×`side` pixels with five ellipses, the same for every tool and on every day.

    The prediction is off by up to two pixels. In one case of ten the reference lacks a class, in one the prediction.
    """
    random = np.random.default_rng(number)
    y, x = np.ogrid[:side, :side]
    masks = np.zeros((2, side, side), np.uint8)
    for label in CLASSES:
        centre, half = random.uniform(0.2, 0.8, 2) * side, random.uniform(0.08, 0.2, 2) * side
        for mask, shift in zip(masks, ((0.0, 0.0), random.uniform(-2, 2, 2)), strict=True):
            cy, cx = centre + shift
            mask[((y - cy) / half[0]) ** 2 + ((x - cx) / half[1]) ** 2 < 1] = label
    if number % 10 < 2:
        masks[number % 10][masks[number % 10] == CLASSES[-1]] = 0
    return masks[0], masks[1]


def write_cases(folder: Path, count: int, side: int) -> None:
    """Write `count` pairs of masks as PNG files into reference/ and prediction/."""
    for number in range(count):
        for name, mask in zip(("reference", "prediction"), synthetic_case(number, side), strict=True):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(folder / name / f"{number:05d}.png")


def evaluated(folder: Path, workers: int, call: Callable[[Sequence[str]], Finished]) -> Run:
    """What `uvea evaluate` takes for the masks in `folder`, from its start to its end, and its scores."""
    out = folder / f"scores-{workers}"
    labels = ",".join(f"{label}=class-{label}" for label in (0, *CLASSES))
    places = [str(folder / "prediction"), str(folder / "reference"), "--out", str(out)]
    options = ["--workers", str(workers), "--labels", labels, "--tolerance", str(TOLERANCE), *FLAGS]
    done = call(["evaluate", *places, *options])
    if done.code != 0:
        return {"error": f"exit code {done.code}: {_last_lines(done.text)}"}
    return {
        "seconds": done.seconds,
        "cpu_seconds": done.cpu_seconds,
        "peak_bytes": done.peak_memory_bytes,
        "scores": scores_of(out / "scores.csv"),
    }


def scores_of(path: Path) -> Scores:
    """Of each case and class, "00007 3", the metrics that are compared."""
    found: Scores = {}
    with path.open(newline="", encoding="utf-8") as stream:
        for line in csv.DictReader(stream):
            if int(line["label"]) in CLASSES and line["metric"] in CASE_METRICS:
                found.setdefault(f"{line['case']} {line['label']}", {})[line["metric"]] = float(line["value"])
    return found


def by_monai_loop(folder: Path) -> Scores:
    """Read a pair of masks, call each function for all classes, go on with the next one."""
    import torch
    from monai import metrics

    found: Scores = {}
    for path in sorted((folder / "reference").iterdir()):
        labels = [
            torch.from_numpy(np.array(Image.open(folder / name / path.name))) for name in ("prediction", path.parent)
        ]
        masks = [torch.stack([mask == label for label in CLASSES])[None] for mask in labels]
        rest = {"include_background": True}  # it is not among the channels
        values = (
            metrics.compute_dice(*masks, **rest),
            metrics.compute_iou(*masks, **rest),
            metrics.compute_hausdorff_distance(*masks, **rest),
            metrics.compute_hausdorff_distance(*masks, percentile=95, **rest),
            metrics.compute_average_surface_distance(*masks, symmetric=True, **rest),
            metrics.compute_surface_dice(*masks, class_thresholds=[TOLERANCE] * len(CLASSES), **rest),
        )
        for place, label in enumerate(CLASSES):
            found[f"{path.stem} {label}"] = {
                name: value[0, place].item() for name, value in zip(CASE_METRICS, values, strict=True)
            }
    return found


def largest_difference(scores: Scores, ours: Scores) -> float | None:
    """Of the values that are finite in both; of empty masks the conventions differ. None where there are none."""
    pairs = [(value, ours[key][name]) for key, values in scores.items() for name, value in values.items()]
    return max((abs(one - other) for one, other in pairs if np.isfinite([one, other]).all()), default=None)


def by_uvea(reference: Volume, prediction: Volume) -> Scores:
    """Border voxels, all classes in one pass."""
    from uvea.evaluation.surface import surface_scores_by_class

    found = surface_scores_by_class(reference, prediction, classes=CLASSES, spacing=SPACING, tolerance=TOLERANCE)
    return {str(label): {name: getattr(scores, name) for name in METRICS} for label, scores in found.items()}


def by_uvea_surfels(reference: Volume, prediction: Volume) -> Scores:
    """Surfels, class by class."""
    from uvea.evaluation.surfels import surfel_scores

    found = {
        label: surfel_scores(reference == label, prediction == label, spacing=SPACING, tolerance=TOLERANCE)
        for label in CLASSES
    }
    return {str(label): {name: getattr(scores, name) for name in METRICS} for label, scores in found.items()}


def by_monai(reference: Volume, prediction: Volume) -> Scores:
    """Border voxels by one call per metric, as MONAI has it."""
    import torch
    from monai import metrics

    found: Scores = {}
    for label in CLASSES:
        masks = [torch.from_numpy(mask == label)[None, None] for mask in (prediction, reference)]
        rest = {"include_background": True, "spacing": SPACING}
        values = (
            metrics.compute_hausdorff_distance(*masks, **rest),
            metrics.compute_hausdorff_distance(*masks, percentile=95, **rest),
            metrics.compute_average_surface_distance(*masks, symmetric=True, **rest),
            metrics.compute_surface_dice(*masks, class_thresholds=[TOLERANCE], **rest),
        )
        found[str(label)] = {name: value.item() for name, value in zip(METRICS, values, strict=True)}
    return found


def by_monai_hd95(reference: Volume, prediction: Volume) -> Scores:
    """One metric alone: what MONAI needs at the least."""
    import torch
    from monai import metrics

    found: Scores = {}
    for label in CLASSES:
        masks = [torch.from_numpy(mask == label)[None, None] for mask in (prediction, reference)]
        value = metrics.compute_hausdorff_distance(*masks, percentile=95, include_background=True, spacing=SPACING)
        found[str(label)] = {"hd95": value.item()}
    return found


def by_surface_distance(reference: Volume, prediction: Volume) -> Scores:
    """Surfels: the distances once, and the metrics from them."""
    import surface_distance as package

    found: Scores = {}
    for label in CLASSES:
        parts = package.compute_surface_distances(reference == label, prediction == label, SPACING)
        sides = [("distances_gt_to_pred", "surfel_areas_gt"), ("distances_pred_to_gt", "surfel_areas_pred")]
        moment = sum(float((parts[distance] * parts[area]).sum()) for distance, area in sides)
        found[str(label)] = {
            "hd": float(package.compute_robust_hausdorff(parts, 100)),
            "hd95": float(package.compute_robust_hausdorff(parts, 95)),
            "assd": moment / sum(float(parts[area].sum()) for _, area in sides),
            "nsd": float(package.compute_surface_dice_at_tolerance(parts, TOLERANCE)),
        }
    return found


TOOLS: dict[str, tuple[Callable[[Volume, Volume], Scores], str, str]] = {
    "uvea": (by_uvea, "uvea", ""),
    "MONAI": (by_monai, "monai", "uvea"),
    "MONAI, HD95 alone": (by_monai_hd95, "monai", "uvea"),
    "uvea, surfels": (by_uvea_surfels, "uvea", ""),
    "surface-distance": (by_surface_distance, "surface-distance", "uvea, surfels"),
}
"""What is measured: function, the package it needs, and which of ours its scores should equal."""


def main(words: Sequence[str] | None = None) -> int:
    """Measure every tool that is installed, and add the run to the files of the day.

    Returns:
        0 when every installed tool came to its end; 1 when one failed; 2 when nothing could be started.
    """
    asked = _arguments(words)
    if asked.make or asked.worker:
        return _in_child(asked)
    try:
        machine = describe_machine()
        run: Run = {
            "repeat": asked.repeat,
            "note": asked.note,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": state_of_code(),
            "machine": machine,
            "versions": {name: version_of(name) for name in ("uvea", "numpy", "scipy", "monai", "surface-distance")},
        }
        with tempfile.TemporaryDirectory(prefix="uvea-metrics-") as work:
            measure = measure_cases if asked.cases else measure_volume
            run |= measure(Path(work), asked, versions=run["versions"])
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 2
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / f"metrics-{datetime.now(UTC):%Y-%m-%d}.json"
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []
    runs.append(run)
    day = path.stem.removeprefix("metrics-")
    _write(path, json.dumps({"date": day, "runs": runs}, indent=1, ensure_ascii=False) + "\n")
    _write(path.with_suffix(".md"), as_markdown(day, runs))
    log(f"table in {path.with_suffix('.md')}")
    return 1 if any(entry.get("error", ABSENT) != ABSENT for entry in run["tools"].values()) else 0


def measure_volume(work: Path, asked: argparse.Namespace, *, versions: dict[str, str | None]) -> Run:
    """Score one volume with every tool of `TOOLS`, turn by turn."""
    log(f"a volume of {asked.size}³ voxels with {len(CLASSES)} classes")
    made = _child("--make", str(work), "--size", str(asked.size))
    if "error" in made:
        raise BenchmarkError(made["error"])
    tools = {
        name: partial(_child, "--worker", name, "--data", str(work)) if versions[package] else None
        for name, (_, package, _) in TOOLS.items()
        if asked.only is None or name in asked.only
    }
    return {"size": asked.size, "foreground": made["foreground"], "tools": _in_turns(tools, asked.repeat)}


def measure_cases(
    work: Path,
    asked: argparse.Namespace,
    *,
    versions: dict[str, str | None],
    call: Callable[[Sequence[str]], Finished] = run_uvea,
) -> Run:
    """Score many small masks with `uvea evaluate`, by one worker and by all cores, and with MONAI.

    Raises:
        BenchmarkError: if the result of `uvea evaluate` depends on the number of workers.
    """
    log(f"{asked.cases} masks of {asked.side}×{asked.side} pixels with {len(CLASSES)} classes")
    write_cases(work, asked.cases, asked.side)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    crews = {f"uvea evaluate, {n} worker{'s' if n > 1 else ''}": n for n in sorted({1, cores})}
    tools: dict[str, Callable[[], Run] | None] = {name: partial(evaluated, work, n, call) for name, n in crews.items()}
    tools[LOOP] = partial(_child, "--worker", LOOP, "--data", str(work)) if versions["monai"] else None
    found = _in_turns(tools, asked.repeat)
    # Thousands of numbers: of them, only how far they differ is kept.
    scores = {name: entry.pop("scores") for name, entry in found.items() if "scores" in entry}
    ours = [scores[name] for name in crews if name in scores]
    if any(other != ours[0] for other in ours):
        raise BenchmarkError(f"{cores} workers gave other scores than one")
    if ours and LOOP in scores:
        found[LOOP]["difference"] = largest_difference(scores[LOOP], ours[0])
    return {"cases": asked.cases, "side": asked.side, "tools": found}


def _in_turns(tools: Mapping[str, Callable[[], Run] | None], repeat: int) -> dict[str, Run]:
    """Run every tool that is installed once per turn, and put its turns together."""
    measured: dict[str, list[Run]] = {name: [] for name, tool in tools.items() if tool is not None}
    for turn in range(repeat):
        for name, tool in tools.items():
            if tool is not None:
                measured[name].append(tool())
                log(f"{turn + 1} of {repeat}, {name}: {_shown(measured[name][-1])}")
    return {name: _together(measured[name]) if name in measured else {"error": ABSENT} for name in tools}


def _in_child(asked: argparse.Namespace) -> int:
    """What a process of its own does: make the volumes, or measure one tool. Prints one line of JSON."""
    if asked.make:
        for name, moved in (("reference", False), ("prediction", True)):
            volume = synthetic(asked.size, moved=moved)
            np.save(asked.make / f"{name}.npy", volume)
        print(json.dumps({"foreground": float((volume > 0).mean())}))
        return 0
    warnings.simplefilter("ignore")  # of deprecations in the packages, and of empty masks
    given: tuple[Any, ...]
    if asked.worker == LOOP:
        score: Callable[..., Scores] = by_monai_loop
        with tempfile.TemporaryDirectory(prefix="uvea-metrics-") as warm:
            write_cases(Path(warm), 2, 16)
            score(Path(warm))  # imports are not what is measured
        given = (asked.data,)
    else:
        score = TOOLS[asked.worker][0]
        tiny = np.repeat(np.uint8([0, *CLASSES, 0]), 16).reshape(-1, 4, 4)
        score(tiny, np.roll(tiny, 1, axis=0))  # likewise
        given = tuple(np.load(asked.data / f"{name}.npy") for name in ("reference", "prediction"))
    floor = _peak_bytes()
    start, cpu = time.perf_counter(), time.process_time()
    scores = score(*given)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    result = {"seconds": seconds, "cpu_seconds": cpu, "floor_bytes": floor, "peak_bytes": _peak_bytes()}
    print(json.dumps({**result, "scores": scores}))
    return 0


def _peak_bytes() -> int:
    """Largest resident memory so far, of this process."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _child(*words: str) -> Run:
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True)
    if done.returncode != 0:
        return {"error": f"exit code {done.returncode}: {_last_lines(done.stderr)}"}
    found: Run = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-ERROR_LINES:])


def _together(results: Sequence[Run]) -> Run:
    """All turns of a tool with their medians; an error of any turn is the error of the tool."""
    if failed := [result["error"] for result in results if "error" in result]:
        return {"error": failed[0]}
    names = [name for name in ("seconds", "cpu_seconds", "floor_bytes", "peak_bytes") if name in results[0]]
    return {
        **{name: median(result[name] for result in results) for name in names},
        "turns": [{name: result[name] for name in names} for result in results],
        "scores": results[0]["scores"],
    }


def version_of(package: str) -> str | None:
    """As installed; None where it is not."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def as_markdown(day: str, runs: Sequence[Run]) -> str:
    """The tables of a day: the newest run of each size and of each number of cases."""
    volumes = {run["size"]: run for run in runs if "size" in run}
    sets = {run["cases"]: run for run in runs if "cases" in run}
    lines = [f"# Metrics, {day}", "", "Written by `benchmarks/metrics.py`."]
    if volumes:
        lines += _volume_lines(volumes)
    if sets:
        lines += _case_lines(sets)
    return "\n".join(lines) + "\n"


def _volume_lines(newest: dict[int, Run]) -> list[str]:
    lines = [
        "",
        "## Surface scores of a volume",
        "",
        "HD, HD95, ASSD and NSD of five classes in one synthetic volume. Seconds are the median over the turns, with",
        "the smallest and largest; imports and reading are not in them. Memory is the peak of the process; above",
        "loading is what came on top of the packages and both volumes. The difference is the largest one of all",
        "classes and metrics to the row of uvea with the same convention.",
    ]
    for size, run in sorted(newest.items(), reverse=True):
        rows = [_row(name, entry, run["tools"]) for name, entry in run["tools"].items()]
        names = ["tool", "seconds", "cores used", "peak memory", "above loading", "difference"]
        lines += ["", f"### {size}×{size}×{size}, {run['foreground']:.0%} foreground", ""]
        lines += [*_table(names, rows), *_about(run)]
    return lines


def _case_lines(newest: dict[int, Run]) -> list[str]:
    lines = [
        "",
        "## Many small masks",
        "",
        "Pairs of PNG files with five classes. `uvea evaluate` computes counts, volumes, distances and lesions, and",
        "writes the table and the summary with its intervals, no report. Its seconds are those of the whole command,",
        "start and imports included. The loop reads the same files and computes Dice, IoU, HD, HD95, ASSD and NSD; its",
        "imports are not in its seconds. Seconds are the median over the turns, with the smallest and largest. Memory",
        "is the peak of the largest process. The difference is the largest one of all finite values to those of uvea.",
    ]
    for count, run in sorted(newest.items(), reverse=True):
        rows = [_case_row(name, entry, count) for name, entry in run["tools"].items()]
        names = ["tool", "seconds", "cases per second", "cores used", "peak memory", "difference"]
        lines += ["", f"### {count} masks of {run['side']}×{run['side']}", ""]
        lines += [*_table(names, rows), *_about(run)]
    return lines


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (names, ["---"] * len(names), *rows)]


def _about(run: Run) -> list[str]:
    """When and where a run was measured, as lines under its table."""
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items() if version)
    machine = run["machine"]
    place = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.1f} GiB"
    lines = ["", f"{run['started']}, {run['repeat']} turns, commit {run['commit']}.", f"{place}; {versions}."]
    return [*lines, run["note"]] if run["note"] else lines


def _case_row(name: str, entry: Run, count: int) -> list[str]:
    if "error" in entry:
        return [name, entry["error"].splitlines()[-1], "", "", "", ""]
    turns = [turn["seconds"] for turn in entry["turns"]]
    difference = entry.get("difference")
    return [
        name,
        f"{entry['seconds']:.2f} ({min(turns):.2f} to {max(turns):.2f})",
        f"{count / entry['seconds']:.0f}",
        f"{entry['cpu_seconds'] / entry['seconds']:.2f}",
        f"{entry['peak_bytes'] / 2**30:.2f} GiB",
        "" if difference is None else f"{difference:.0e}",
    ]


def _row(name: str, entry: Run, tools: dict[str, Run]) -> list[str]:
    if "error" in entry:
        return [name, entry["error"].splitlines()[-1], "", "", "", ""]
    turns = [turn["seconds"] for turn in entry["turns"]]
    ours = tools.get(TOOLS[name][2], {}).get("scores")
    pairs = (
        [
            abs(value - ours[label][metric])
            for label, found in entry["scores"].items()
            for metric, value in found.items()
        ]
        if ours
        else []
    )
    return [
        name,
        f"{entry['seconds']:.2f} ({min(turns):.2f} to {max(turns):.2f})",
        f"{entry['cpu_seconds'] / entry['seconds']:.2f}",
        f"{entry['peak_bytes'] / 2**30:.2f} GiB",
        f"{(entry['peak_bytes'] - entry['floor_bytes']) / 2**30:.2f} GiB",
        f"{max(pairs):.0e}" if pairs else "",
    ]


def _shown(result: Run) -> str:
    if "error" in result:
        return str(result["error"])
    return f"{result['seconds']:.2f} s, {result['peak_bytes'] / 2**30:.2f} GiB"


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure time and memory of surface scores, and write them down.")
    parser.add_argument("--size", type=int, default=512, help="voxels along each side of the volume")
    parser.add_argument("--repeat", type=int, default=5, help="turns of every tool, of which the median counts")
    parser.add_argument("--cases", type=int, help="score that many small masks, in place of a volume")
    parser.add_argument("--side", type=int, default=SIDE, help="pixels along each side of the small masks")
    parser.add_argument("--only", nargs="+", choices=list(TOOLS), metavar="TOOL", help=f"some of {', '.join(TOOLS)}")
    parser.add_argument("--note", default="", help="a sentence under the table, such as what else was running")
    results = ROOT / "benchmarks" / "results"
    parser.add_argument("--out", type=Path, default=results, metavar="DIR", help="for the table")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--worker", choices=[*TOOLS, LOOP], help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    if min(asked.size, asked.side) < 16 or asked.repeat < 1 or (asked.cases is not None and asked.cases < 1):
        parser.error("--size and --side are 16 or more, --repeat and --cases 1 or more")
    if asked.cases and asked.only:
        parser.error("--only is for a volume; the small masks are scored with all tools")
    return asked


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
