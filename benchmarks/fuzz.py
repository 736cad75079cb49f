"""Give uvea damaged and hostile files by the thousand, and write down what breaks.

    files of our own writers -> mutations that know the format -> a child that reads them -> findings/, fuzz-DATE.md

For every reader of images, every file of a model, networks of Keras, tables, splits, scores, and the command line.
Only a `UveaError` may come out, within ten seconds and one GiB; all else is a finding, cut down to the bytes that
matter and saved. Each input follows from seed, target and number, so a run can be repeated.

    python benchmarks/fuzz.py --minutes 60
    python benchmarks/fuzz.py --inputs 200 --only tif nii plan --seed 3
    python benchmarks/fuzz.py --minutes 60 --engine atheris      # coverage-guided; pip install 'uvea[fuzz]'
    python benchmarks/fuzz.py --replay tif findings/tif-1.tif
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import resource
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import mutations as change

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 10.0
"""That one input may take."""

MEMORY_BYTES = 2**30
"""That one input may take above what the process had before the first."""

ADDRESS_BYTES = 16 * 2**30
"""Above the start; more than this is refused by the system, so that no input takes the machine with it."""

MEMORY_OF = {"plain": "above the start", "atheris": "of the whole process"}
"""What an engine can say about it."""

STARTING_SECONDS = 180.0
MINIMISING_SECONDS = 20.0
RECYCLED = 20_000
"""Inputs after which a child is replaced, so that small leaks of libraries do not look like one input's."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One reader."""

    file: str
    """Name under which the input is laid down."""

    seeds: Callable[[Path], list[bytes]]
    """Whole files to begin with; the folder may be used, and what is left in it lies beside the input."""

    mutate: change.Mutation
    run: Callable[[Path], object]
    """Read the input. A `UveaError` means that it was refused."""


@dataclass
class Tally:
    """What came of one target."""

    inputs: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest_seconds: float = 0.0
    largest_bytes: int = 0
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By what is the same for one fault: the kind of error and the place it came from."""


def main(words: Sequence[str] | None = None) -> int:
    """Fuzz, write down, and return 1 if anything was found."""
    asked = _arguments(words)
    if asked.child:
        return serve(asked.child, asked.work, seed=asked.seed, first=asked.first)
    if asked.guided:
        return _guided_child(asked.guided, asked.work, asked.rest)
    if asked.replay:
        return _replay(*asked.replay)
    names = asked.only or list(TARGETS)
    began = time.monotonic()
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory(prefix="uvea-fuzz-") as work:
        for place, name in enumerate(names):
            left = None if asked.minutes is None else asked.minutes * 60 - (time.monotonic() - began)
            share = None if left is None else max(left, 0) / (len(names) - place)
            engine = _fuzz_guided if asked.engine == "atheris" else _fuzz
            tallies[name] = engine(
                name, Path(work) / name, seconds=share, inputs=asked.inputs, seed=asked.seed, saved=asked.findings
            )
            print(_line(name, tallies[name]), flush=True)
    _record(asked, tallies, seconds=time.monotonic() - began)
    return int(any(tally.findings for tally in tallies.values()))


# --- the parent: one child at a time, watched


def _fuzz(name: str, work: Path, *, seconds: float | None, inputs: int | None, seed: int, saved: Path) -> Tally:
    tally = Tally()
    began = time.monotonic()
    while (seconds is None or time.monotonic() - began < seconds) and (inputs is None or tally.inputs < inputs):
        ends = None if seconds is None else began + seconds
        _one_child(name, work, tally, seed=seed, ends=ends, inputs=inputs, saved=saved)
    tally.seconds = time.monotonic() - began
    return tally


def _one_child(
    name: str, work: Path, tally: Tally, *, seed: int, ends: float | None, inputs: int | None, saved: Path
) -> None:
    """Run a child until it has to be replaced or it is time to end."""
    words = ["--child", name, "--work", str(work), "--seed", str(seed), "--first", str(tally.inputs)]
    call = [sys.executable, __file__, *words]
    work.mkdir(parents=True, exist_ok=True)
    # A file and no pipe: who waits for room in a pipe would look like a hang.
    with (work / "stderr").open("wb") as stderr:
        child = subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)
    assert child.stdin is not None and child.stdout is not None
    answers = _lines(child)
    ready = False
    try:
        for _ in range(RECYCLED):
            if (ends is not None and ready and time.monotonic() > ends) or (inputs and tally.inputs >= inputs):
                return
            said = next(answers(SECONDS + 1 if ready else STARTING_SECONDS), None)
            if said is None:  # too late, or dead
                hung = child.poll() is None
                child.kill()
                tail = (work / "stderr").read_bytes()[-3000:].decode(errors="replace")
                if not ready:
                    raise RuntimeError(f"the child of {name} did not start: {tail}")
                reason = "hang" if hung else f"death {child.wait()}"
                tally.inputs += 1
                _keep(name, work, tally, key=f"{reason} {_last_place(tail)}", report=tail, saved=saved)
                return
            if not ready:
                ready = True
                continue
            answer = json.loads(said)
            tally.inputs += 1
            tally.refused += answer["refused"]
            tally.slowest_seconds = max(tally.slowest_seconds, answer["seconds"])
            tally.largest_bytes = max(tally.largest_bytes, answer["bytes"])
            if answer["key"]:
                _keep(name, work, tally, key=answer["key"], report=answer["report"], saved=saved)
                if answer["key"] == "memory":
                    return
                child.stdin.write(b"\n")
                child.stdin.flush()
    finally:
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            stream.close()


def _lines(child: "subprocess.Popen[bytes]") -> Callable[[float], Iterator[str]]:
    """Lines of a child's stdout with a time limit for each; an iterator that ends when there is none in time."""
    assert child.stdout is not None
    stream = child.stdout
    os.set_blocking(stream.fileno(), False)
    selector = selectors.DefaultSelector()
    selector.register(stream, selectors.EVENT_READ)
    buffer = bytearray()

    def lines(limit: float) -> Iterator[str]:
        until = time.monotonic() + limit
        while b"\n" not in buffer:
            left = until - time.monotonic()
            if left <= 0 or not selector.select(left):
                return
            piece = stream.read(1 << 16)
            if not piece:
                child.wait()
                return
            buffer.extend(piece)
        line, _, rest = bytes(buffer).partition(b"\n")
        buffer[:] = rest
        yield line.decode()

    return lines


