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


def test_images_of_all_folds_are_scored_together(objects):
    """One image with TP/FP/FN 1/0/0 and one with 1/1/2 have an AP of .4 together and of .625 on average."""
    one, other = {"objects": 1.0, "objects_predicted": 1.0}, {"objects": 3.0, "objects_predicted": 2.0}
    images = [{**image, "dice": 0.5, **dict.fromkeys(objects.COUNTED, 1.0)} for image in (one, other)]
    found = objects.together(images)
    for name in ("ap_50", "mean_ap"):
        assert found[name] == pytest.approx({"pooled": 0.4, "mean": 0.625})
    run = run_of(objects, ap_50=0.9, ap_70=0.9, ap_75=0.9, ap_90=0.5, mean_ap=0.7, dice=0.95)
    run["tools"][objects.OURS]["images"] = {"a": images[0], "b": images[1]}
    folds = [{**run, "fold": fold} for fold in range(1, 6)]
    page = objects.page("2026-01-02", folds)
    assert "all 5 folds together" in page and "| uvea | 0.400 (0.625) |" in page
    assert "folds together" not in objects.page("2026-01-02", folds[:4])
    page = objects.page("2026-01-02", [{**run, "fluorescent": ["a"]} for run in folds])
    assert page.count("| of these, fluorescence (1) | 1.000 (1.000) |") == 5


def test_fluorescence_is_gray_and_dark(objects, tmp_path):
    """Stained images, and gray ones on a bright ground, are not."""
    lines = ["id,mode,mean_intensity", "a,gray,55.9", "b,gray,205.0", "c,rgb,9.5"]
    (tmp_path / "index.csv").write_text("\n".join(lines))
    assert objects.fluorescent(tmp_path / "index.csv") == {"a"}


def test_true_positives_are_counted_from_a_table_of_scores(objects, tmp_path):
    """An AP of 2 / 5 among 3 and 4 objects is 2 of them found; the background has none."""
    rows = [("1", "objects", 3), ("1", "objects_predicted", 4), ("1", "dice", 0.8), ("0", "dice", 0.99)]
    rows += [("1", name, 0.4) for name in objects.COUNTED]
    lines = [f"a,,{label},class,{metric},{value}," for label, metric, value in rows]
    (tmp_path / "scores.csv").write_text("\n".join(["case,group,label,class,metric,value,flag", *lines]))
    (image,) = objects._counts(tmp_path / "scores.csv").values()
    assert image["ap_50"] == image["ap_95"] == 2 and image["dice"] == 0.8


def test_every_real_image_is_held_back_in_one_fold(objects):
    """Five folds of 23 names are those names; the first is that of every other benchmark."""
    names = [f"{number:02d}" for number in range(23)]
    folds = [objects.drawn(names, fold) for fold in range(1, 6)]
    assert sorted(name for fold in folds for name in fold) == names and [len(fold) for fold in folds] == [5, 4, 5, 4, 5]


def test_made_nuclei_are_numbered_and_some_are_held_back(objects, tmp_path):
    """No image is on both sides."""
    data = next(data for data in objects.DATA if data.name == "nuclei")
    data.fill(tmp_path, data, 1, argparse.Namespace(quick=True))
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
