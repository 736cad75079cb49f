"""Seconds of training until held-back cases are segmented well: uvea beside Keras, MONAI and nnU-Net.

    python benchmarks/time_to_dice.py --only nuclei wbc_dataset1
    python benchmarks/time_to_dice.py --only drive --peer keras uvea

The clock of a tool runs from the start of its process, reading and planning included; it stands still while its
predictions for the held-back cases are made, which `uvea.metrics` scores for all. Peers train on, and are scored now
and then. uvea plans its training for the time that it has, so it is trained anew for every time, and scored by its
weights at the end. Runs of one day are merged: datasets and tools can be run one after the other.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from accuracy import ROOT, ROWS, BenchmarkError, log, prepare, with_last_weights
from numpy.typing import NDArray
from peer_data import Case, write_cases
from turns import (
    FOLDER,
    Child,
    Run,
    Setting,
    Tool,
    about,
    begun,
    command,
    common_arguments,
    exit_code,
    record,
    recorded,
    run_main,
    setting_of,
    succeeded,
    table,
)

import uvea
from uvea.datasets.synthetic import write_dataset

EPOCHS = 10
"""Of the Keras tutorial."""

GOAL = 8.0
"""uvea is to need no more than this part of the tutorial's time for the tutorial's Dice."""

PEERS = ("keras", "uvea", "BasicUNet", "DynUNet", "nnU-Net")
"""In the order in which they run: uvea is told what Keras reached."""

SECONDS = (10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)
"""Times that uvea is trained for and at which MONAI is scored, up to the longest that is asked for."""

Mask = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Data:
    """One dataset of the benchmark."""

    name: str
    """Of its folder, or of its kind where it is synthetic."""

    values: tuple[int, ...]
    """Mask values of the classes, background first; one alone: everything else is class 1."""

    levels: tuple[float, ...]
    """Of Dice, rising."""

    how: str
    """How a Keras tutorial gets its square images: see `peers_keras.curve`."""

    side: int = 128
    patch: tuple[int, ...] = (96, 96)
    """Of MONAI's recipe."""

    synthetic: bool = False
    within: str | None = None
    """Folder with the region that counts."""

    @property
    def classes(self) -> int:
        """Background included."""
        return max(2, len(self.values))


SETS = (
    Data(name="nuclei", values=(0, 255), levels=(0.90, 0.95, 0.97), how="cut", synthetic=True),
    Data(name="membranes", values=(0, 255), levels=(0.90, 0.95, 0.97), how="cut", synthetic=True),
    Data(name="vessels", values=(0, 255), levels=(0.70, 0.80, 0.85), how="cut", synthetic=True),
    # Volumes are cut into slices for the tutorial, filled up to squares: enlarged, they would take four times as long.
    Data(
        name="blobs", values=(0, 1, 2), levels=(0.7, 0.8, 0.9), how="pad", side=64, patch=(16, 64, 64), synthetic=True
    ),
    Data(name="isbi2012_em", values=(0, 255), levels=(0.90, 0.93, 0.95), how="cut"),
    Data(name="drive", values=(0, 255), levels=(0.70, 0.76, 0.80), how="cut", within="fov"),
    Data(name="wbc_dataset1", values=(0, 128, 255), levels=(0.85, 0.90, 0.94), how="resize"),
    Data(name="dsb2018_stage1", values=(0,), levels=(0.80, 0.85, 0.88), how="resize"),
    Data(name="msd_hippocampus", values=(0, 1, 2), levels=(0.80, 0.84, 0.86), how="pad", side=64, patch=(32, 48, 32)),
)
"""Tutorials make nuclei and cells smaller, and cut what has fine lines."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A dataset as the tools get it."""

    data: Data
    folder: Path
    """With train/ and val/, for uvea."""

    train: Path
    """For peers, see `peer_data`."""

    held: Path
    truths: dict[str, Mask]
    within: dict[str, NDArray[np.bool_]]


Score = Callable[[dict[str, Mask]], float]


def main(words: Sequence[str] | None = None) -> int:
    """Measure, and merge the runs into the files of the day.

    Returns:
        0 when every installed tool came to its end, whatever it reached; 1 when one failed.
    """
    asked = _arguments(words)
    setting = (
        setting_of(asked) if set(asked.peer) - {"uvea"} else Setting(peers=asked.peers_python, threads=asked.threads)
    )
    chosen = [data for data in SETS if data.name in asked.only]
    absent = [d.name for d in chosen if not (d.synthetic or (asked.data_root / d.name / "images").is_dir())]
    if absent:
        raise BenchmarkError(f"no {', '.join(absent)} in {asked.data_root}: give --data-root, or set UVEA_DATA")
    before = [
        run for path in sorted((asked.out or FOLDER / "results").glob("time_to_dice-*.json")) for run in recorded(path)
    ]
    runs: list[Run] = []
    for data in chosen:
        with tempfile.TemporaryDirectory(prefix="uvea-time-to-dice-") as work:
            ready = prepared(data, Path(work), root=asked.data_root, quick=asked.quick)
            for seed in range(asked.repeat):
                for peer in asked.peer:
                    log(f"{data.name}: {peer}, seed {seed}")
                    known = tutorial([*before, *runs], data.name, seed) if peer == "uvea" else None
                    found = measure(peer, ready, Path(work), asked, setting, seed=seed, tutorial=known)
                    runs.append({**begun(asked), "data": data.name, "tool": peer, "seed": seed, **found})
                    # At once: the next may take an hour, and may be broken off.
                    record("time_to_dice", runs[-1:], asked, as_markdown)
    return exit_code(runs)


