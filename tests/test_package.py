"""`import uvea` is quick, starts nothing heavy, and offers the names that the documentation uses."""

import subprocess
import sys
import time

import pytest

import uvea


def run_python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_loads_neither_torch_nor_numpy():
    """A script that only wants the version must not wait for torch."""
    code = "import sys, uvea; print(sorted({'torch', 'numpy', 'scipy', 'pydantic'} & set(sys.modules)))"
    assert run_python(code) == "[]"


def test_importing_takes_less_than_a_fifth_of_a_second():
    """Measured inside a fresh interpreter, the best of three, so that a busy machine does not decide."""
    code = "import time; t = time.perf_counter(); import uvea; print(time.perf_counter() - t)"
    assert min(float(run_python(code)) for _ in range(3)) < 0.2


def test_reading_images_starts_no_torch():
    """The layers below the stages work without it."""
    assert run_python("import sys, uvea; uvea.read, uvea.Image; print('torch' in sys.modules)") == "False"


@pytest.mark.parametrize("name", uvea.__all__)
def test_every_public_name_is_there(name):
    """What `dir` promises can be used, and stays after the first use."""
    assert name in dir(uvea)
    assert getattr(uvea, name) is getattr(uvea, name)


def test_an_unknown_name_is_an_attribute_error():
    """Lazy names must not hide typos."""
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = uvea.trian


def test_the_module_runs_as_a_command():
    """`python -m uvea` is the command, and answers at once."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "uvea", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"uvea {uvea.__version__}\n"
    assert time.perf_counter() - started < 10
