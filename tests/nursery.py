"""A warm process that forks trainings for tests/test_kill.py, because importing torch anew takes seconds for each.

Each line on stdin is a job as JSON: {"data", "out", "settings"}, or {"argv"} for the command line, or {"save"}.
It may have {"kill": {"after", "file", "signal"}} for a signal after some seconds, or when a file is there, and
{"die": {"call", "number", "how"}} for a death within a call of the operating system. The answer is its exit code, or
minus the signal that ended it, and the seconds from the signal to its end.
"""

import json
import os
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path


def main() -> None:
    """Answer jobs until stdin ends; the first is done here, so that those after it find everything loaded."""
    print(_do(json.loads(sys.stdin.readline())), 0, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if not child:
            os._exit(_do(job))
        ended, status = 0, 0
        if "kill" in job:
            ended, status = _wait(child, **job["kill"])
        signalled = time.monotonic()
        if not ended:
            _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), time.monotonic() - signalled, flush=True)


def _wait(child: int, *, signal: int, after: float = 0.0, file: str | None = None) -> tuple[int, int]:
    """Send the signal when it is time; what `os.waitpid` says if the child was faster."""
    time.sleep(after)
    while file is not None and not Path(file).exists():
        time.sleep(0.01)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return ended, status
    os.kill(child, signal)
    return 0, 0


def _do(job: dict) -> int:
    """Do a job; a file beside its output says why it failed."""
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "die" in job:
        die_within(**job["die"])
    try:
        if "argv" in job:
            return _command(job["argv"], Path(job["out"]))
        if "save" in job:
            return _save(job["save"], Path(job["out"]))
        return _train(job)
    except BaseException:
        Path(job["out"] + ".error.txt").write_text(traceback.format_exc())
        return 1


def _train(job: dict) -> int:
    from uvea.workflows.train import resume, train

    out = Path(job["out"])
    if (out / "run" / "run.json").exists():
        resume(out)
    else:
        train(job["data"], out=out, overwrite=out.exists(), device="cpu", **job["settings"])
    return 0


def _command(words: list[str], out: Path) -> int:
    """Run the command line; what it says goes to a file beside its output."""
    from uvea.cli.main import main

    said = os.open(f"{out}.said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(said, stream)
    sys.argv = ["uvea", *words]
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def _save(value: float, out: Path) -> int:
    """Keep one small state."""
    import torch

    from uvea.workflows.workspace import Workspace

    Workspace(out).save_checkpoint(({"weight": torch.full((1000,), value)}, {"progress": str(value)}))
    return 0


def die_within(call: str, number: int, how: str) -> None:
    """Kill this process at the `number`-th call of os.`call`: "before" or "after" it, or "half" through a write."""
    real, calls = getattr(os, call), []

    def deadly(*args, **kwargs):
        calls.append(0)
        if len(calls) != number:
            return real(*args, **kwargs)
        try:
            if how == "after":
                real(*args, **kwargs)
            if how == "half":
                real(args[0], bytes(args[1])[: len(args[1]) // 2])
        finally:  # also where the call failed, as for a folder that is there
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(os, call, deadly)


if __name__ == "__main__":
    main()