def measure(
    peer: str,
    ready: Prepared,
    work: Path,
    asked: argparse.Namespace,
    setting: Setting,
    *,
    seed: int,
    tutorial: tuple[float, float] | None,
) -> Run:
    """The curve of one tool: seconds and Dice, in order. What fails has an "error"."""
    limit = asked.seconds

    def score(masks: dict[str, Mask]) -> float:
        return mean_dice(ready, masks)

    folder = Path(tempfile.mkdtemp(prefix=f"{peer}-", dir=work))
    enough = ready.data.levels[-1]
    try:
        if peer == "uvea":
            times = ladder(limit, tutorial)
            wanted = max(enough, tutorial[1]) if tutorial else enough
            return {"curve": list(uvea_curve(ready, folder, times, setting, seed=seed, enough=wanted))}
        tool = tool_of(peer, ready, folder, limit=limit, epochs=asked.epochs, seed=seed)
        return peer_curve(tool, setting, score=score, enough=1.0 if peer == "keras" else enough)
    except BenchmarkError as error:
        log(f"{ready.data.name}: {peer}: {error}")
        return {"error": str(error)}


def tool_of(peer: str, ready: Prepared, folder: Path, *, limit: float, epochs: int, seed: int) -> Tool:
    """The job of a peer."""
    data = ready.data
    given: dict[str, Any] = {
        "train": str(ready.train),
        "held": str(ready.held),
        "out": str(folder / "masks.npz"),
        "classes": data.classes,
        "seed": seed,
    }
    if peer == "keras":
        given |= {"side": data.side, "how": data.how, "epochs": epochs}
        return Tool(job="peers_keras:curve", settings=given, peer=True)
    if peer == "nnU-Net":
        # Its predictions take minutes on a processor, so there are few.
        given |= {"work": str(folder / "work"), "seconds": [limit / 2, limit]}
        return Tool(job="peers_nnunet:curve", settings=given, peer=True)
    given |= {"kind": peer, "patch": data.patch, "seconds": [*(s for s in SECONDS if s < limit), limit]}
    return Tool(job="peers_torch:curve", settings=given, peer=True)


def peer_curve(tool: Tool, setting: Setting, *, score: Score, enough: float) -> Run:
    """Let a peer train until it is good enough or its job ends."""
    child = Child(tool, setting)
    try:
        first = child.answer()
        start = first.pop("start_seconds")
        curve: list[Run] = []
        while not curve or curve[-1]["dice"] < enough:
            found = child.ask()
            if "ended" in found:
                break
            with np.load(found.pop("masks")) as file:
                dice = score({name: file[name] for name in file.files})
            curve.append({**found, "seconds": start + found["seconds"], "dice": dice})
            log(f"  {curve[-1]['seconds']:.1f} s, step {found['step']}: Dice {dice:.4f}")
        return {"start_seconds": start, "facts": first, "versions": first.pop("versions"), "curve": curve}
    finally:
        child.close()


def uvea_curve(
    ready: Prepared,
    folder: Path,
    times: Sequence[float],
    setting: Setting,
    *,
    seed: int,
    enough: float,
) -> Iterator[Run]:
    """Train for each of `times`, by the command line, until the result is good enough."""
    for number, seconds in enumerate(times):
        turn = folder / f"{number}"
        turn.mkdir()
        words = ["--minutes", f"{seconds / 60:.6g}", "--seed", str(seed), "--quiet"]
        done = succeeded(command(["train", str(ready.folder), "--out", str(turn / "model"), *words], setting))
        dice = last_dice(ready, turn, setting)
        log(f"  {done.seconds:.1f} s of {seconds:.1f} s: Dice {dice:.4f}")
        yield {"seconds": done.seconds, "asked_seconds": seconds, "dice": dice}
        if dice >= enough:
            return


