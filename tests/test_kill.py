"""Real trainings, killed where it hurts: each goes on, and ends with the weights of one that nobody killed.

The long run, 200 kills: pytest -m long tests/test_kill.py
"""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from uvea import durable
from uvea.durable import make_whole, part_of, write_text, write_whole
from uvea.errors import OutputError
from uvea.images import write
from uvea.images.image import Image
from uvea.models.weights import read_weights, weights_hash
from uvea.workflows.workspace import Workspace

SETTINGS = {
    "steps": 20,
    "checkpoint_every": 0,
    "overrides": {
        "width": "4,8",
        "patch": "8,8",
        "batch": "2",
        "precision": "float32",
        "tile": "16,16",
        "overlap": "4,4",
    },
}
"""A state after every step, so that most kills fall near a write; a validation after every second one."""

CALLS = ("open", "write", "fsync", "replace")
"""What a save asks of the operating system, and what changes something there."""

ALL_CALLS = (*CALLS, "fstat", "close")


class Nursery:
    """The warm process of tests/nursery.py, and the data that it trains on."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self.folder, self.data = folder, folder / "data"
        rng = np.random.default_rng(7)
        for number in range(5):
            mask = np.zeros((1, 16, 16), np.uint8)
            mask[:, 4 + number % 3 : 12, 4:12] = 255
            pixels = (rng.integers(0, 120, mask.shape) + 0.4 * mask).astype(np.uint8)
            for part, array in (("images", pixels), ("masks", mask)):
                write(self.data / part / f"case{number}.png", Image(array=array, axes="yx"))
        self.process = process
        self.seconds = self.seconds_to_end = 0.0

    def warm_up(self) -> None:
        """Train once in the process itself and once in a child, which is timed."""
        assert self.do(name="unkilled", settings=SETTINGS) == 0, self.why("unkilled")
        began = time.monotonic()
        assert self.train("again") == 0, self.why("again")
        self.seconds = time.monotonic() - began

    def do(self, *, name: str, **job: object) -> int:
        """The exit code of a job, or minus the signal that ended it; see tests/nursery.py."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(
            json.dumps({"data": str(self.data), "out": str(self.folder / name), **job}),
            file=self.process.stdin,
            flush=True,
        )
        code, self.seconds_to_end = map(float, self.process.stdout.readline().split())
        return int(code)

    def train(self, name: str, **how: object) -> int:
        """Begin a training, or continue it."""
        return self.do(name=name, settings=SETTINGS, **how)

    def why(self, name: str) -> str:
        """The traceback of a training that failed."""
        said = [path.read_text() for path in self.folder.glob(f"{name}.*.txt")]
        return "\n".join(said) or "it says nothing"

    def check_equal(self, name: str) -> None:
        """The weights of a training are those of the one that nobody killed, to the last bit."""
        for file in ("weights.safetensors", "last.safetensors"):
            one, other = (read_weights(self.folder / model / file)[0] for model in ("unkilled", name))
            assert weights_hash(one) == weights_hash(other), file
        ours, theirs = ((self.folder / model / "history.csv").read_text().split() for model in ("unkilled", name))
        without_seconds = [[row.split(",")[:1] + row.split(",")[2:] for row in rows] for rows in (ours, theirs)]
        assert without_seconds[0] == without_seconds[1] and len(ours[0].split(",")) == 5
        assert len({(self.folder / model / "scores.csv").read_bytes() for model in ("unkilled", name)}) == 1
        ends = (".part", ".next.safetensors", ".tmp")
        left = [path.name for path in (self.folder / name).rglob("*") if path.name.endswith(ends)]
        assert left == []


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """A warm process with one training done."""
    # One thread, because a process with threads cannot be forked safely.
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    words = [sys.executable, str(Path(__file__).with_name("nursery.py"))]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True) as process:
        nursery = Nursery(tmp_path_factory.mktemp("killed"), process)
        nursery.warm_up()
        yield nursery
        process.stdin.close()


