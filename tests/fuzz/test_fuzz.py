"""A short run of the fuzzer with fixed seeds, and the fuzzer itself: it must find what it is for.

Faults that longer runs found are tests beside what they were found in: tests/images/test_hostile.py,
tests/plan/test_plan.py, tests/datasets/test_discover.py.
"""

import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from uvea.errors import ImageError

FOLDER = Path(__file__).parents[2] / "benchmarks"
INPUTS = 40
"""Per target; enough to break a reader that believes its headers, in about a second."""


@pytest.fixture(scope="module")
def fuzz():
    """The script as a module; it is no part of the package."""
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location("fuzz", FOLDER / "fuzz.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(FOLDER))
        del sys.modules["fuzz"]


IMAGES = ["png", "jpg", "bmp", "tif", "ome", "nii", "niigz", "nrrd", "nhdr", "mha", "mhd", "npy"]
TEXTS = ["table", "split", "splitcsv", "scores"]
NETWORKS = ["keras", "h5"]


@pytest.mark.parametrize("name", IMAGES + TEXTS + NETWORKS)
def test_damaged_files_give_results_or_errors_that_a_user_can_mend(fuzz, name, tmp_path, capfd):
    """Never another exception, never a minute, never a gigabyte, never a word on the terminal from below."""
    target = fuzz.TARGETS[name]
    seeds = target.seeds(tmp_path)
    judge = fuzz.Judge(target, limited=False)
    path = tmp_path / target.file
    for number in range(len(seeds) + INPUTS):
        random = Random(f"1 {name} {number}")
        parent = random.choice(seeds)
        path.write_bytes(seeds[number] if number < len(seeds) else target.mutate(parent, random))
        found = judge(path)
        assert not found["key"], (number, found)
        assert number >= len(seeds) or not found["refused"], f"seed {number} is refused"
    assert capfd.readouterr() == ("", "")


MODELS = ["plan", "model", "run", "hashes", "postprocessing", "weights", "checkpoint", "options"]


def test_every_reader_is_in_the_short_run(fuzz):
    """All that longer runs read."""
    assert {*IMAGES, *TEXTS, *NETWORKS, *MODELS} == set(fuzz.TARGETS)


@pytest.mark.parametrize("name", MODELS)
def test_damaged_models_are_refused_in_one_line(fuzz, name, tmp_path_factory):
    """What is in a model folder may come from a stranger; what is typed is not what was meant."""
    folder = tmp_path_factory.getbasetemp() / f"fuzzed-{name}"
    folder.mkdir(exist_ok=True)
    target = fuzz.TARGETS[name]
    seeds = target.seeds(folder)
    judge = fuzz.Judge(target, limited=False)
    (folder / target.file).write_bytes(seeds[0])
    whole = judge(folder / target.file)
    assert not whole["key"] and not whole["refused"], whole
    for number in range(INPUTS if name != "options" else INPUTS // 4):  # commands take longer
        (folder / target.file).write_bytes(target.mutate(seeds[number % len(seeds)], Random(f"2 {name} {number}")))
        found = judge(folder / target.file)
        assert not found["key"], (number, found)


def broken(fuzz, run):
    """A target that reads a file in this way."""
    return fuzz.Target(file="input", seeds=lambda folder: [b"x"], mutate=fuzz.TEXT, run=run)


def test_the_judge_finds_what_it_is_for(fuzz, tmp_path):
    """An exception, a message that a terminal obeys, one of two lines, and memory."""
    path = tmp_path / "input"
    path.write_bytes(b"x")

    def fail(path):
        raise KeyError("unexpected")

    def obey(path):
        error = ImageError("harmless", hint="x")
        error.args = ("a\x1b[2J",)
        raise error

    def swell(path):
        held = bytearray(fuzz.MEMORY_BYTES + 2**26)
        held[:: 2**12] = b"x" * len(held[:: 2**12])

    def refuse(path):
        raise ImageError("no", hint="x")

    keys = [fuzz.Judge(broken(fuzz, run), limited=False)(path)["key"] for run in (fail, obey, refuse)]
    assert keys[0].startswith("KeyError test_fuzz.py")
    assert keys[1:] == ["message with control characters", ""]
    if sys.platform == "linux":
        assert fuzz.Judge(broken(fuzz, swell), limited=False)(path)["key"] == "memory"


def test_a_child_that_hangs_is_not_waited_for(fuzz):
    """The parent gives up after its limit, and reads on from a child that answers."""
    code = "import time; print('one', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        answers = fuzz._lines(child)
        assert next(answers(30), None) == "one"
        began = time.monotonic()
        assert next(answers(0.2), None) is None
        assert time.monotonic() - began < 10
        child.kill()


def test_a_finding_is_cut_down_to_what_matters(fuzz):
    """Three bytes of a thousand."""
    content = bytes(500) + b"b" + bytes(300) + b"ug" + bytes(200)
    assert fuzz.minimised(content, lambda part: b"b" in part and b"ug" in part) == b"bug"


def test_the_same_seed_gives_the_same_inputs(fuzz, tmp_path):
    """So that a finding of a long run can be made again."""
    target = fuzz.TARGETS["tif"]
    seeds = target.seeds(tmp_path)
    first, second = ([target.mutate(seed, Random(7)) for seed in seeds] for _ in range(2))
    assert first == second
    assert sum(made != seed for made, seed in zip(first, seeds)) > len(seeds) // 2


def test_a_replay_says_what_comes_of_a_file(fuzz, tmp_path, capfd):
    """By hand, with the path of a finding."""
    (tmp_path / "a.npy").write_bytes(b"rubbish")
    command = [sys.executable, str(FOLDER / "fuzz.py"), "--replay", "npy", str(tmp_path / "a.npy")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, ["refused"])


def test_a_guided_run_takes_a_reader_from_end_to_end(fuzz, tmp_path):
    """The engine that looks at coverage, where it is installed."""
    pytest.importorskip("atheris")
    code = fuzz.main(["--inputs", "50", "--only", "npy", "--engine", "atheris", "--findings", str(tmp_path)])
    assert code == 0 and not list(tmp_path.iterdir())
