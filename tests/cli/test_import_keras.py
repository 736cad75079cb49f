"""`uvea import-keras` hands on what was typed, and shows what it found."""

import pytest


class _Plan:
    def rows(self):
        """One decision."""
        return [("graph", "9 layers", "from a.keras")]


class _Model:
    plan = _Plan()


def test_options_reach_the_workflow(run, workflow, tmp_path):
    """Names with values, scale and shift as numbers."""
    calls = workflow("import_keras", import_keras=_Model())
    words = ["import-keras", "a.keras", "--out", str(tmp_path / "m"), "--scale", "255", "--shift", "1.5"]
    result = run(*words, "--labels", "0=background,255=cell", "--architecture", "a.json")
    assert result.exit_code == 0, result.stderr
    (call,) = calls
    assert (str(call["args"][0]), call["scale"], call["shift"]) == ("a.keras", 255, 1.5)
    assert call["labels"] == {0: "background", 255: "cell"}
    assert str(call["architecture"]) == "a.json"
    assert "from a.keras" in result.stdout and "uvea predict" in result.stdout


def test_help_has_an_example(run):
    """It can be copied."""
    assert "Example:  uvea import-keras" in run("import-keras", "--help").stdout


def test_errors_are_two_lines(run, tmp_path):
    """A file that is none of Keras'."""
    pytest.importorskip("h5py", reason="reading the files of Keras needs h5py, extra `keras`")
    (tmp_path / "a.keras").write_text("no network")
    result = run("import-keras", str(tmp_path / "a.keras"), "--out", str(tmp_path / "m"))
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0].endswith("a.keras is neither a .keras nor an .h5 file")
    assert result.stderr.splitlines()[1].startswith("  Try: ")
