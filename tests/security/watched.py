"""Train, predict and evaluate twice under an audit hook, and say what was seen; see test_audit.py.

python watched.py FOLDER      the last line of stdout: {"proof": [...], "first": [...], "second": [...]}
"""

import contextlib
import io
import json
import os
import pickle
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np

import uvea
from uvea.images import Image, write
from uvea.workflows.evaluate import evaluate
from uvea.workflows.predict import predict_files
from uvea.workflows.train import resume, train

SEEN: dict[str, list[tuple[str, str]]] = {"proof": [], "first": [], "second": []}
NOW = [""]
CHANGING = {
    *(f"os.{name}" for name in ("rename", "remove", "rmdir", "mkdir", "link", "symlink", "truncate", "chmod", "chown")),
    *(f"shutil.{name}" for name in ("rmtree", "move", "copyfile", "copytree", "chown")),
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Proof:
    """What a pickle of it would load."""


def main(folder: Path) -> None:
    """Do it all."""
    homes = [f"{place}/" for place in (folder.resolve(), tempfile.gettempdir(), "/dev", "/proc")]

    def hook(event: str, words: tuple[Any, ...]) -> None:
        part = NOW[0]
        if not part:
            return
        if event == "open" or event in CHANGING:
            places = words[:1]
            if event == "open" and not (words[2] or 0) & WRITING:
                return
            if event in ("os.rename", "os.link", "os.symlink"):
                places = words[:2]
            for path in places:
                if not isinstance(path, str | bytes | os.PathLike):  # an open file
                    continue
                where = os.path.abspath(os.fsdecode(path))
                if not f"{where}/".startswith(tuple(homes)):
                    SEEN[part].append(("written elsewhere", f"{event} {where}"))
            return
        if event in ("exec", "compile", "import") or event.partition(".")[0] in (
            *("pickle", "socket", "subprocess", "urllib", "http", "ftplib", "smtplib", "webbrowser", "code", "pty"),
            *("os", "shutil"),
        ):
            said = words[0].co_filename if words and isinstance(words[0], CodeType) else repr(words)[:200]
            SEEN[part].append((event, said))

    kinds = {kind: make_data(folder / kind, kind) for kind in ("png", "nii.gz", "tif")}

    sys.addaudithook(hook)
    NOW[0] = "proof"
    pickle.loads(pickle.dumps(Proof()))
    socket.socket().close()
    subprocess.run([sys.executable, "-S", "-c", ""], check=True)
    with contextlib.suppress(FileNotFoundError):
        os.open(Path("/nowhere/a"), os.O_WRONLY)
    with contextlib.suppress(FileNotFoundError):
        os.rename(Path("/nowhere/a"), "/nowhere/b")
    exec("pass")
    for part in ("first", "second"):
        out = folder / part
        NOW[0] = part
        with contextlib.redirect_stdout(io.StringIO()):
            for kind, data in kinds.items():
                here = out / kind
                train(data, out=here / "model", steps=3, overrides=settings(kind), device="cpu")
                resume(here / "model")
                predict_files(here / "model", data / "images", out=here / "masks", device="cpu")
                evaluate(here / "masks", data / "masks", out=here / "scores", instances=kind == "tif" or None)
        NOW[0] = ""
    assert uvea.__version__
    print(json.dumps(SEEN))


def make_data(folder: Path, kind: str) -> Path:
    """Four gray images and masks of 0 and 255, volumes of three, or two rectangles that are numbered."""
    random = np.random.default_rng(0)
    for place in range(4):
        mask = np.zeros((1, 32, 32), np.uint8)
        mask[0, 4 : 12 + 4 * place, 8:24] = 255
        axes = "yx"
        if kind == "nii.gz":
            mask, axes = np.stack([mask] * 8, axis=1), "zyx"
        pixels = (mask // 2 + random.integers(0, 60, mask.shape)).astype(np.uint8)
        if kind == "tif":
            mask = (mask > 0) * np.where(np.arange(32) < 15, 1, 2 + place).astype(np.uint8)
        write(folder / "images" / f"{place}.{kind}", Image(array=pixels, axes=axes))
        write(folder / "masks" / f"{place}.{kind}", Image(array=mask, axes=axes))
    return folder


def settings(kind: str) -> dict[str, object]:
    """A small network in float32."""
    flat = {"patch": "16,16", "tile": "32,32", "overlap": "8,8"}
    deep = {name: f"8,{value}" for name, value in flat.items()}
    sizes = {**deep, "overlap": "0,8,8"} if kind == "nii.gz" else flat
    return {"width": "4,8", "precision": "float32", "batch": 2, **sizes}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
