"""Run the accuracy table with the commands that a user types, and write down what came out.

    data -> train/ and val/ folders of links -> uvea train, predict, evaluate -> results/accuracy-DATE.json and .md

The held-back block is the val/ folder, so that the whole rest is trained on and no setting but the minutes is
needed. But `uvea train` keeps the weights that score best on val/, so the figures that count here are those of
the last weights, which the block never chose; those of the best weights stand beside them. What uvea decides is
not known here: models are made and scored by its command line alone.

    python benchmarks/accuracy.py
    python benchmarks/accuracy.py --only drive --fold 2 3
"""

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
GOAL_MINUTES = 10.0
"""Training time that the goals are for."""

SHARE = 0.2
"""Of the cases held back, where a dataset does not say how many."""

SEED = 42
ERROR_LINES = 12
"""Last lines of a failed command that are kept."""

KINDS = ("last", "best")
"""Weights that are scored, those that count first."""

Run = dict[str, Any]
"""One run of one row as it is in the results file; see `run_row`."""


class BenchmarkError(Exception):
    """Something that the caller can mend, in one line."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A mean Dice over cases, and what it must reach."""

    name: str
    labels: tuple[int, ...]
    """Classes averaged within a case; 0 is the background."""

    goal: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One dataset of the table."""

    data: str
    """Name of its folder, with images/ and masks/ of equal file names."""

    split: str
    """What is held back, in words."""

    hold_back: Callable[[Sequence[str], int], Sequence[str]]
    """Sorted file names and fold, counted from 1, to those held back."""

    figures: tuple[Figure, ...]
    folds: int = 1
    within: str | None = None
    """Folder with the region that counts, beside images/."""

    foreground: bool = False
    """Masks number their objects, and the row is about what is an object at all: 0 and 255 are given instead."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A command that came to its end."""

    code: int
    seconds: float
    """Wall time."""

    cpu_seconds: float
    """Processor time, of all cores together."""

    peak_memory_bytes: int
    """Largest resident memory of the process."""

    text: str
    """What it wrote, stdout and stderr together."""


Call = Callable[[Sequence[str]], Finished]
"""Runs `uvea` with these words."""


def drawn(names: Sequence[str], fold: int) -> list[str]:
    """A seeded fifth of the names, the same on every machine: the first of a permutation, for fold 2 the second."""
    order = np.random.default_rng(SEED).permutation(len(names))
    first, last = (round(SHARE * number * len(names)) for number in (fold - 1, fold))
    return sorted(names[i] for i in order[first:last])


ROWS = (
    Row(
        data="isbi2012_em",
        split="last six slices",
        hold_back=lambda names, fold: names[-6:],
        figures=(Figure(name="cell", labels=(1,), goal=0.955), Figure(name="membrane", labels=(0,), goal=0.80)),
    ),
    Row(
        data="drive",
        split="every fifth patient, from the first in fold 1 to the fifth in fold 5",
        hold_back=lambda names, fold: names[fold - 1 :: 5],
        figures=(Figure(name="vessel in the field of view", labels=(1,), goal=0.805),),
        folds=5,
        within="fov",
    ),
    Row(
        data="wbc_dataset1",
        split="last 20 %",
        hold_back=lambda names, fold: names[-round(SHARE * len(names)) :],
        figures=(Figure(name="cytoplasm and nucleus", labels=(1, 2), goal=0.945),),
    ),
    Row(
        data="dsb2018_stage1",
        split=f"20 % drawn with seed {SEED}",
        hold_back=drawn,
        figures=(Figure(name="nuclei as foreground", labels=(1,), goal=0.91),),
        foreground=True,
    ),
    Row(
        data="msd_hippocampus",
        split=f"20 % of the patients, drawn with seed {SEED}",
        hold_back=drawn,
        figures=(Figure(name="anterior and posterior part", labels=(1, 2), goal=0.86),),
    ),
)


