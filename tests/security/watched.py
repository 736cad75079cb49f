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
from uvea.workflows.train import train

SEEN: dict[str, list[tuple[str, str]]] = {"proof": [], "first": [], "second": []}
NOW = [""]
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Proof:
    """What a pickle of it would load."""


def main(folder: Path) -> None:
    """Do it all."""
    homes = [str(folder.resolve()), tempfile.gettempdir(), "/dev/", "/proc/"]

    def hook(event: str, words: tuple[Any, ...]) -> None:
        part = NOW[0]
        if not part:
            return
        if event == "open":
            path, _, flags = words
            if not isinstance(path, str | bytes) or not (flags or 0) & WRITING:
                return
            where = os.path.abspath(os.fsdecode(path))
            if not where.startswith(tuple(homes)):
                SEEN[part].append(("written elsewhere", where))
            return
        if event in ("exec", "compile", "import") or event.partition(".")[0] in (
            *("pickle", "socket", "subprocess", "urllib", "http", "ftplib", "smtplib", "webbrowser", "code", "pty"),
            *("os", "shutil"),
        ):
            said = words[0].co_filename if words and isinstance(words[0], CodeType) else repr(words)[:200]
            SEEN[part].append((event, said))

    data = folder / "data"
    random = np.random.default_rng(0)
    for place in range(4):
        mask = np.zeros((1, 32, 32), np.uint8)
        mask[0, 4 : 12 + 4 * place, 8:24] = 255
        pixels = (mask // 2 + random.integers(0, 60, mask.shape)).astype(np.uint8)
        write(data / "images" / f"{place}.png", Image(array=pixels, axes="yx"))
        write(data / "masks" / f"{place}.png", Image(array=mask, axes="yx"))
    settings = {"width": "4,8", "patch": "16,16", "tile": "32,32", "overlap": "8,8", "precision": "float32", "batch": 2}

    sys.addaudithook(hook)
    NOW[0] = "proof"
    pickle.loads(pickle.dumps(Proof()))
    socket.socket().close()
    subprocess.run([sys.executable, "-S", "-c", ""], check=True)
    exec("pass")
    for part in ("first", "second"):
        out = folder / part
        NOW[0] = part
        with contextlib.redirect_stdout(io.StringIO()):
            train(data, out=out / "model", steps=3, overrides=settings, device="cpu")
            predict_files(out / "model", data / "images", out=out / "masks", device="cpu")
            evaluate(out / "masks", data / "masks", out=out / "scores", workers=1)
        NOW[0] = ""
    assert uvea.__version__
    print(json.dumps(SEEN))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