def last_dice(ready: Prepared, folder: Path, setting: Setting) -> float:
    """The mean Dice of the held-back cases by the last weights of folder/model; "last" and "masks" are put beside it.

    Raises:
        BenchmarkError: if a command failed.
    """
    last, masks = folder / "last", folder / "masks"
    with_last_weights(folder / "model", last)
    succeeded(command(["predict", str(last), str(ready.folder / "val/images"), "--out", str(masks), "-q"], setting))
    made = {_case_name(path): classes_of(uvea.read(path).array[0], ready.data) for path in _files(masks)}
    return mean_dice(ready, made)


def ladder(limit: float, tutorial: tuple[float, float] | None) -> list[float]:
    """Times to train for, rising; with an eighth of the tutorial's time where that is known."""
    times = {*(seconds for seconds in SECONDS if seconds < limit), limit}
    if tutorial is not None:
        times.add(round(tutorial[0] / GOAL, 1))
    return sorted(times)


def tutorial(runs: Sequence[Run], data: str, seed: int) -> tuple[float, float] | None:
    """Seconds and Dice of the newest Keras run with this seed, after its last epoch."""
    found = [r for r in runs if (r["data"], r["tool"], r["seed"]) == (data, "keras", seed) and "error" not in r]
    return (found[-1]["curve"][-1]["seconds"], found[-1]["curve"][-1]["dice"]) if found else None


def prepared(data: Data, work: Path, *, root: Path, quick: bool) -> Prepared:
    """Write a dataset for all tools. With `quick`, few cases of it."""
    folder = work / "data"
    region: Path | None = None
    if data.synthetic:
        counts = {"train": 4, "val": 2} if quick else {"train": 24, "val": 8}
        for part, seed in (("train", 42), ("val", 43)):
            write_dataset(folder / part, kind=data.name, count=counts[part], seed=seed)
            for path in [*(folder / part).glob("*/*")]:  # names of the two sides must differ
                path.rename(path.with_name(f"{part}_{path.name}"))
    else:
        (row,) = [row for row in ROWS if row.data == data.name]
        prepare(row, 1, data=(root / data.name).resolve(), folder=work)
        region = root / data.name / data.within if data.within else None
        if quick:
            for part, keep in (("train", 6), ("val", 3)):
                for kind in ("images", "masks"):
                    for path in _files(folder / part / kind)[keep:]:
                        path.unlink()
    parts: dict[str, list[Case]] = {part: _cases(folder / part, data) for part in ("train", "val")}
    for part, cases in parts.items():
        write_cases(work / f"{part}.npz", cases)
    names = {_case_name(path): path for path in _files(folder / "val/images")}
    return Prepared(
        data=data,
        folder=folder,
        train=work / "train.npz",
        held=work / "val.npz",
        truths={name: mask for name, _, mask in parts["val"]},
        within={n: uvea.read(region / p.name).array[0] > 0 for n, p in names.items()} if region else {},
    )


def classes_of(values: NDArray[Any], data: Data) -> Mask:
    """Mask values (...) to classes.

    Raises:
        BenchmarkError: for a value that belongs to no class.
    """
    if len(data.values) == 1:
        others: Mask = (values != data.values[0]).astype(np.uint8)
        return others
    order = np.argsort(data.values)
    known = np.array(data.values)[order]
    places = np.clip(np.searchsorted(known, values), 0, len(known) - 1)
    if (known[places] != values).any():
        raise BenchmarkError(f"a mask of {data.name} has values besides {data.values}")
    found: Mask = order[places].astype(np.uint8)
    return found


def mean_dice(ready: Prepared, masks: dict[str, Mask]) -> float:
    """The mean over cases of the mean over classes but the background, inside the region that counts.

    Raises:
        BenchmarkError: if a case was not predicted.
    """
    if missing := sorted(ready.truths.keys() - masks.keys()):
        raise BenchmarkError(f"no mask for {missing[0]}")
    return fmean(
        fmean(
            uvea.metrics.dice(truth == label, masks[name] == label, within=ready.within.get(name))
            for label in range(1, ready.data.classes)
        )
        for name, truth in ready.truths.items()
    )


def seconds_to(run: Run, level: float) -> float | None:
    """The first time at which a run had this Dice; None if it never had, or failed."""
    return next((point["seconds"] for point in run.get("curve", []) if point["dice"] >= level), None)


def as_markdown(day: str, runs: Sequence[Run]) -> str:
    """A table per dataset: the newest run of each tool and seed."""
    newest = {(run["data"], run["tool"], run["seed"]): run for run in runs}
    lines = [
        f"# Time to Dice, {day}",
        "",
        "Written by `benchmarks/time_to_dice.py`. Seconds from the start of the process, reading and planning",
        "included, until the mean Dice of the held-back cases reaches a level; making predictions to be scored is not",
        "counted. uvea is trained anew for each time, its last weights count. Medians where there are several seeds; a",
        f"dash where at least half of the runs do not get there. The tutorial: what Keras reaches in {EPOCHS} epochs.",
    ]
    for data in SETS:
        mine = [run for (name, _, _), run in newest.items() if name == data.name]
        if mine:
            lines += ["", f"## {data.name}", "", *_curves(data, mine), *about(mine[-1] | {"tools": _versions(mine)})]
    return "\n".join(lines) + "\n"