def main(words: Sequence[str] | None = None) -> int:
    """Run the table, or some rows of it, and merge what came out into the files of the day.

    Returns:
        0 when every command ran, whatever the figures are; 1 when one failed; 2 when nothing could be started.
    """
    asked = _arguments(words)
    try:
        chosen = [row for row in ROWS if row.data in (asked.only or [row.data])]
        runs = [(row, fold) for row in chosen for fold in (asked.fold or range(1, row.folds + 1)) if fold <= row.folds]
        if absent := [row.data for row in chosen if not (asked.data_root / row.data / "images").is_dir()]:
            raise BenchmarkError(f"no {', '.join(absent)} in {asked.data_root}: give --data-root, or set UVEA_DATA")
        asked.out.mkdir(parents=True, exist_ok=True)
        machine = describe_machine()
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 2
    results = asked.out / f"accuracy-{datetime.now(UTC):%Y-%m-%d}.json"
    failed = False
    with nullcontext(asked.work) if asked.work else tempfile.TemporaryDirectory(prefix="uvea-accuracy-") as work:
        Path(work).mkdir(parents=True, exist_ok=True)
        for row, fold in runs:
            folder = Path(tempfile.mkdtemp(prefix=f"{row.data}-{fold}-", dir=work)).resolve()
            log(f"{row.data}, fold {fold} of {row.folds}: held back {row.split}; work in {folder}")
            data = (asked.data_root / row.data).resolve()
            run = run_row(row, fold, data=data, folder=folder, minutes=asked.minutes, call=run_uvea)
            save(results, {**run, "machine": machine})
            failed = failed or run["error"] is not None
            log(f"{row.data}, fold {fold} of {row.folds}: {run['error'] or figures_text(row, run)}")
    log(f"table in {results.with_suffix('.md')}")
    return 1 if failed else 0


def run_row(row: Row, fold: int, *, data: Path, folder: Path, minutes: float, call: Call) -> Run:
    """Prepare, train, predict and score one fold of a dataset; a command that fails ends it.

    Args:
        row: what to run.
        fold: counted from 1.
        data: folder of the dataset.
        folder: empty; gets links to the data, the model, masks and scores.
        minutes: of training.
        call: runs uvea: `run_uvea`.

    Returns:
        Plain data: row, commit, time, commands with what they took, steps, and per kind of weights
        ("last", "best") Dice per case and label; "error" is None or the text of what failed.
    """
    before = state_of_code()
    run: Run = {
        "data": row.data,
        "fold": fold,
        "folds": row.folds,
        "split": row.split,
        "minutes": minutes,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commands": [],
        "steps": None,
        "dice": {},
        "error": None,
    }
    model, last, held = folder / "model", folder / "model-last", folder / "data" / "val"

    def step(name: str, *words: str | Path) -> None:
        texts = [str(word) for word in words]
        log(f"{row.data}, fold {fold} of {row.folds}: uvea {' '.join(texts)}")
        done = call(texts)
        run["commands"].append(
            {
                "name": name,
                "command": ["uvea", *map(placeless, texts)],
                "exit_code": done.code,
                "seconds": round(done.seconds, 1),
                "cpu_seconds": round(done.cpu_seconds, 1),
                "peak_memory_bytes": done.peak_memory_bytes,
            }
        )
        if done.code != 0:
            tail = "\n".join(done.text.strip().splitlines()[-ERROR_LINES:])
            raise BenchmarkError(f"uvea {texts[0]} ended with exit code {done.code}:\n{tail}")

    def placeless(text: str) -> str:
        # Results are shared: where things lay on this machine is nobody's concern.
        for place, name in ((folder, "WORK"), (data, "DATA"), (ROOT, ".")):
            text = text.replace(str(place), name)
        return text

    try:
        run["held_back"] = prepare(row, fold, data=data, folder=folder)
        step("train", "train", folder / "data", "--out", model, "--minutes", f"{minutes:g}")
        run["steps"] = steps_of(model)
        with_last_weights(model, last)
        within = ["--within", str(data / row.within)] if row.within else []
        for kind, weights in (("last", last), ("best", model)):
            masks, scores = folder / f"masks-{kind}", folder / f"scores-{kind}"
            step(f"predict {kind}", "predict", weights, held / "images", "--out", masks)
            step(f"evaluate {kind}", "evaluate", masks, held / "masks", "--out", scores, *within)
            run["dice"][kind] = dice_of(scores / "scores.csv")
    except BenchmarkError as error:
        run["error"] = placeless(str(error))
    after = state_of_code()
    run["commit"] = before if after == before else f"{before}, {after} at the end"
    return run