def _keep(name: str, work: Path, tally: Tally, *, key: str, report: str, saved: Path) -> None:
    """Save the input that lies in the child's folder, once per fault, as small as it goes."""
    if key in tally.findings:
        tally.findings[key]["times"] += 1
        return
    target = TARGETS[name]
    content = (work / target.file).read_bytes()
    content = minimised(content, partial(_still_fails, name, work, key))
    saved.mkdir(parents=True, exist_ok=True)
    path = saved / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}{''.join(Path(target.file).suffixes)}"
    path.write_bytes(content)
    path.with_name(f"{path.name}.txt").write_text(f"{key}\n\n{report}\n", encoding="utf-8")
    tally.findings[key] = {"times": 1, "file": path.name, "bytes": len(content)}


def minimised(content: bytes, fails: Callable[[bytes], bool], *, seconds: float = MINIMISING_SECONDS) -> bytes:
    """A part of `content` that still fails: pieces are left out for as long as that is so, large ones first."""
    until = time.monotonic() + seconds
    size = max(len(content) // 2, 1)
    while size and time.monotonic() < until:
        place = 0
        while place < len(content) and time.monotonic() < until:
            shorter = content[:place] + content[place + size :]
            if fails(shorter):
                content = shorter
            else:
                place += size
        size //= 2
    return content


def _still_fails(name: str, work: Path, key: str, content: bytes) -> bool:
    trial = work / "trial"
    trial.mkdir(exist_ok=True)
    path = trial / TARGETS[name].file
    path.write_bytes(content)
    words = [sys.executable, __file__, "--replay", name, str(path)]
    try:
        done = subprocess.run(words, capture_output=True, timeout=2 * SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return key.startswith("hang")
    if done.returncode < 0:
        return key.startswith(f"death {done.returncode}")
    return f"FINDING {key}\n" in done.stdout.decode(errors="replace")


# --- the child: makes an input, says so, reads it, says what came of it


def serve(name: str, work: Path, *, seed: int, first: int) -> int:
    """Read inputs until somebody ends this process; one line of JSON for each."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print is no answer
    target, seeds = _prepared(name, work)
    judge = Judge(target)
    print(json.dumps({"seeds": len(seeds)}), file=answers, flush=True)
    number = first
    while True:
        random = Random(f"{seed} {name} {number}")
        parent = random.choice(seeds)
        content = seeds[number] if number < len(seeds) else target.mutate(parent, random)
        (work / target.file).write_bytes(content)
        found = judge(work / target.file)
        print(json.dumps(found), file=answers, flush=True)
        if found["key"]:
            sys.stdin.readline()  # until the input is saved
        number += 1


class Judge:
    """Runs a target on an input and says what came of it; `limited` limits the memory of this process for good."""

    def __init__(self, target: Target, *, limited: bool = True) -> None:
        self._target = target
        if limited:
            _limit_memory()
        self._start = _memory("VmRSS")

    def __call__(self, path: Path) -> dict[str, Any]:
        """The outcome: whether it was refused, seconds, bytes above the start, and what is wrong or ""."""
        from uvea.errors import UveaError

        _forget_peak()
        began = time.monotonic()
        key = report = ""
        refused = False
        try:
            self._target.run(path)
        except UveaError as error:
            refused = True
            if "\n" in error.problem or "\n" in error.hint or len(error.problem) > 2000:
                key, report = f"message {type(error).__name__}", str(error)
            if _harmful(str(error)):
                key, report = "message with control characters", ascii(str(error))
            if "does not fit into memory" in error.problem:
                key, report = "memory", str(error)
        except Exception as error:
            report = "".join(traceback.format_exception(error))[-6000:]
            key = f"{type(error).__name__} {_last_place(report)}"
        seconds = time.monotonic() - began
        grown = max(_memory("VmHWM") - self._start, 0)
        if not key and grown > MEMORY_BYTES:
            key, report = "memory", f"{grown / 2**20:.0f} MiB above the start"
        if not key and seconds > SECONDS:
            key, report = "slow", f"{seconds:.1f} s"
        return {"refused": refused, "seconds": seconds, "bytes": grown, "key": key, "report": report}


def _harmful(text: str) -> bool:
    """Whether a terminal would obey this."""
    return any((ord(letter) < 32 and letter != "\n") or 127 <= ord(letter) < 160 for letter in text)


def _last_place(report: str) -> str:
    """The last line of ours, or the last at all, in a traceback."""
    places = re.findall(r'File "([^"]+)", line (\d+)', report)
    ours = [place for place in places if "/uvea/" in place[0]] or places
    return f"{Path(ours[-1][0]).name}:{ours[-1][1]}" if ours else ""


def _limit_memory() -> None:
    if sys.platform == "linux":
        room = _memory("VmSize") + ADDRESS_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (room, room))


def _memory(name: str) -> int:
    """A figure of /proc/self/status in bytes; the peak where there is no such file."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    found = re.search(rf"{name}:\s+(\d+)", status)
    return int(found[1]) * 1024 if found else 0


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _prepared(name: str, work: Path) -> tuple[Target, list[bytes]]:
    target = TARGETS[name]
    work.mkdir(parents=True, exist_ok=True)
    return target, target.seeds(work)


def _replay(name: str, file: str) -> int:
    """Read one saved input and say what comes of it."""
    with tempfile.TemporaryDirectory(prefix="uvea-fuzz-") as folder:
        target, _ = _prepared(name, Path(folder))
        path = Path(folder) / target.file
        path.write_bytes(Path(file).read_bytes())
        found = Judge(target)(path)
    print(found["report"])
    print(f"FINDING {found['key']}" if found["key"] else "refused" if found["refused"] else "read", flush=True)
    return int(bool(found["key"]))


# --- the same with atheris, which looks at which lines an input reaches


def _fuzz_guided(name: str, work: Path, *, seconds: float | None, inputs: int | None, seed: int, saved: Path) -> Tally:
    tally = Tally()
    corpus, artifacts = work / "corpus", work / "artifacts"
    began = time.monotonic()
    for attempt in range(50):
        left = None if seconds is None else seconds - (time.monotonic() - began)
        if (left is not None and left < 1) or (inputs is not None and tally.inputs >= inputs):
            break
        for folder in (corpus, artifacts):
            folder.mkdir(parents=True, exist_ok=True)
        words = [f"-artifact_prefix={artifacts}/", f"-timeout={SECONDS:.0f}", f"-seed={seed + attempt + 1}"]
        words += ["-print_final_stats=1", f"-max_len={change.MOST_BYTES}"]
        words += [f"-max_total_time={max(int(left), 1)}"] if left is not None else []
        words += [f"-runs={inputs - tally.inputs}"] if inputs is not None else []
        call = [sys.executable, __file__, "--guided", name, "--work", str(work), "--", *words, str(corpus)]
        try:
            limit = None if left is None else left + STARTING_SECONDS
            done = subprocess.run(call, capture_output=True, check=False, timeout=limit)
        except subprocess.TimeoutExpired:  # its own clock was not listened to
            tally.inputs += 1
            _keep(name, work, tally, key="hang", report="", saved=saved)
            break
        said = done.stderr.decode(errors="replace")
        tally.inputs += sum(int(count) for count in re.findall(r"stat::number_of_executed_units:\s+(\d+)", said)[-1:])
        peaks = re.findall(r"stat::peak_rss_mb:\s+(\d+)", said)
        tally.largest_bytes = max(tally.largest_bytes, *(int(peak) * 2**20 for peak in peaks), 0)
        slowest = re.findall(r"stat::slowest_unit_time_sec:\s+(\d+)", said)
        tally.slowest_seconds = max(tally.slowest_seconds, *(float(unit) for unit in slowest), 0.0)
        if done.returncode == 0:
            break
        kept = sorted(artifacts.iterdir())
        if not kept:
            raise RuntimeError(f"atheris did not run on {name}: {said[-3000:]}")
        for path in kept:
            (work / TARGETS[name].file).write_bytes(path.read_bytes())
            found = re.findall(r"FINDING (.+)", said)
            key = found[-1] if found else f"{path.name.split('-')[0]} {_last_place(said)}"
            _keep(name, work, tally, key=key, report=said[-6000:], saved=saved)
            path.unlink()
    tally.seconds = time.monotonic() - began
    return tally


def _guided_child(name: str, work: Path, words: Sequence[str]) -> int:
    import atheris

    with atheris.instrument_imports(include=["uvea", "tifffile", "nibabel", "PIL", "json", "csv"]):
        target, seeds = _prepared(name, work)
        for content in seeds:  # imports what it needs
            (work / target.file).write_bytes(content)
            Judge(target, limited=False)(work / target.file)
    corpus = Path(words[-1])
    for place, content in enumerate(seeds):
        (corpus / f"seed-{place}").write_bytes(content)
    judge = Judge(target)

    def one(content: bytes) -> None:
        (work / target.file).write_bytes(content)
        found = judge(work / target.file)
        if found["key"]:
            print(f"{found['report']}\nFINDING {found['key']}", file=sys.stderr, flush=True)
            raise RuntimeError(found["key"])

    def mutate(content: bytes, most: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.3:
            mixed: bytes = atheris.Mutate(content, most)
            return mixed
        return target.mutate(content, random)[:most]

    atheris.Setup([__file__, *words], one, custom_mutator=mutate)
    atheris.Fuzz()
    return 0


# --- the targets


def _image_seeds(suffix: str, folder: Path) -> list[bytes]:
    """What our own writer makes: 2D and 3D, one and more channels, small numbers and large."""
    import numpy as np

    from uvea.errors import UveaError
    from uvea.images import Image, write

    found = []
    random = np.random.default_rng(0)
    made = folder / "made"
    for dtype in ("bool", "uint8", "uint16", "int16", "float32"):
        for axes, shape in (("yx", (7, 9)), ("zyx", (3, 7, 9))):
            for channels in (1, 2, 3):
                array = (random.random((channels, *shape)) * 200).astype(dtype)
                path = made / f"input{suffix}"
                try:
                    write(path, Image(array=array, axes=axes, unit="um", spacing=(2.0, 0.5, 0.25)[-len(shape) :]))
                except UveaError:
                    continue
                content = path.read_bytes()
                for beside in set(made.iterdir()) - {path}:  # a detached data file, one for each seed
                    name = f"seed{len(found):02d}{''.join(beside.suffixes)}"
                    content = content.replace(beside.name.encode(), name.encode())
                    shutil.copy(beside, folder / name)
                found.append(content)
                shutil.rmtree(made)
    return found + _foreign_seeds(suffix)


def _foreign_seeds(suffix: str) -> list[bytes]:
    """What other programs make of a format: palettes, tiles, compressions, byte orders, pages."""
    import numpy as np
    from PIL import Image as Pillow

    gray = (np.arange(20 * 24) % 251).astype(np.uint8).reshape(20, 24)
    colour = np.stack([gray, gray.T.reshape(20, 24), 255 - gray], axis=-1)
    found = []
    if suffix in (".png", ".bmp", ".jpg"):
        kind = {".png": "PNG", ".bmp": "BMP", ".jpg": "JPEG"}[suffix]
        pictures = [Pillow.fromarray(colour), Pillow.fromarray(gray)]
        pictures += [Pillow.fromarray(colour).quantize(16), Pillow.fromarray(gray > 99)] if suffix != ".jpg" else []
        pictures += [Pillow.fromarray(colour).convert("CMYK")] if suffix == ".jpg" else []
        for picture in pictures:
            stream = io.BytesIO()
            picture.save(stream, kind, **({"progressive": True} if suffix == ".jpg" else {}))
            found.append(stream.getvalue())
    if suffix in (".tif", ".ome.tif"):
        import tifffile

        options: list[dict[str, Any]] = [
            {"compression": name} for name in ("lzw", "jpeg", "packbits", "zstd", "lzma", "jpeg2000")
        ]
        options += [{"tile": (16, 16), "compression": "deflate", "predictor": True}, {"byteorder": ">"}]
        options += [{"bigtiff": True}, {"rowsperstrip": 3}, {"photometric": "miniswhite"}, {"subifds": 1}]
        options += [{"photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)}, {"planarconfig": "separate"}]
        for option in options:
            stream = io.BytesIO()
            with tifffile.TiffWriter(
                stream, bigtiff=option.pop("bigtiff", False), byteorder=option.pop("byteorder", None)
            ) as writer:
                array = colour if option.get("compression") == "jpeg" else gray
                array = np.moveaxis(colour, -1, 0) if "planarconfig" in option else array
                if "planarconfig" in option:
                    option["photometric"] = "rgb"
                writer.write(array, metadata=None, **option)
                if "subifds" in option:
                    writer.write(array[::2, ::2], metadata=None, subfiletype=1)
            found.append(stream.getvalue())
        stream = io.BytesIO()
        tifffile.imwrite(stream, np.stack([gray] * 5), metadata={"axes": "ZYX"}, ome=suffix == ".ome.tif")
        found.append(stream.getvalue())
    return found


def _read_image(path: Path) -> None:
    import numpy as np

    from uvea.images import read

    image = read(path)
    assert image.array.size and image.array.dtype.kind in "biuf" and image.array.dtype.isnative
    assert all(0 < size < float("inf") for size in image.spacing), image.spacing
    assert np.isfinite(image.origin).all() and np.isfinite(image.direction).all()


@cache
def _model(folder: Path) -> Path:
    """A tiny dataset and a model that was trained on it for two steps."""
    import numpy as np

    from uvea.images import Image, write
    from uvea.workflows.train import train

    random = np.random.default_rng(0)
    for place in range(4):
        mask = np.zeros((1, 32, 32), np.uint8)
        mask[0, 4 : 12 + 4 * place, 8:24] = 255
        pixels = (mask // 2 + random.integers(0, 60, mask.shape)).astype(np.uint8)
        write(folder / "data" / "images" / f"{place}.png", Image(array=pixels, axes="yx"), overwrite=True)
        write(folder / "data" / "masks" / f"{place}.png", Image(array=mask, axes="yx"), overwrite=True)
    settings = {"width": "4,8", "patch": "16,16", "tile": "32,32", "overlap": "8,8", "precision": "float32", "batch": 2}
    train(folder / "data", out=folder / "model", steps=2, overrides=settings, device="cpu", overwrite=True)
    return folder


def _file_of_model(name: str, folder: Path) -> list[bytes]:
    return [(_model(folder) / "model" / name).read_bytes()]


def _read_plan(path: Path) -> None:
    from uvea.models.build import build_network
    from uvea.plan.plan import Plan

    build_network(Plan.load(path))


def _read_model(path: Path) -> None:
    """A model folder with this plan and good weights."""
    from uvea.workflows.model import load

    model = path.parent / "model"
    shutil.copy(path, model / "plan.json")
    load(model, device="cpu")


def _postprocess(path: Path) -> None:
    """A model folder with this beside the plan and good weights, and a prediction."""
    import numpy as np

    from uvea.workflows.model import load

    model = path.parent / "model"
    shutil.copy(path, model / "postprocessing.json")
    load(model, device="cpu").predict((np.arange(32 * 32) % 97).astype(np.uint8).reshape(1, 32, 32))


def _postprocessing_seeds(folder: Path) -> list[bytes]:
    """What a training wrote, and one with a cleaning, of the classes of that model."""
    written = _file_of_model("postprocessing.json", folder)
    cleaning = {"1": {"largest": True, "min_size": 5, "fill_holes": 3}}
    return [*written, json.dumps({**json.loads(written[0]), "cleaning": cleaning}).encode()]


def _read_run(path: Path) -> None:
    from uvea.workflows.kept import Kept

    Kept.load(path)


def _verify(path: Path) -> None:
    from uvea.workflows.verify import verify

    model = path.parent / "model"
    shutil.copy(path, model / "hashes.json")
    verify(model)


def _read_weights(path: Path) -> None:
    from uvea.models.build import build_network
    from uvea.models.weights import load_weights, read_weights
    from uvea.plan.plan import Plan

    read_weights(path)
    load_weights(path, build_network(Plan.load(path.parent / "model" / "plan.json")))


def _read_checkpoint(path: Path) -> None:
    from uvea.models.build import build_network
    from uvea.models.weights import read_weights
    from uvea.plan.plan import Plan
    from uvea.training.average import Average
    from uvea.training.checkpoint import unpack
    from uvea.training.muon import Muon

    network = build_network(Plan.load(path.parent / "model" / "plan.json"))
    optimizer = Muon(network, lr=0.01, weight_decay=0.01, heads=list(network.heads))  # as in a training
    unpack(read_weights(path), network, optimizer, Average(network, 0.9))


def _table_seeds(folder: Path) -> list[bytes]:
    for name in ("a.png", "b.png", "b_0001.png"):
        (folder / name).touch()
    return [
        b"image,mask,group,split\na.png,b.png,p1,train\nb.png,a.png,p2,val\n",
        b'\xef\xbb\xbfimage;mask\n"a.png";b.png\nb.png;\n',
        b"image\tmask\na.png\tb.png\n",
    ]


def _read_table(path: Path) -> None:
    from uvea.datasets.table import read_table

    read_table(path)


def _read_split(path: Path) -> None:
    from uvea.datasets.case import Case
    from uvea.datasets.split import splits_from_file

    cases = [Case(name=name, images=(Path(f"{name}.png"),), mask=Path(f"{name}_mask.png")) for name in "abcd"]
    splits_from_file(path, cases)


SPLITS = [b'[{"train": ["a", "b"], "val": ["c"]}, {"train": ["c"], "val": ["a"], "test": ["d"]}]']
SPLIT_TABLES = [b"name,split\na,train\nb,val\nc,test\n", b"name;split\na;train\nb;val\n"]


def _score_seeds(folder: Path) -> list[bytes]:
    import numpy as np

    from uvea.evaluation import score_case, write_csv

    truth = np.zeros((8, 8), np.int16)
    truth[2:5, 2:6] = 1
    rows = score_case("a/b", truth, truth.T, names=("background", "cell"), group="p")
    write_csv(folder / "made.csv", rows, overwrite=True)
    return [(folder / "made.csv").read_bytes()]


def _read_scores(path: Path) -> None:
    from uvea.evaluation.table import read_csv

    read_csv(path)


OPTIONS = ("--images", "--masks", "--axes", "--ignore-value", "--labels", "--instances", "--no-instances", "--skip",
           "--split", "--minutes", "--epochs", "--steps", "--set", "--folds", "--seed", "--device", "--quiet", "--help",
           "--max-pixels", "--out", "--all-files", "--tolerance", "--group", "--within", "--mirror", "--probabilities",
           "--overwrite", "--resume", "--no-report", "--version", "check", "plan", "predict", "evaluate", "compare",
           "patch=16,16", "width=4,8", "images/*", "masks/*", "zyx", "cyx", "loss=focal", "batch=1")  # fmt: skip


def _command_seeds(folder: Path) -> list[bytes]:
    home = _model(folder)
    data, model, masks = home / "data", home / "model", home / "data" / "masks"
    lines = [
        ["check", data],
        ["check", data, "--images", "images/*", "--masks", "masks/*", "--axes", "yx", "--quiet"],
        ["plan", data, "--steps", "5", "--set", "patch=16,16", "--folds", "2", "--seed", "1"],
        ["predict", model, data / "images" / "0.png", "--out", folder / "masks", "--overwrite"],
        ["evaluate", masks, masks, "--out", folder / "scores", "--overwrite", "--no-report", "--workers", "1"],
        ["evaluate", masks / "0.png", masks / "1.png", "--labels", "a,b", "--no-distances"],
    ]
    return ["\0".join(map(str, words)).encode() for words in lines]


def _resolved(word: str) -> Path | None:
    """What a word is as a path; None where it cannot be one."""
    try:
        return Path(word).resolve()
    except (OSError, ValueError, RuntimeError):
        return None


def _command(path: Path) -> None:
    """Run a command in this process; what it may not do is fail as a fault of uvea itself."""
    from uvea.cli.commands import app

    words = path.read_bytes().decode("utf-8", "replace").split("\0")
    refused = ("train", "demo")
    above = path.resolve().parents[1:]
    if any(word in refused or _resolved(word) in above for word in words):  # the whole disk takes its time
        return
    os.environ["UVEA_DEBUG"] = "1"
    said, before = io.StringIO(), Path.cwd()
    os.chdir(path.parent)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            app(words, standalone_mode=False)
        code: object = 0
    except SystemExit as ended:
        code = ended.code
    finally:
        os.chdir(before)
    if code not in (0, 2, None):
        raise RuntimeError(f"exit code {code}\n{said.getvalue()[-5000:]}")


def _images(suffix: str, *known: change.Mutation) -> Target:
    return Target(
        file=f"input{suffix}",
        seeds=partial(_image_seeds, suffix),
        mutate=change.any_of(*known),
        run=_read_image,
    )


def _keras_seeds(suffix: str, folder: Path) -> list[bytes]:
    """Networks that Keras itself saved."""
    return [path.read_bytes() for path in sorted((ROOT / "tests" / "models" / "fixtures").glob(f"*{suffix}"))]


def _read_keras(path: Path) -> None:
    from uvea.models.keras import read_keras

    read_keras(path)


JSON = change.any_of(change.json_text, bytewise=0.1)
TEXT = change.any_of(change.text)
TARGETS: dict[str, Target] = {
    "png": _images(".png", change.png),
    "jpg": _images(".jpg", change.jpeg),
    "bmp": _images(".bmp", change.BMP),
    "tif": _images(".tif", change.tiff, change.tiff, change.described(change.text)),
    "ome": _images(".ome.tif", change.tiff, change.described(change.text)),
    "nii": _images(".nii", change.NIFTI),
    "niigz": _images(".nii.gz", change.gzipped(change.NIFTI)),
    "nrrd": _images(".nrrd", change.text),
    "nhdr": _images(".nhdr", change.text),
    "mha": _images(".mha", change.text),
    "mhd": _images(".mhd", change.text),
    "npy": _images(".npy", change.npy),
    "plan": Target(file="plan.json", seeds=partial(_file_of_model, "plan.json"), mutate=JSON, run=_read_plan),
    "model": Target(file="plan.json", seeds=partial(_file_of_model, "plan.json"), mutate=JSON, run=_read_model),
    "run": Target(file="run.json", seeds=partial(_file_of_model, "run/run.json"), mutate=JSON, run=_read_run),
    "hashes": Target(file="hashes.json", seeds=partial(_file_of_model, "hashes.json"), mutate=JSON, run=_verify),
    "postprocessing": Target(file="postprocessing.json", seeds=_postprocessing_seeds, mutate=JSON, run=_postprocess),
    "weights": Target(
        file="input.safetensors",
        seeds=partial(_file_of_model, "weights.safetensors"),
        mutate=change.any_of(change.safetensors),
        run=_read_weights,
    ),
    "checkpoint": Target(
        file="input.safetensors",
        seeds=partial(_file_of_model, "run/checkpoint.safetensors"),
        mutate=change.any_of(change.safetensors),
        run=_read_checkpoint,
    ),
    "keras": Target(
        file="input.keras",
        seeds=partial(_keras_seeds, ".keras"),
        mutate=change.any_of(change.zipped({"json": JSON, "h5": change.bytes_of})),
        run=_read_keras,
    ),
    "h5": Target(file="input.h5", seeds=partial(_keras_seeds, ".h5"), mutate=change.any_of(), run=_read_keras),
    "table": Target(file="input.csv", seeds=_table_seeds, mutate=TEXT, run=_read_table),
    "split": Target(file="input.json", seeds=lambda folder: SPLITS, mutate=JSON, run=_read_split),
    "splitcsv": Target(file="input.csv", seeds=lambda folder: SPLIT_TABLES, mutate=TEXT, run=_read_split),
    "scores": Target(file="scores.csv", seeds=_score_seeds, mutate=TEXT, run=_read_scores),
    "options": Target(
        file="words", seeds=_command_seeds, mutate=change.any_of(change.words_of(OPTIONS), bytewise=0), run=_command
    ),
}


# --- writing down


def _line(name: str, tally: Tally) -> str:
    return (
        f"{name:<11}{tally.inputs:>8} inputs  {tally.refused:>8} refused  {len(tally.findings):>3} findings  "
        f"slowest {tally.slowest_seconds:.2f} s  memory {tally.largest_bytes / 2**20:.0f} MiB"
    )


def _record(asked: argparse.Namespace, tallies: dict[str, Tally], *, seconds: float) -> None:
    now = datetime.now(UTC)
    inputs = sum(tally.inputs for tally in tallies.values())
    found = sum(len(tally.findings) for tally in tallies.values())
    print(f"{inputs} inputs in {seconds / 60:.1f} min, {found} findings")
    if asked.out is None:
        return
    asked.out.mkdir(parents=True, exist_ok=True)
    stem = asked.out / f"fuzz-{now:%Y-%m-%d}-{asked.engine}"
    facts = {name: tally.__dict__ for name, tally in tallies.items()}
    record = {"engine": asked.engine, "seed": asked.seed, "seconds": seconds, "inputs": inputs, "targets": facts}
    stem.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    rows = [
        f"| {name} | {t.inputs} | {len(t.findings)} | {t.slowest_seconds:.2f} s | {t.largest_bytes / 2**20:.0f} MiB |"
        for name, t in tallies.items()
    ]
    text = [
        f"# Fuzzing, {now:%Y-%m-%d}",
        "",
        f"{inputs} inputs in {seconds / 60:.0f} minutes, engine {asked.engine}, seed {asked.seed}; {found} findings.",
        "",
        f"| target | inputs | findings | slowest input | memory {MEMORY_OF[asked.engine]} |",
        "|---|---|---|---|---|",
        *rows,
    ]
    stem.with_suffix(".md").write_text("\n".join(text) + "\n", encoding="utf-8")


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Give uvea damaged and hostile files, and write down what breaks.")
    parser.add_argument("--minutes", type=float, help="for all targets together")
    parser.add_argument("--inputs", type=int, help="per target, in place of or beside --minutes")
    parser.add_argument("--only", nargs="+", choices=list(TARGETS), metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--engine", choices=["plain", "atheris"], default="plain", help="atheris is guided by coverage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=Path("findings"), metavar="DIR", help="for inputs that break")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for a table, such as benchmarks/results")
    parser.add_argument("--replay", nargs=2, metavar=("TARGET", "FILE"), help="read one input and say what comes of it")
    parser.add_argument("--child", choices=list(TARGETS), help=argparse.SUPPRESS)
    parser.add_argument("--guided", choices=list(TARGETS), help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    if asked.minutes is None and asked.inputs is None and not (asked.replay or asked.child or asked.guided):
        parser.error("say --minutes or --inputs")
    return asked


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
