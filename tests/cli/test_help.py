"""`--help` answers for every command, quickly, with an example."""

import subprocess
import sys

import pytest

COMMANDS = ["demo", "check", "plan", "train", "predict", "evaluate"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(run, command):
    """Someone who types --help sees a line that can be copied."""
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Example:  uvea {command}" in result.stdout


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_lists_all_commands(run, words):
    """Also without any word: nobody should be left with a bare error."""
    result = run(*words)
    assert result.exit_code == 0
    assert all(f" {command} " in result.stdout for command in COMMANDS)


def test_help_needs_no_torch():
    """Asked in a fresh interpreter: the command line loads workflows only to run them."""
    code = (
        "import sys\n"
        "from uvea.cli.commands import app\n"
        "try: app(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'scipy', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    "words",
    [("trian",), ("train", "--minuts", "3"), ("predict", "model"), ("train", "data", "--steps", "many")],
)
def test_a_misspelt_command_line_exits_with_two(run, words):
    """A usage error is something the user can mend."""
    result = run(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
