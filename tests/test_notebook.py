"""The tutorial can be read, runs from top to bottom, and becomes a page of the site."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from uvea.images import Image, write

DOCS = Path(__file__).parents[1] / "docs"
_spec = importlib.util.spec_from_file_location("notebook", DOCS / "notebook.py")
assert _spec is not None and _spec.loader is not None
notebook = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(notebook)

CELLS = json.loads((DOCS / "tutorial.ipynb").read_text(encoding="utf-8"))["cells"]
TEXT = "\n".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "markdown")


def run(*words: str) -> list[str]:
    """The lines that docs/notebook.py prints; a process of its own, because matplotlib and torch are set up there."""
    done = subprocess.run([sys.executable, DOCS / "notebook.py", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def test_the_tutorial_opens_in_colab_and_installs_itself():
    """A badge at the top, and an installation in the first cell of code."""
    assert "](https://colab.research.google.com/github/" in "".join(CELLS[0]["source"])
    assert "docs/tutorial.ipynb)" in "".join(CELLS[0]["source"])
    first = next(cell for cell in CELLS if cell["cell_type"] == "code")
    assert '"pip", "install"' in "".join(first["source"])


@pytest.mark.parametrize(
    "part",
    [
        "what the encoder and the decoder do",
        "what skip connections preserve",
        "receptive field, measured",
        "dice and iou by hand",
        "why accuracy misleads",
        "cross-entropy with dice",
        "overfitting",
        "one call",
        "the two questions",
    ],
)
def test_the_tutorial_has_its_parts(part):
    """Every part that was promised has a heading."""
    headings = [line.lower() for line in TEXT.splitlines() if line.startswith("#")]
    assert any(part in heading for heading in headings)


def test_the_tutorial_answers_the_two_questions():
    """At the end, in words."""
    answers = TEXT.partition("## The two questions")[2]
    assert "captures context by downsampling" in answers
    assert "Dice, and IoU" in answers


def test_outputs_are_small():
    """What is kept of a run does not weigh on the repository: less than a megabyte, no picture above 150 kB."""
    assert (DOCS / "tutorial.ipynb").stat().st_size < 1e6
    outputs = [output for cell in CELLS for output in cell.get("outputs", [])]
    assert all(len(output.get("data", {}).get("image/png", "")) < 200_000 for output in outputs)


def test_a_notebook_becomes_a_page():
    """Text as it is, code and what it printed as blocks, pictures inside."""
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "words"]},
        {
            "cell_type": "code",
            "source": ["print(1)"],
            "outputs": [
                {"output_type": "stream", "text": ["1\n"]},
                {"output_type": "display_data", "data": {"image/png": "QUJD\n"}},
            ],
        },
    ]
    assert notebook.as_markdown(json.dumps({"cells": cells})) == (
        "# Title\nwords\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n\n"
        "![what the cell above drew](data:image/png;base64,QUJD)\n"
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
def test_own_images_are_taken_where_there_are_some(tmp_path, monkeypatch):
    """Masks of another format, an image without a mask and a file that is none beside them."""
    pytest.importorskip("matplotlib", reason="the tutorial draws with matplotlib, extra `docs`").use("Agg")
    for name in "abcde":
        image = np.full((1, 70, 40), 30 * ord(name) % 200, np.uint8)
        image[0, 9:20, 9:20] = 255
        write(tmp_path / "my_images" / "images" / f"{name}.tif", Image(array=image, axes="yx"))
        if name != "c":
            mask = np.where(image == 255, 255, 0).astype(np.uint8)
            write(tmp_path / "my_images" / "masks" / f"{name}.png", Image(array=mask, axes="yx"))
    (tmp_path / "my_images" / "images" / ".a.tif").write_text("no image")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UVEA_TUTORIAL_QUICK", "1")
    space = {}
    for cell in [cell for cell in CELLS if cell["cell_type"] == "code"][1:3]:
        exec("".join(cell["source"]), space)
    space["plt"].close("all")
    # Corners of 64×64, what is missing mirrored: the square is there once, at the top and at the left.
    assert space["x"].shape == space["y"].shape == (4, 64, 64) and space["x"].dtype == np.uint8
    np.testing.assert_array_equal(space["y"][:, :30, :30].sum((1, 2)), 121)


@pytest.mark.long
def test_every_cell_runs():
    """On less data, in about a minute: what UVEA_TUTORIAL_QUICK is for."""
    pytest.importorskip("matplotlib", reason="the tutorial draws with matplotlib, extra `docs`")
    lines = run("--quick")
    assert len(lines) == 1 + sum(cell["cell_type"] == "code" for cell in CELLS)


@pytest.mark.long
def test_the_whole_tutorial_takes_less_than_eight_minutes():
    """As readers run it; its last call beats all that comes before."""
    pytest.importorskip("matplotlib", reason="the tutorial draws with matplotlib, extra `docs`")
    assert float(run()[-1].split()[2]) < 480


@pytest.mark.long
def test_the_site_is_built_without_a_warning(tmp_path):
    """Every page is in the table of contents, every link leads somewhere, every docstring can be read."""
    pytest.importorskip("furo", reason="the site is built with Sphinx, extra `docs`")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", DOCS, tmp_path / "site"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    page = (tmp_path / "site" / "tutorial.html").read_text(encoding="utf-8")
    assert "The two questions" in page and "data:image/png" in page
    assert "train_test_split" in (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
