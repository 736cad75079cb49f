"""The process in which one tool is measured: run one job, turn by turn, and answer in JSON.

    python child.py MODULE:FUNCTION      stdin: settings as one line of JSON, then an empty line for each further turn
                                         stdout: one line of JSON when the job is ready, one per turn, one at the end

A job is a generator: what it yields first says that it is ready, what it yields then is a turn. Which module it is in,
and what that module needs, is not known here, so that this file runs in any environment with Python alone.
"""

import faulthandler
import json
import os
import resource
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any


def peak_bytes() -> int:
    """Largest resident memory of this process so far.

    Not from `resource` where there is another way: there, a process begins with the peak of the one it came from.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> int:
    """Answer until the job ends or nobody asks any more."""
    faulthandler.register(signal.SIGUSR1)  # where it hangs, for whom it takes too long
    settings: dict[str, Any] = json.loads(sys.stdin.readline())
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    module, name = sys.argv[1].split(":")

    def answer(fact: dict[str, Any]) -> None:
        answers.write(json.dumps(fact) + "\n")
        answers.flush()

    try:
        spent = time.process_time()
        for fact in getattr(import_module(module), name)(**settings):
            answer({**fact, "cpu_seconds": time.process_time() - spent, "peak_bytes": peak_bytes()})
            if not sys.stdin.readline():
                return 0
            spent = time.process_time()
        answer({"ended": True})
    except ModuleNotFoundError as error:
        answer({"absent": str(error.name)})
    except Exception as error:
        # The first line: in later ones libraries tell where things lie on this machine.
        answer({"failed": f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"})
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