def kill_often(nursery: Nursery, *, kills: int, seed: int) -> None:
    """Kill by the clock and inside of writes in turn, four times each training, then let it end and compare."""
    rng, killed = random.Random(seed), 0
    round_number = 0
    while killed < kills:
        name = f"seed{seed}-{round_number}"
        round_number += 1
        for number in range(4):
            if number % 2:
                call = rng.choice(CALLS)
                die = {"call": call, "number": rng.randint(1, 40), "how": rng.choice(["before", "after"])}
                if call == "write":
                    die["how"] = "half"
                status = nursery.train(name, die=die)
            else:
                after = rng.uniform(0, nursery.seconds)
                status = nursery.train(name, kill={"after": after, "signal": signal.SIGKILL})
            assert status in (0, -signal.SIGKILL), nursery.why(name)
            killed += status == -signal.SIGKILL
            if status == 0:  # it was faster
                break
        assert nursery.train(name) == 0, nursery.why(name)
        nursery.check_equal(name)


def test_a_killed_training_ends_with_the_same_weights(nursery):
    """Twenty kills, at random moments and inside of writes."""
    kill_often(nursery, kills=20, seed=1)


@pytest.mark.long
def test_a_training_survives_two_hundred_kills(nursery):
    """As above, for longer."""
    kill_often(nursery, kills=200, seed=2)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_polite_signal_keeps_the_state_within_five_seconds_and_says_how_to_go_on(nursery, sent, code):
    """The command line ends with the code of the signal; the command that it names goes on from where it was."""
    name = f"signal-{code}"
    out = nursery.folder / name
    space = Workspace(out)
    overrides = [word for setting in SETTINGS["overrides"].items() for word in ("--set", "=".join(setting))]
    begin = ["train", str(nursery.data), "--out", str(out), "--steps", "1000000", "--device", "cpu", *overrides]
    kill = {"file": str(space.previous), "signal": sent}
    assert nursery.do(name=name, argv=[*begin, "--checkpoint-every", "0.05"], kill=kill) == code, nursery.why(name)
    assert nursery.seconds_to_end < 5
    before = step_of(space)
    line = nursery.why(name).splitlines()[-1]
    assert line == f"stopped; continue with: uvea train --resume {out}"
    space.previous.unlink()
    kill["file"] = str(space.previous)
    assert nursery.do(name=name, argv=line.split("uvea ")[1].split(), kill=kill) == code, nursery.why(name)
    assert nursery.seconds_to_end < 5
    assert 0 < before < step_of(space)


def step_of(space: Workspace) -> int:
    """The step of the newest state."""
    found, trouble = space.load_checkpoint()
    assert found is not None and trouble is None
    return json.loads(found[1]["progress"])["step"]


