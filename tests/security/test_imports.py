"""The package has no way to run what a file says: no pickle, no eval, no processes, no network. Read off its source."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

import uvea

SOURCE = Path(uvea.__file__).parent
FILES = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))

MODULES = {
    *("pickle", "cPickle", "_pickle", "pickletools", "marshal", "shelve", "dill", "cloudpickle", "joblib", "copyreg"),
    *("subprocess", "multiprocessing", "pty", "os.system", "code", "codeop", "runpy", "imp", "zipimport"),
    *("socket", "ssl", "urllib", "http", "ftplib", "smtplib", "telnetlib", "xmlrpc", "socketserver", "asyncio"),
    *("requests", "httpx", "aiohttp", "urllib3", "fsspec", "webbrowser", "yaml", "ctypes", "cffi"),
    *("torch.hub", "torch.package", "torch.multiprocessing", "torch.utils.model_zoo", "torch.utils.cpp_extension"),
}
"""Modules that load objects, start programs or open connections."""

ALLOWED_MODULES = {
    # The C library of the system, for its allocator and, on Windows, for the size of the memory.
    "models/device.py": {"ctypes"},
}

ALLOWED_CALLS = {
    # Of networks of ours, where somebody asks for it: no text takes part.
    "models/compiled.py": {"torch.compile"},
}

NAMES = {"eval", "exec", "compile", "__import__", "breakpoint", "input"}
"""Built-in functions that run text."""

ATTRIBUTES = {
    *(f"os.{name}" for name in ("system", "popen", "fork", "forkpty", "startfile", "posix_spawn", "posix_spawnp")),
    *(f"os.{kind}{form}" for kind in ("exec", "spawn") for form in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
    *("torch.load", "torch.save", "torch.jit.load", "torch.hub.load", "torch.compile", "torch.export.load"),
    *("numpy.fromregex", "np.fromregex", "pandas.read_pickle", "pd.read_pickle", "shutil.unpack_archive"),
    *("zipfile.ZipFile.extractall", "tarfile.open"),
}

CHOSEN_BY_NAME = {"__init__.py", "inference/engines.py", "models/keras_file.py"}
"""Files that import what is named at run time: out of tables of their own, never out of a file."""


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Every file of the package, parsed."""
    for name in FILES:
        yield name, ast.parse((SOURCE / name).read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> set[str]:
    """Modules that a file imports, wherever in it, with the modules they are in."""
    found: set[str] = set()
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            found |= {".".join(parts[: n + 1]) for n in range(len(parts))}
    return found


def aliases(tree: ast.AST) -> dict[str, str]:
    """What the names that a file imports stand for: {"np": "numpy", "load": "torch.load"}."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def dotted(node: ast.AST, names: Mapping[str, str] = MappingProxyType({})) -> str:
    """The text of a name with dots, its first part as `names` has it; "" for anything else."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value, names)
        return f"{before}.{node.attr}" if before else ""
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def run_or_loaded(tree: ast.AST) -> list[str]:
    """Where a file runs text or loads objects, "LINE NAME"; what `getattr` is asked for by name counts, too."""
    names = aliases(tree)
    found = []
    for node in ast.walk(tree):
        text = dotted(node, names)
        if isinstance(node, ast.Call) and dotted(node.func) == "getattr":
            words = [part.value for part in node.args if isinstance(part, ast.Constant)]
            text = next((f"{dotted(node.args[0], names)}.{word}" for word in words), "")
        if text in ATTRIBUTES or (isinstance(node, ast.Name) and text.removeprefix("builtins.") in NAMES):
            found.append(f"{node.lineno} {text}")
    return found


def test_no_module_that_runs_code_or_opens_connections_is_imported():
    """Also not inside of functions; the exceptions are listed with their reason."""
    found = {name: imported(tree) & MODULES for name, tree in trees()}
    assert {name: modules for name, modules in found.items() if modules} == ALLOWED_MODULES


def test_no_text_is_run_and_no_object_loaded():
    """Neither by a built-in function nor by one of os or torch; the exceptions are listed with their reason."""
    found = {name: {place.split()[1] for place in run_or_loaded(tree)} for name, tree in trees()}
    assert {name: calls for name, calls in found.items() if calls} == ALLOWED_CALLS


@pytest.mark.parametrize(
    "text",
    [
        "eval('1')",
        "import torch\ntorch.load('x')",
        "import torch as t\nt.load('x')",
        "from torch import load\nload('x')",
        "from torch import load as read\nread('x')",
        "from os import system\nf = system",
        "import torch\ngetattr(torch, 'load')('x')",
        "from builtins import eval as e\ne('1')",
        "from zipfile import ZipFile\nZipFile.extractall",
    ],
)
def test_what_runs_text_is_found_under_any_name(text):
    """As it is, renamed, imported by itself, or asked for by its name."""
    assert run_or_loaded(ast.parse(text))


def test_pickles_in_arrays_are_refused_by_name():
    """`allow_pickle` is said to be false wherever it is said, and numpy's own default is false."""
    import inspect

    import numpy as np

    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant) and node.value.value is False, f"{name}:{node.value.lineno}"
    assert inspect.signature(np.load).parameters["allow_pickle"].default is False


def test_modules_are_named_at_run_time_in_known_places_only():
    """What such a name comes from is a table in the file."""
    found = {
        name
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and dotted(node.func) in ("import_module", "importlib.import_module")
    }
    assert found <= CHOSEN_BY_NAME


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "def f():\n    from urllib.request import urlopen",
        "import torch.hub",
        "from os import path\nimport subprocess as s",
    ],
)
def test_the_search_finds_what_it_is_for(text):
    """A walk that found nothing would let everything pass."""
    assert imported(ast.parse(text)) & MODULES


def test_pillow_is_asked_for_three_decoders_and_never_to_guess():
    """`Image.open` tries every plugin there is, PostScript among them."""
    found = []
    for name, tree in trees():
        for node in ast.walk(tree):
            text = dotted(node)
            if text in ("Image.open", "Pillow.open", "PIL.Image.open", "Image.preinit", "Image.init"):
                found.append(f"{name}:{node.lineno} {text}")
    assert found == []