def prepare(row: Row, fold: int, *, data: Path, folder: Path) -> list[str]:
    """Link a dataset into folder/data/train and folder/data/val; names what is in val.

    Masks of which only the foreground counts are written anew, with 0 and 255.

    Raises:
        BenchmarkError: images and masks that have not the same names, or nothing on one side.
    """
    names, masks = (sorted(p.name for p in (data / kind).iterdir() if p.name[0] != ".") for kind in ("images", "masks"))
    if names != masks:
        raise BenchmarkError(f"{data} has other names in images/ than in masks/: {sorted(set(names) ^ set(masks))[:3]}")
    held = set(row.hold_back(names, fold))
    if not 0 < len(held) < len(names):
        raise BenchmarkError(f"{data} has {len(names)} images, of which {len(held)} are held back: a side is empty")
    for part in ("train", "val"):
        for kind in ("images", "masks"):
            (folder / "data" / part / kind).mkdir(parents=True)
    for name in names:
        for kind in ("images", "masks"):
            source, target = data / kind / name, folder / "data" / ("val" if name in held else "train") / kind / name
            if row.foreground and kind == "masks":
                Image.fromarray(np.where(np.asarray(Image.open(source)) > 0, np.uint8(255), np.uint8(0))).save(target)
            else:
                target.symlink_to(source.resolve())
    return sorted(held)


def with_last_weights(model: Path, copy: Path) -> None:
    """Make a model folder that predicts with the weights at the end of the training.

    Raises:
        BenchmarkError: if a file of the model is missing.
    """
    copy.mkdir()
    for source, target in (("plan.json", "plan.json"), ("last.safetensors", "weights.safetensors")):
        if not (model / source).is_file():
            raise BenchmarkError(f"{model} has no {source}")
        shutil.copyfile(model / source, copy / target)


def steps_of(model: Path) -> int:
    """Steps of a finished training: those of its last validation, which is after the last step."""
    try:
        with open(model / "history.csv", newline="") as file:
            return int(float([line["step"] for line in csv.DictReader(file)][-1]))
    except (OSError, LookupError, ValueError) as error:
        raise BenchmarkError(f"{model / 'history.csv'} does not tell the steps: {error}") from error


def dice_of(path: Path) -> dict[str, dict[str, float]]:
    """Case to label to Dice, background included, from the scores.csv of `uvea evaluate`.

    Labels are text, "0" the background, as they will be in the results file.
    """
    found: dict[str, dict[str, float]] = {}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                if line["metric"] == "dice":
                    found.setdefault(line["case"], {})[line["label"]] = float(line["value"])
    except (OSError, LookupError, ValueError) as error:
        raise BenchmarkError(f"{path} cannot be read as scores: {error}") from error
    return found


def per_case(figure: Figure, dice: dict[str, dict[str, float]]) -> list[float]:
    """The figure of each case: the mean Dice over the labels that it is about."""
    return [fmean(labels[str(label)] for label in figure.labels) for labels in dice.values()]


def run_uvea(
    words: Sequence[str], *, environment: Mapping[str, str] | None = None, limit: float | None = None
) -> Finished:
    """Run `uvea` of this working tree, with what it writes kept; Ctrl-C ends it, too, and `limit` seconds do."""
    with tempfile.TemporaryFile() as output:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "uvea", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment() if environment is None else environment,
        )
        watch = threading.Timer(limit or 0, process.kill)
        if limit is not None:
            watch.start()
        try:
            # Not process.wait: only wait4 tells the memory of this one child.
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        finally:
            watch.cancel()
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="replace")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return Finished(
        code=process.returncode,
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_memory_bytes=usage.ru_maxrss * unit,
        text=text,
    )