def _curves(data: Data, runs: Sequence[Run]) -> list[str]:
    rows = []
    tutorials = {run["seed"]: tutorial(runs, data.name, run["seed"]) for run in runs}
    for peer in PEERS:
        mine = [run for run in runs if run["tool"] == peer]
        if not mine:
            continue
        if failed := [run["error"] for run in mine if "error" in run]:
            rows.append([peer, failed[-1], *[""] * (len(data.levels) + 3)])
            continue
        cells = [_median_text([seconds_to(run, level) for run in mine]) for level in data.levels]
        known = [(run, tutorials[run["seed"]]) for run in mine if tutorials[run["seed"]] is not None]
        cells.append(_median_text([seconds_to(run, found[1]) for run, found in known if found]) if known else "")
        last = f"{median(run['curve'][-1]['dice'] for run in mine):.4f}"
        spent = f"{median(run['curve'][-1]['seconds'] for run in mine):.0f}"
        rows.append([peer, str(len(mine)), *cells, last, spent])
    levels = "|".join(f"s to {level:g}" for level in data.levels)
    lines = table(f"tool|runs|{levels}|s to the tutorial's Dice|last Dice|after s", rows)
    ratios = [ratio for seed in tutorials if (ratio := tutorial_ratio(runs, data.name, seed)) is not None]
    if ratios:
        said = f"uvea reaches the Dice of the tutorial in 1/{median(ratios):.1f} of its time (goal: 1/{GOAL:g} or less)"
        lines += ["", f"{said}; {len(ratios)} pairs of runs."]
    steps = [f"{r['tool']} {r['curve'][-1]['iteration_seconds']:.2f} s" for r in runs if _iterated(r)]
    return [*lines, "", f"Seconds of an iteration: {', '.join(steps)}."] if steps else lines


def tutorial_ratio(runs: Sequence[Run], data: str, seed: int) -> float | None:
    """Seconds of the tutorial by those that uvea needs for the same Dice; None where one is not known."""
    known = tutorial(runs, data, seed)
    ours = [run for run in runs if (run["data"], run["tool"], run["seed"]) == (data, "uvea", seed)]
    if known is None or not ours or (needed := seconds_to(ours[-1], known[1])) is None:
        return None
    return known[0] / needed


def _iterated(run: Run) -> bool:
    return bool(run.get("curve")) and "iteration_seconds" in run["curve"][-1]


def _median_text(values: Sequence[float | None]) -> str:
    numbers = [float("inf") if value is None else value for value in values]
    return f"{median(numbers):.1f}" if median(numbers) < float("inf") else "–"


def _versions(runs: Sequence[Run]) -> dict[str, Run]:
    return {run["tool"]: {"versions": run.get("versions", {})} for run in runs}


def _cases(folder: Path, data: Data) -> list[Case]:
    """For peers, which take no mixture of grey and coloured images: where there is one, grey becomes three channels."""
    images, masks = _files(folder / "images"), _files(folder / "masks")
    arrays = [uvea.read(image).array for image in images]
    most = max(map(len, arrays))
    return [
        (
            _case_name(image),
            np.repeat(array, most, axis=0) if len(array) == 1 else array,
            classes_of(uvea.read(mask).array[0], data),
        )
        for image, array, mask in zip(images, arrays, masks, strict=True)
    ]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name[0] != ".")


def _case_name(path: Path) -> str:
    return path.name.split(".")[0]


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    names = [data.name for data in SETS]
    parser = argparse.ArgumentParser(description="Measure seconds of training to levels of Dice beside other tools.")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="DATA", help=f"some of: {', '.join(names)}"
    )
    parser.add_argument("--peer", nargs="+", choices=PEERS, metavar="TOOL", help=f"some of: {', '.join(PEERS)}")
    parser.add_argument("--seconds", type=float, help="longest training of every tool but Keras; 640, 20 with --quick")
    root = os.environ.get("UVEA_DATA", ROOT.parent / "shared" / "data")
    parser.add_argument(
        "--data-root", type=Path, default=Path(root), metavar="DIR", help="of the datasets; or UVEA_DATA"
    )
    common_arguments(parser, repeat=1)
    asked = parser.parse_args(words)
    asked.seconds = asked.seconds or (20.0 if asked.quick else SECONDS[-1])
    asked.epochs = 2 if asked.quick else EPOCHS
    # In the order of PEERS, whatever the order of the words: uvea is told what Keras reached.
    asked.peer = [peer for peer in PEERS if peer in (asked.peer or PEERS)]
    return asked


if __name__ == "__main__":
    run_main(main)
