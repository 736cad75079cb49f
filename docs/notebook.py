"""Run docs/tutorial.ipynb without Jupyter, and turn notebooks into pages.

    python docs/notebook.py                 run the tutorial as it is, and say how long each cell took
    python docs/notebook.py --quick         the same on less data, in about a minute: every cell, no lesson
    python docs/notebook.py --write         run it and keep what it printed and drew in the file
    python docs/notebook.py --strip         take all outputs out of the file

Cells run one after another in one namespace, as a kernel would run them; figures are taken after each cell.
"""

import argparse
import base64
import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TUTORIAL = Path(__file__).with_name("tutorial.ipynb")
DPI = 120
COLOURS = 160


def run(
    path: Path = TUTORIAL, *, quick: bool = False, space: dict[str, Any] | None = None
) -> Iterator[tuple[int, float, list[dict[str, Any]]]]:
    """Run every code cell; gives its number, its seconds and its outputs, in order.

    Args:
        path: of the notebook.
        space: gets what the cells define.
        quick: set UVEA_TUTORIAL_QUICK for the notebook, which then takes less data and fewer steps.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import PIL.Image

    os.environ["UVEA_TUTORIAL_QUICK"] = "1" if quick else ""
    space = {} if space is None else space
    space["__name__"] = "__main__"
    for number, cell in enumerate(_cells(path.read_text(encoding="utf-8"))):
        if cell["cell_type"] != "code":
            continue
        printed, began = io.StringIO(), time.perf_counter()
        with contextlib.redirect_stdout(printed):
            exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), space)
        outputs: list[dict[str, Any]] = []
        if printed.getvalue():
            lines = printed.getvalue().splitlines(keepends=True)
            outputs.append({"name": "stdout", "output_type": "stream", "text": lines})
        for figure in map(plt.figure, plt.get_fignums()):
            drawn = io.BytesIO()
            figure.savefig(drawn, dpi=DPI, bbox_inches="tight")
            # A palette instead of every shade: the file is a third, and the figures look alike.
            small = io.BytesIO()
            PIL.Image.open(drawn).convert("RGB").quantize(COLOURS).save(small, "PNG", optimize=True)
            data = {"image/png": base64.b64encode(small.getvalue()).decode() + "\n"}
            outputs.append({"data": data, "metadata": {}, "output_type": "display_data"})
        plt.close("all")
        yield number, time.perf_counter() - began, outputs


def unkept(space: dict[str, Any]) -> list[str]:
    """What the tutorial says about its images, and what does not hold in this run of it."""
    dice = {name: float(scores[0]) for name, scores in space["table"].items()}
    boundary = {name: float(scores[2]) for name, scores in space["table"].items()}
    reach = list(space["reach"].values())
    last, skips = "one call of uvea.train", "small U-Net, with{} skip connections"
    said = {
        f"one call beats all of it: {dice}": max(dice, key=lambda name: dice[name]) == last,
        f"outlines are worse without skip connections: {boundary}": boundary[skips.format("")]
        > boundary[skips.format("out")],
        f"augmentation narrows the gap: {space['gap']}": space["gap"]["augmented"] < space["gap"]["as they are"],
        f"each level sees further: {reach}": reach == sorted(set(reach)),
    }
    return [words for words, holds in said.items() if not holds]


def write(outputs: dict[int, list[dict[str, Any]]], path: Path = TUTORIAL) -> None:
    """Keep these outputs in the notebook, in place of those it had."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = outputs.get(number, []), None
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def as_markdown(text: str) -> str:
    """The page of a notebook: its text, its code, and what was printed and drawn."""
    parts = []
    for cell in _cells(text):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            if output["output_type"] == "stream":
                parts.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
            elif "image/png" in output.get("data", {}):
                parts.append(
                    f"![what the cell above drew](data:image/png;base64,{output['data']['image/png'].strip()})"
                )
    return "\n\n".join(parts) + "\n"


def _cells(text: str) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(text)["cells"]
    return cells


def main() -> None:
    """Do what the command line says."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, said in (("quick", "less data"), ("write", "keep the outputs"), ("strip", "remove the outputs")):
        asked.add_argument(f"--{name}", action="store_true", help=said)
    asked.add_argument("--most", type=float, help="seconds that it may take in all")
    options = asked.parse_args()
    if options.strip:
        write({})
        return
    outputs, total = {}, 0.0
    space: dict[str, Any] = {}
    for number, seconds, made in run(quick=options.quick, space=space):
        outputs[number], total = made, total + seconds
        print(f"cell {number:2d}: {seconds:6.1f} s", flush=True)
    print(f"in all:  {total:6.1f} s")
    if options.write:
        write(outputs)
    if not options.quick and (wrong := unkept(space)):
        sys.exit("what the tutorial says does not hold:\n" + "\n".join(wrong))
    if options.most is not None and total > options.most:
        sys.exit(f"it took {total:.0f} s, more than {options.most:.0f}")


if __name__ == "__main__":
    main()