def _environment() -> dict[str, str]:
    """Ours, with the package of this working tree before any that is installed: its commit is what is written down."""
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory and versions, as the commands will see them.

    Asked in a process of its own: with torch in it, this one would be the floor of every peak memory, because a
    child counts the memory of the process that it was started from.
    """
    code = (
        "import json, platform, numpy, torch, uvea\n"
        "from dataclasses import asdict\n"
        "from uvea.models.device import describe_machine, find_device\n"
        "versions = {'uvea': uvea.__version__, 'torch': torch.__version__, 'numpy': numpy.__version__,"
        " 'python': platform.python_version()}\n"
        "facts = {**asdict(describe_machine(find_device())), 'threads': torch.get_num_threads()}\n"
        "print(json.dumps({**facts, 'system': platform.platform(), 'versions': versions}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=_environment(), capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchmarkError(f"uvea does not start: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout)
    found["free_memory_bytes"] = found.pop("memory_bytes")
    found["memory_bytes"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return found


def state_of_code() -> str:
    """The commit, with "-dirty" where the working tree differs from it; the results themselves do not count."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout

    try:
        changed = git("status", "--porcelain", "--", ".", ":(exclude)benchmarks/results")
        return git("rev-parse", "HEAD").strip() + ("-dirty" if changed.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def save(path: Path, run: Run) -> None:
    """Add a run to the results of the day, and write its table anew. Runs that are there stay."""
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []
    runs.append(run)
    day = path.stem.removeprefix("accuracy-")
    _write(path, json.dumps({"date": day, "runs": runs}, indent=1, ensure_ascii=False) + "\n")
    _write(path.with_suffix(".md"), as_markdown(day, runs))


def as_markdown(day: str, runs: Sequence[Run]) -> str:
    """The table of a day: the newest run of each row, what each run took, and what failed."""
    newest = {(run["data"], run["minutes"], run["fold"]): run for run in runs}
    shown = sorted(newest.values(), key=lambda run: (_place(run), run["minutes"], run["fold"]))
    machines = list(dict.fromkeys(_machine_text(run["machine"]) for run in runs))
    lines = [
        f"# Accuracy, {day}",
        "",
        "Mean Dice over the held-back cases ± standard deviation between them. **Last weights** count: the held-back",
        "block had no say in them. Best weights are those that it chose. Written by `benchmarks/accuracy.py`.",
        "",
        *_table(
            "data|held back|cases|minutes|steps|figure|last weights|best weights|goal|reached",
            [line for row in ROWS for line in _figure_lines(row, [run for run in shown if run["data"] == row.data])],
        ),
        "",
        "## What each run took",
        "",
        "Seconds are wall time of the whole command; predict and evaluate with the last weights. Memory (the peak,",
        "resident) and cores used (processor time by wall time) are those of `uvea train`: clearly fewer cores than",
        "the machine has mean that something else ran.",
        "",
        *_table(
            "data|fold|started|commit|train s|predict s|evaluate s|memory|cores used|machine",
            [_cost_line(run, machines, earlier=run not in shown) for run in runs],
        ),
        "",
        *(f"{number}. {text}" for number, text in enumerate(machines, start=1)),
    ]
    if failed := [run for run in runs if run["error"]]:
        lines += ["", "## What failed"]
        for run in failed:
            lines += ["", f"{run['data']}, fold {run['fold']}, {run['started']}", "", "```", run["error"], "```"]
    return "\n".join(lines) + "\n"


def _figure_lines(row: Row, runs: Sequence[Run]) -> Iterator[list[str]]:
    for run in runs:
        whole = row.folds == 1
        yield from _lines_of(row, [run], held_back=row.split if whole else f"fold {run['fold']}", judged=whole)
    if row.folds == 1:
        return
    for minutes in sorted({run["minutes"] for run in runs}):
        done = [run for run in runs if run["minutes"] == minutes]
        complete = len(done) == row.folds and not any(run["error"] for run in done)
        if complete:
            yield from _lines_of(row, done, held_back=f"all {row.folds} folds: {row.split}", judged=True)


def _lines_of(row: Row, runs: Sequence[Run], *, held_back: str, judged: bool) -> Iterator[list[str]]:
    """One line per figure, over the cases of all runs together."""
    minutes, steps = runs[0]["minutes"], ", ".join(str(run["steps"] or "–") for run in runs)
    for figure in row.figures:
        found = {kind: [v for run in runs for v in per_case(figure, run["dice"].get(kind, {}))] for kind in KINDS}
        goal, reached = "", ""
        if judged:
            goal = f"{figure.goal:g}"
            reached = "failed" if not found["last"] else "yes" if fmean(found["last"]) >= figure.goal else "no"
            if minutes > GOAL_MINUTES:
                reached = f"{minutes:g} minutes"  # more than the goal allows: neither reached nor missed
        cells = [row.data, held_back, str(len(found["last"]) or "–"), f"{minutes:g}", steps, figure.name]
        yield [*cells, *(_mean_text(found[kind]) for kind in KINDS), goal, reached]


def _cost_line(run: Run, machines: Sequence[str], *, earlier: bool) -> list[str]:
    took = {command["name"]: command for command in run["commands"]}
    seconds = [f"{took[n]['seconds']:.1f}" if n in took else "–" for n in ("train", "predict last", "evaluate last")]
    memory = f"{took['train']['peak_memory_bytes'] / 2**30:.1f} GiB" if "train" in took else "–"
    commit = ", ".join(_short(part) for part in run["commit"].split(", "))
    fold = f"{run['fold']} of {run['folds']}" + (", earlier" if earlier else "")
    place = str(machines.index(_machine_text(run["machine"])) + 1)
    cores = f"{took['train']['cpu_seconds'] / took['train']['seconds']:.2f}" if "train" in took else "–"
    return [run["data"], fold, run["started"], commit, *seconds, memory, cores, place]


def _short(commit: str) -> str:
    """Ten digits of the commit, with what was said after it: "1a2b3c4d5e-dirty"."""
    head, said = commit[:40], commit[40:]
    return (head[:10] if len(head) == 40 else head) + said


def _machine_text(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    parts = [f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads"]
    parts += [f"{machine['memory_bytes'] / 2**30:.1f} GiB", machine["accelerator"] or "no accelerator"]
    return f"{', '.join(parts)}; {machine['system']}; {versions}"


def figures_text(row: Row, run: Run) -> str:
    """All figures of a run in one line."""
    dice = run["dice"]
    return "; ".join(
        f"{figure.name} " + ", ".join(f"{fmean(per_case(figure, dice[kind])):.4f} ({kind} weights)" for kind in KINDS)
        for figure in row.figures
    )


def _mean_text(values: Sequence[float]) -> str:
    if not values:
        return "–"
    return f"{fmean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


def _place(run: Run) -> int:
    return [row.data for row in ROWS].index(run["data"])


def _table(headings: str, lines: Sequence[Sequence[str]]) -> list[str]:
    names = headings.split("|")
    return [f"| {' | '.join(cells)} |" for cells in (names, ["---"] * len(names), *lines)]


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def log(text: str) -> None:
    """One line of stdout with the time of day."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the accuracy table and write it down.")
    names = [row.data for row in ROWS]
    data = Path(os.environ.get("UVEA_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data-root", type=Path, default=data, metavar="DIR", help="folder of the datasets")
    parser.add_argument("--only", nargs="+", choices=names, metavar="DATA", help=f"some of {', '.join(names)}")
    folds = max(row.folds for row in ROWS)
    parser.add_argument("--fold", nargs="+", type=int, choices=range(1, folds + 1), help="some folds, with --only")
    parser.add_argument("--minutes", type=float, default=GOAL_MINUTES, help="of each training; the goals are for 10")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep models, masks and scores here")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR", help="for the table"
    )
    asked = parser.parse_args(words)
    folded = [row.data for row in ROWS if row.folds > 1]
    if asked.fold and not set(asked.only or names) <= set(folded):
        parser.error(f"--fold goes with --only {' '.join(folded)}")
    return asked


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that the command ends too
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # rows that are done are written already
        sys.exit(130)
