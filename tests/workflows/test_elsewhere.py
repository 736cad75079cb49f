"""What runs on the processor runs on another device, and does not wait for it."""

import subprocess
import sys
from pathlib import Path


def test_nothing_stays_on_the_processor_and_nobody_waits():
    """The tests of elsewhere.py, in a process of their own, see there."""
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(Path(__file__).with_name("elsewhere.py")),
    ]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
