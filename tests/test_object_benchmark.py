"""The benchmark of objects holds back what it says, reads its scores, and shows what came out."""

import argparse
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from uvea.images import read

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def objects():
    """benchmarks/objects.py as a module; it is no part of the package."""
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location("objects_benchmark", FOLDER / "objects.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(FOLDER))


def run_of(objects, **scores):
    """A run of all tools; StarDist is not installed."""
    found = {name: {"pooled": value, "mean": value / 2} for name, value in scores.items()}
    entry = {"scores": found, "seconds": 600, "predict_seconds": 9.5}
    machine = {"processor": "slow", "cores": 2, "memory_bytes": 2**33, "accelerator": None, "versions": {"uvea": "0"}}
    begun = {
        "started": "then",
        "commit": "abc",
        "machine": machine,
        "threads": 2,
        "repeat": 3,
        "quick": False,
        "note": "",
    }
    tools = {
        objects.OURS: {**entry, "tiles": {"agreement": 0.9995, "objects": 77}},
        objects.STARDIST: {"error": objects.ABSENT + "stardist"},
    }
    return {**begun, "part": "nuclei", "minutes": 10.0, "tools": tools}


@pytest.mark.parametrize(("ap_75", "reached"), [(0.86, "yes"), (0.84, "no")])
def test_the_page_shows_figures_goals_and_what_is_missing(objects, ap_75, reached):
    """Pooled, in brackets the mean over images; a goal is reached or not."""
    run = run_of(objects, ap_50=0.97, ap_70=0.9, ap_75=ap_75, ap_90=0.5, mean_ap=0.7, dice=0.95)
    page = objects.page("2026-01-02", [run])
    assert "| uvea | 0.970 (0.485) | 0.900 (0.450) |" in page and f"| 600 | 9.5 | {reached} |" in page
    assert "StarDist | not installed: stardist |" in page
    assert "AP at 0.90 0.9995, 77 objects" in page and "AP 0.75 0.85" in page


def test_made_nuclei_are_numbered_and_some_are_held_back(objects, tmp_path):
    """No image is on both sides."""
    data = next(data for data in objects.DATA if data.name == "nuclei")
    data.fill(tmp_path, data, argparse.Namespace(quick=True))
    sides = [sorted(path.name for path in (tmp_path / part / "images").iterdir()) for part in ("train", "held")]
    assert [len(names) for names in sides] == [8, 2] and not set(sides[0]) & set(sides[1])
    assert read(tmp_path / "held" / "masks" / sides[1][0]).array.max() > 2


def test_decoding_is_timed_alike_at_once_and_in_blocks(objects, monkeypatch):
    """Four copies of a piece have about four times its objects."""
    from ours_objects import decoding

    monkeypatch.setattr("ours_objects.LARGEST", 256)
    job = decoding(size=128)
    next(job)
    once = next(job)
    blocks = decoding(size=512)
    next(blocks)
    found = next(blocks)
    assert once["seconds"] > 0 and 12 <= once["objects"] <= 25
    assert found["objects"] == pytest.approx(16 * once["objects"], rel=0.2)
    assert np.isfinite(found["seconds"])