def clean_calls(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls of the operating system in a save that nothing disturbs."""
    made: list[str] = []

    def watched(call):
        real = getattr(os, call)
        return lambda *args, **kwargs: made.append(call) or real(*args, **kwargs)

    with monkeypatch.context() as patch:
        for call in ALL_CALLS:
            patch.setattr(os, call, watched(call))
        keep(folder, 3.0)
    return made


def keep(folder: Path, value: float) -> None:
    """Save a small state."""
    Workspace(folder).save_checkpoint(({"weight": torch.full((1000,), value)}, {"progress": str(value)}))


def kept(folder: Path) -> float:
    """The value of the state that loads, after checking that it is whole."""
    found, _ = Workspace(folder).load_checkpoint()
    assert found is not None
    values = found[0]["weight"].unique().tolist()
    assert len(values) == 1 and found[1] == {"progress": str(values[0])}
    return values[0]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_under_the_temporary_name_is_not_followed(tmp_path, monkeypatch):
    """Somebody guessed it, and laid it there to have another file overwritten."""
    other, path = tmp_path / "other", tmp_path / "plan.json"
    other.write_text("mine")
    guessed = part_of(path)
    monkeypatch.setattr(durable, "part_of", lambda path: guessed)
    for put in (write_text, lambda path, text: make_whole(path, lambda part: part.write_text(text))):
        guessed.symlink_to(other)
        put(path, "new")
        assert other.read_text() == "mine" and path.read_text() == "new" and not path.is_symlink()


def test_two_that_write_one_file_show_whole_files_only(tmp_path):
    """The second is half-way when the first is done."""
    path, half, go_on = tmp_path / "scores.csv", threading.Event(), threading.Event()

    def slow(part):
        part.write_text("half")
        half.set()
        go_on.wait(10)
        part.write_text("half and half")

    second = threading.Thread(target=make_whole, args=(path, slow))

    def fast(part):
        part.write_text("whole")
        second.start()
        assert half.wait(10)

    make_whole(path, fast)
    assert path.read_text() == "whole"
    go_on.set()
    second.join()
    assert path.read_text() == "half and half" and list(tmp_path.iterdir()) == [path]


def test_what_a_kill_left_is_removed_by_the_next_that_writes_there(tmp_path):
    """Of any file; what others call nearly so is theirs."""
    others = {".plan.json.part", "plan.json.12ab56.part", ".plan.json.12ab56"}
    for path in (part_of(tmp_path / "weights.bin"), part_of(tmp_path / "plan.json"), *map(tmp_path.joinpath, others)):
        path.write_text("half")
    write_text(tmp_path / "plan.json", "new")
    assert {path.name for path in tmp_path.iterdir()} == {"plan.json", *others}


def test_a_part_that_another_took_for_a_leftover_is_written_again(tmp_path):
    """It began to write in the folder just then."""
    tries = []

    def write(part):
        part.write_text("new")
        tries.append(part)
        if len(tries) == 1:
            durable.remove_parts(tmp_path)

    make_whole(tmp_path / "plan.json", write)
    assert (tmp_path / "plan.json").read_text() == "new" and len(set(tries)) == 2


def test_a_kill_at_any_call_of_a_save_leaves_a_whole_state(nursery, tmp_path, monkeypatch):
    """Before it, after it, half-way through a write: the old state loads or the new one, and the next save works."""
    for value in (1.0, 2.0):
        keep(tmp_path / "clean", value)
    calls = clean_calls(tmp_path / "clean", monkeypatch)
    assert set(calls) == set(ALL_CALLS)
    found = []
    for index, call in enumerate(calls):
        for how in ("before", "after", *(["half"] if call == "write" else [])):
            name = f"save-{index}-{how}"
            for value in (1.0, 2.0):
                keep(nursery.folder / name, value)
            die = {"call": call, "number": calls[: index + 1].count(call), "how": how}
            assert nursery.do(name=name, save=3.0, die=die) == -signal.SIGKILL, nursery.why(name)
            found.append(kept(nursery.folder / name))
            assert not Workspace(nursery.folder / name).next.exists()
            assert nursery.do(name=name, save=4.0) == 0, nursery.why(name)
            assert kept(nursery.folder / name) == 4.0
    assert found == sorted(found) and set(found) == {2.0, 3.0}


FAULTS = ("ENOSPC", "EIO", "short", "lost")
"""Disk full, a broken disk, a write that takes half and then finds the disk full, one that loses half in silence."""


def break_call(patch: pytest.MonkeyPatch, call: str, number: int, fault: str) -> None:
    """Let the `number`-th call fail, and all later ones of the kind too: a full disk stays full."""
    real, calls = getattr(os, call), []

    def faulty(*args, **kwargs):
        calls.append(0)
        if len(calls) < number:
            return real(*args, **kwargs)
        if fault in ("short", "lost") and len(calls) == number:
            written = real(args[0], bytes(args[1])[: len(args[1]) // 2])
            return written if fault == "short" else len(args[1])
        code = errno.EIO if fault == "EIO" else errno.ENOSPC
        raise OSError(code, os.strerror(code))

    patch.setattr(os, call, faulty)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_call_of_a_save_is_one_error_and_leaves_a_whole_state(tmp_path, monkeypatch, fault):
    """The state before it loads, or the new one if the fault came after it was safe; then saving goes on."""
    for value in (1.0, 2.0):
        keep(tmp_path / "clean", value)
    calls = clean_calls(tmp_path / "clean", monkeypatch)
    tried = 0
    for index, call in enumerate(calls):
        if fault in ("short", "lost") and call != "write":
            continue
        folder = tmp_path / str(index)
        for value in (1.0, 2.0):
            keep(folder, value)
        with monkeypatch.context() as patch:
            break_call(patch, call, calls[: index + 1].count(call), fault)
            with pytest.raises(OutputError) as caught:
                keep(folder, 3.0)
        assert "\n" not in caught.value.problem and str(folder) in caught.value.problem
        assert ("free some space" in caught.value.hint) == (fault in ("ENOSPC", "short"))
        assert kept(folder) in (2.0, 3.0)
        assert not list(folder.rglob("*.part"))
        keep(folder, 4.0)
        assert kept(folder) == 4.0
        tried += 1
    assert tried == (calls.count("write") if fault in ("short", "lost") else len(calls)) > 0


@pytest.mark.parametrize("fault", FAULTS)
def test_no_file_is_truncated_under_its_own_name(tmp_path, monkeypatch, fault):
    """Plan, weights, history, scores, report and hashes are all written this way."""
    path = tmp_path / "plan.json"
    write_text(path, "old")
    for call in ("open", "write", "fsync", "fstat", "close", "replace"):
        if fault in ("short", "lost") and call != "write":
            continue
        with monkeypatch.context() as patch:
            break_call(patch, call, 1, fault)
            with pytest.raises(OutputError, match="cannot write"):
                write_text(path, "new")
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.EIO])
def test_a_file_system_that_cannot_sync_is_written_to_all_the_same(tmp_path, monkeypatch, code):
    """Some in user space cannot; a disk that fails is another matter, for images and tables as well."""

    def no(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", no)
    image = Image(array=np.zeros((1, 3, 3), np.uint8), axes="yx")
    for put in (
        lambda: write_text(tmp_path / "a.txt", "text"),
        lambda: make_whole(tmp_path / "b.txt", lambda part: part.write_text("text")),
        lambda: write(tmp_path / "c.png", image),
    ):
        if code == errno.EIO:
            with pytest.raises(OutputError, match="Input/output error"):
                put()
        else:
            put()
    assert len(list(tmp_path.iterdir())) == (0 if code == errno.EIO else 3)


def test_a_write_that_is_answered_in_small_pieces_is_whole(tmp_path, monkeypatch):
    """Some file systems take few bytes per call."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: real(descriptor, bytes(content)[:3]))
    write_whole(tmp_path / "file", bytes(range(256)))
    assert (tmp_path / "file").read_bytes() == bytes(range(256))


def test_every_flipped_bit_of_a_state_is_noticed(tmp_path):
    """The newest is damaged on the disk: it is named, and the one before it is used."""
    rng = random.Random(0)
    for value in (1.0, 2.0):
        keep(tmp_path, value)
    space = Workspace(tmp_path)
    whole = space.checkpoint.read_bytes()
    # Headers are what readers trust: all of it, and a sample of the numbers.
    size = 8 + int.from_bytes(whole[:8], "little")
    for place in (*range(size), *rng.sample(range(size, len(whole)), 50)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.randrange(8)
        space.checkpoint.write_bytes(damaged)
        found, trouble = space.load_checkpoint()
        assert found is not None
        if trouble is None:  # a blank of the header became a tab, or the like
            assert found[0]["weight"].tolist() == [2.0] * 1000 and found[1] == {"progress": "2.0"}
        else:
            assert found[0]["weight"].tolist() == [1.0] * 1000
            assert str(space.checkpoint) in trouble
