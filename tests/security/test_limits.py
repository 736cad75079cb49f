"""The limit of `--max-pixels` reaches the readers from the command line and from Python."""

import numpy as np
import pytest
from typer.testing import CliRunner

from uvea.cli.commands import app
from uvea.datasets.case import DataOptions
from uvea.images import Image, write
from uvea.workflows.check import check


@pytest.fixture
def data(tmp_path):
    """Three images of 400 pixels with their masks."""
    for place in range(3):
        mask = np.zeros((1, 20, 20), np.uint8)
        mask[0, 3 : 9 + place, 4:12] = 255
        for part, array in (("images", mask // 2 + place), ("masks", mask)):
            write(tmp_path / part / f"{place}.png", Image(array=array, axes="yx"))
    return tmp_path


def test_a_dataset_is_checked_with_the_limit_of_the_user(data):
    """One finding with size, limit and option; none with a limit that suffices."""
    assert check(data, options=DataOptions(max_pixels=400)).errors == ()
    errors = check(data, options=DataOptions(max_pixels=399)).errors
    assert any("400 pixels" in error.problem and "--max-pixels 400" in error.hint for error in errors)


def test_the_command_line_passes_the_limit_on(data):
    """With exit code 2 and the way out; a limit of nothing is no limit."""
    refused = CliRunner().invoke(app, ["check", str(data), "--max-pixels", "399"])
    assert refused.exit_code == 2
    assert "--max-pixels 400" in refused.output
    assert CliRunner().invoke(app, ["check", str(data), "--max-pixels", "400"]).exit_code == 0
    assert CliRunner().invoke(app, ["check", str(data), "--max-pixels", "0"]).exit_code == 2
