"""`--help` answers for every command, quickly, with an example."""

import inspect
import subprocess
import sys

import pytest

from uvea.cli.commands import app

COMMANDS = ["demo", "check", "plan", "train", "predict", "evaluate", "compare", "verify", "import-keras"]


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
    ("words", "said"),
    [
        (("trian",), "no such command 'trian'"),
        (("train", "--minuts", "3"), "no such option: --minuts"),
        (("train", "data", "--out"), "option '--out' requires an argument"),
        (("predict", "model"), "missing argument 'IMAGES'"),
        (("train", "data", "--steps", "many"), "--steps cannot be 'many': "),
        (("train", "data", "--steps=many"), "--steps cannot be 'many': "),
        (("train", "data", "--steps", "2", "--steps", "many"), "--steps cannot be 'many': "),
        (("train", "data", "--folds", "0"), "--folds cannot be '0': "),
    ],
)
def test_a_misspelt_command_line_is_an_error_like_every_other(run, words, said):
    """Exit code 2 and two lines, with the value that was typed and the way out; no box, nothing on stdout."""
    result = run(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    problem, way_out = result.stderr.splitlines()
    assert problem.startswith(said)
    assert way_out.startswith("  Try: ") and "--help" in way_out


def test_a_misspelt_option_is_answered_with_the_one_that_was_meant(run):
    """The remedy can be typed."""
    assert "Try: --minutes" in run("train", "--minuts", "3").stderr


def test_help_is_wrapped_by_the_terminal_and_not_by_the_source():
    """Typer keeps line ends within a paragraph: a sentence over two lines of source would break in the middle."""
    for command in app.registered_commands:
        _, *paragraphs = inspect.getdoc(command.callback).split("\n\n")
        assert not [paragraph for paragraph in paragraphs if "\n" in paragraph]
