"""Run tools in processes of their own, in turns, and write down what came out.

    tools -> one child per tool, A B C A B C ... -> medians and ratios -> results/NAME-DATE.json and .md

Our tools run in this Python with the package of this working tree, peers in an environment of their own, all with the
same number of threads. What is measured is in the jobs, see `child.py`; nothing of it is known here.
"""

import argparse
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from accuracy import ROOT, BenchmarkError, Finished, describe_machine, log, run_uvea, state_of_code

FOLDER = Path(__file__).resolve().parent
PEERS = FOLDER / ".peers" / "bin" / "python"
"""Where README.md says to install the peers."""

ABSENT = "not installed: "
"""Begins what stands in place of figures where a package of others is missing; no failure."""

OUT_OF_TIME = "not measured: the time was up"

TAIL_LINES = 20
"""Last lines of a child that failed which are kept."""

CLOSING_SECONDS = 5
"""Given to a child to end by itself."""

Run = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Tool:
    """What one child does."""

    job: str
    """module:function, a file of this folder; see `child.py`."""

    settings: Mapping[str, Any]
    """Of the job; anything that JSON can say."""

    peer: bool = False
    """Whether it runs in the environment of the peers."""

    extra: bool = False
    """Whether it is ours and needs a package that uvea can do without; one that is missing is no failure then."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is the same for all children of a run."""

    peers: Path
    """Python of the peers."""

    threads: int
    gpu: bool = False
    """Whether children may see a GPU."""

    limit: float | None = None
    """Seconds in which a child has to answer; None waits for as long as it takes."""

    log: Path | None = None
    """A file that gets the last lines of children that failed."""

    def environment(self, *, peer: bool) -> dict[str, str]:
        """Variables of a child: ours, with the threads of every library, and our package for our tools only.

        Other packages may be on PYTHONPATH alone, so the rest of it stays.
        """
        threads = str(self.threads)
        names = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "BLOSC")
        found = {**os.environ, **{f"{name}_NUM_THREADS": threads for name in names}}
        found |= {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": threads, "TF_CPP_MIN_LOG_LEVEL": "3"}
        found |= {"KERAS_BACKEND": "tensorflow", "nnUNet_n_proc_DA": threads, "nnUNet_def_n_proc": threads}
        ours = ROOT / "src"
        given = found.pop("PYTHONPATH", "").split(os.pathsep)
        paths = [path for path in given if path and Path(path).resolve() != ours]
        if not peer:
            paths.insert(0, str(ours))
        if paths:
            found["PYTHONPATH"] = os.pathsep.join(paths)
        if not self.gpu:
            found["CUDA_VISIBLE_DEVICES"] = ""
        return found


class Child:
    """A process that runs one job."""

    def __init__(self, tool: Tool, setting: Setting) -> None:
        self._began = time.perf_counter()
        self._limit = setting.limit
        self._may_lack = tool.peer or tool.extra
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed in close)
        self._process = subprocess.Popen(
            [str(setting.peers if tool.peer else sys.executable), str(FOLDER / "child.py"), tool.job],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=setting.environment(peer=tool.peer),
            start_new_session=True,  # so that what it starts can be ended with it
        )
        self._say(json.dumps(tool.settings))

    def answer(self) -> Run:
        """Wait for the next answer; the first has `start_seconds`, from the start of the process.

        Raises:
            BenchmarkError: if the job failed, its package is missing, or it takes longer than it may.
        """
        line = self._line()
        if not line:
            raise BenchmarkError(self._last_words())
        found: Run = json.loads(line)
        if "absent" in found:
            missing = found["absent"]
            raise BenchmarkError(f"{ABSENT}{missing}" if self._may_lack else f"{missing} is missing, which uvea needs")
        if "failed" in found:
            raise BenchmarkError(placeless(found["failed"]))
        if self._began:
            found["start_seconds"] = time.perf_counter() - self._began
            self._began = 0.0
        return found

    def ask(self) -> Run:
        """One more turn."""
        self._say("")
        return self.answer()

    def close(self) -> None:
        """End the process, and whatever it started."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=CLOSING_SECONDS)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            pass
        self._kill()
        self._process.stdout.close()
        self._errors.close()

    def tail(self) -> list[str]:
        """The last lines that it wrote beside its answers, once it has ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=CLOSING_SECONDS)  # a job says first that it failed, and then where
        # Not by `seek`: it writes where we read.
        file = self._errors.fileno()
        size, most = os.fstat(file).st_size, 2**16
        text = os.pread(file, most, max(0, size - most)).decode(errors="replace")
        return placeless(text).strip().splitlines()[-TAIL_LINES:]

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        if select.select([self._process.stdout], [], [], self._limit)[0]:
            return self._process.stdout.readline()
        self._process.send_signal(signal.SIGUSR1)  # it writes where it is, see `child.py`
        time.sleep(1)
        self._kill()
        raise BenchmarkError(f"no answer in {self._limit:g} s")

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        # One that waits for a driver does not even end so.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=CLOSING_SECONDS)

    def _say(self, text: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(text.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise BenchmarkError(self._last_words()) from None

    def _last_words(self) -> str:
        lines = self.tail()
        return f"exit code {self._process.returncode}: {lines[-1] if lines else 'no message'}"


def in_turns(
    tools: Mapping[str, Tool],
    setting: Setting,
    *,
    repeat: int,
    until: float | None = None,
    told: Callable[[dict[str, Run]], None] = lambda found: None,
) -> dict[str, Run]:
    """Let each tool run once per turn; what fails has an "error" and is not asked again.

    A tool starts before its first turn, so that what takes long to start takes no turn from those before it.

    Args:
        tools: by name, in their order.
        setting: of all of them.
        repeat: turns.
        until: no tool starts and no further turn begins from then on, by `time.monotonic`; None waits for all.
        told: called after each turn of each tool with what there is so far.

    Returns:
        Of each tool what it said when it was ready, its "turns", and the median of each number in them.
    """
    children: dict[str, Child] = {}
    found: dict[str, Run] = {}
    try:
        for turn in range(repeat):
            for name, tool in tools.items():
                if "error" in found.get(name, {}):
                    continue
                if until is not None and time.monotonic() >= until:
                    found.setdefault(name, {"error": OUT_OF_TIME})
                    continue
                try:
                    if turn == 0:
                        log(f"{name}: starting")
                        children[name] = Child(tool, setting)
                        found[name] = _ready(children[name])
                    found[name]["turns"].append(children[name].ask())
                    log(f"{name}: turn {turn + 1} of {repeat}, {found[name]['turns'][-1]['seconds']:.3f} s")
                except (BenchmarkError, OSError) as error:
                    lines = children[name].tail() if name in children else []
                    found[name] = {**found.get(name, {}), "error": placeless(str(error)), "tail": lines}
                    _log_failure(setting.log, name, found[name])
                told(_with_medians(found))
    finally:
        for child in children.values():
            child.close()
    return _with_medians(found)


def _ready(child: Child) -> Run:
    ready = child.answer()
    # Medians get the names of the numbers in a turn, so what was true before the first has names of its own.
    del ready["cpu_seconds"]
    return {"floor_bytes": ready.pop("peak_bytes"), **ready, "turns": []}


def _log_failure(path: Path | None, name: str, entry: Run) -> None:
    log(f"{name}: {entry['error']}")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            lines = [f"{datetime.now(UTC):%H:%M:%S} {name}: {entry['error']}", *entry["tail"]]
            file.write("\n    ".join(lines) + "\n")


def _with_medians(found: Mapping[str, Run]) -> dict[str, Run]:
    return {name: entry | medians(entry["turns"]) if "error" not in entry else entry for name, entry in found.items()}


def medians(turns: Sequence[Run]) -> Run:
    """The median of each number that all turns have; the peak memory is the largest."""
    names = [name for name, value in turns[0].items() if isinstance(value, int | float)] if turns else []
    found: Run = {name: median(turn[name] for turn in turns) for name in names}
    return found | {name: max(turn[name] for turn in turns) for name in names if name.endswith("peak_bytes")}


def times_as_fast(ours: Run, theirs: Run) -> float | None:
    """The median over the turns of their seconds by ours, for equal work; None where one of them failed."""
    if "error" in ours or "error" in theirs:
        return None
    pairs = zip(ours["turns"], theirs["turns"], strict=True)
    return float(median(other["seconds"] / one["seconds"] for one, other in pairs))


def whole_job(tool: Tool, setting: Setting) -> Run:
    """Run a job that does all its work before it is ready, from the start of its process to its end."""
    began = time.perf_counter()
    child = Child(tool, setting)
    try:
        done = child.answer()
    finally:
        child.close()
    return {**done, "seconds": time.perf_counter() - began}


def command(words: Sequence[str], setting: Setting) -> Finished:
    """Run `uvea` of this working tree as a user does."""
    return run_uvea(words, environment=setting.environment(peer=False), limit=setting.limit)


def succeeded(done: Finished) -> Finished:
    """The same, if the command came to its end.

    Raises:
        BenchmarkError: with the last two lines that it wrote, the problem and what to try.
    """
    if done.code != 0:
        lines = [line.strip() for line in done.text.strip().splitlines()[-2:]]
        raise BenchmarkError(placeless(f"exit code {done.code}: {' '.join(lines) or 'no message'}"))
    return done


def placeless(text: str) -> str:
    """The same without where things lay on this machine: results are shared."""
    packaged = re.sub(r"/\S*/(?=lib/python3|site-packages|dist-packages)", "", text.replace(str(ROOT), "."))
    return re.sub(r"/\S*?/uvea-[\w-]+", "WORK", packaged)


def common_arguments(parser: argparse.ArgumentParser, *, repeat: int) -> None:
    """What every benchmark takes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--repeat", type=int, default=repeat, help="turns of every tool, of which the median counts")
    parser.add_argument("--threads", type=int, default=cores, help="of every tool; the cores of this process")
    parser.add_argument(
        "--peers-python", type=Path, default=PEERS, metavar="PATH", help="of the environment with the peers"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes and no file: to see that everything runs")
    parser.add_argument("--note", default="", help="a sentence under the table, such as what else was running")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for the table; benchmarks/results, none with --quick")


def setting_of(asked: argparse.Namespace, *, gpu: bool = False) -> Setting:
    """How the children of a run are started.

    Raises:
        BenchmarkError: if the Python of the peers is not there.
    """
    peers = asked.peers_python
    if not peers.exists():
        raise BenchmarkError(f"no peers at {peers}: install them, see benchmarks/README.md, or give --peers-python")
    return Setting(peers=peers, threads=asked.threads, gpu=gpu)


def begun(asked: argparse.Namespace) -> Run:
    """What is true of a whole run: when, where, which code."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": state_of_code(),
        "machine": describe_machine(),
        "threads": asked.threads,
        "repeat": asked.repeat,
        "quick": asked.quick,
        "note": asked.note,
    }


def record(
    name: str, runs: Sequence[Run], asked: argparse.Namespace, page: Callable[[str, Sequence[Run]], str]
) -> None:
    """Add runs to the results of the day, write the page anew and show it. With --quick and no --out, only show it."""
    path = results_file(name, asked)
    if path is None:
        print(page(f"{datetime.now(UTC):%Y-%m-%d}", runs))
    else:
        together = [*recorded(path), *runs]
        write_runs(path, together)
        write_page(path, together, page)


def results_file(name: str, asked: argparse.Namespace) -> Path | None:
    """Where the runs of today are; None with --quick and no --out."""
    out: Path | None = asked.out or (None if asked.quick else FOLDER / "results")
    return None if out is None else out / f"{name}-{datetime.now(UTC):%Y-%m-%d}.json"


def write_runs(path: Path, runs: Sequence[Run]) -> None:
    """Write a results file anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, json.dumps({"date": _day(path), "runs": runs}, indent=1, ensure_ascii=False) + "\n")


def write_page(path: Path, runs: Sequence[Run], page: Callable[[str, Sequence[Run]], str]) -> None:
    """Write the page beside a results file, and show it."""
    text = page(_day(path), runs)
    write(path.with_suffix(".md"), text)
    print(text)
    log(f"table in {path.with_suffix('.md')}")


def _day(path: Path) -> str:
    return path.stem[-len("2026-01-02") :]


def recorded(path: Path) -> list[Run]:
    """The runs in a results file, none where there is no file."""
    found: list[Run] = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []
    return found


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def table(headings: str, rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; headings are separated by |."""
    names = headings.split("|")
    return [f"| {' | '.join(cells)} |" for cells in (names, ["---"] * len(names), *rows)]


def about(run: Run) -> list[str]:
    """When, where and with what a run was measured, as lines under its table."""
    versions: dict[str, str] = dict(run["machine"]["versions"])
    for entry in run.get("tools", {}).values():
        versions |= entry.get("versions", {})
    machine = run["machine"]
    place = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.1f} GiB"
    place += f", {machine['accelerator'] or 'no accelerator'}"
    quick = " Quick: these figures are to show that it runs." if run["quick"] else ""
    counts = f"{run['repeat']} turns, {run['threads']} threads for every tool"
    lines = [
        "",
        f"{run['started']}, {counts}, commit {run['commit']}.{quick}",
        f"{place}; {', '.join(f'{name} {version}' for name, version in versions.items())}.",
    ]
    return [*lines, run["note"]] if run["note"] else lines


def spread(entry: Run, name: str = "seconds") -> str:
    """The median with the smallest and largest of the turns."""
    values = [turn[name] for turn in entry["turns"]]
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def ratio_text(value: float | None) -> str:
    """A ratio with two decimals."""
    return "" if value is None else f"{value:.2f}"


def gib(count: float) -> str:
    """Bytes in GiB."""
    return f"{count / 2**30:.2f} GiB"


def exit_code(entries: Sequence[Run]) -> int:
    """1 where something failed; a package that is not installed is no failure."""
    return 1 if any("error" in entry and not entry["error"].startswith(ABSENT) for entry in entries) else 0


def run_main(main: Callable[[], int]) -> None:
    """End this process with what `main` gives; with one line where it could not start."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that what it waits for ends too
    try:
        sys.exit(main())
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
