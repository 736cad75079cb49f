"""The accuracy table holds back what it says and keeps what failed; the metrics are measured on what they should be."""

import argparse
import importlib.util
import json
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from uvea.workflows.evaluate import evaluate

FOLDER = Path(__file__).parents[1] / "benchmarks"


def loaded(name: str) -> ModuleType:
    """A script as a module; it is no part of the package."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


accuracy = loaded("accuracy")
metrics = loaded("metrics")
ROWS = {row.data: row for row in accuracy.ROWS}
NAMES = [f"{number:03d}.png" for number in range(20)]
MACHINE = {
    "processor": "slow",
    "cores": 2,
    "threads": 2,
    "memory_bytes": 2**33,
    "accelerator": None,
    "system": "Linux",
    "versions": {"uvea": "0"},
}


def write_mask(path: Path, pixels: Sequence[Sequence[int]]) -> None:
    """A tiny mask file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(pixels, np.uint8)).save(path)


@pytest.fixture
def vessels(tmp_path: Path) -> Path:
    """Ten images; in every mask two vessel pixels inside the field of view, and one outside."""
    data = tmp_path / "drive"
    for name in NAMES[:10]:
        write_mask(data / "images" / name, [[9, 9, 9, 9]])
        write_mask(data / "masks" / name, [[255, 255, 0, 255]])
        write_mask(data / "fov" / name, [[255, 255, 255, 0]])
    return data


def finished(code: int, text: str) -> Any:
    """A command that took two seconds on one and a half cores."""
    return accuracy.Finished(code=code, seconds=2.0, cpu_seconds=3.0, peak_memory_bytes=2**30, text=text)


def fake_uvea(pixels: dict[str, list[list[int]]], *, fails: str = "") -> Callable[[Sequence[str]], Any]:
    """An `uvea` that trains nothing, predicts the same pixels for every image, and evaluates for real.

    `pixels` is by the content of weights.safetensors, so that it shows which weights were used.
    """

    def call(words: Sequence[str]) -> Any:
        command, first, second, *options = words
        if command == fails:
            return finished(2, f"a\nno room in {first}/b\n  Try: b\n")
        if command == "train":
            model = Path(words[words.index("--out") + 1])
            model.mkdir()
            (model / "plan.json").write_text("{}")
            (model / "weights.safetensors").write_text("best")
            (model / "last.safetensors").write_text("last")
            (model / "history.csv").write_text("step,seconds,loss\n10,1,0.5\n70,2,0.4\n")
        if command == "predict":
            weights = (Path(first) / "weights.safetensors").read_text()
            for image in Path(second).iterdir():
                write_mask(Path(options[1]) / image.name, pixels[weights])
        if command == "evaluate":
            given = dict(zip(options[::2], options[1::2]))
            evaluate(first, second, out=given["--out"], within=given.get("--within"))
        return finished(0, "")

    return call


PERFECT, HALF = [[255, 255, 0, 0]], [[255, 0, 0, 0]]


def run(data: Path, folder: Path, *, fold: int = 2, **kwargs: Any) -> dict[str, Any]:
    """One fold of the vessels, with last weights that find half of them."""
    folder.mkdir()
    call = fake_uvea({"best": PERFECT, "last": HALF}, **kwargs)
    done = accuracy.run_row(ROWS["drive"], fold, data=data, folder=folder, minutes=10, call=call)
    return {**done, "machine": MACHINE}


@pytest.mark.parametrize("row", accuracy.ROWS, ids=lambda row: row.data)
def test_every_case_is_held_back_at_most_once_over_the_folds(row):
    """Folds cover all cases exactly once; a single block is a proper part."""
    held = [name for fold in range(1, row.folds + 1) for name in row.hold_back(NAMES, fold)]
    assert len(held) == len(set(held)) and set(held) <= set(NAMES)
    assert len(held) == (len(NAMES) if row.folds > 1 else {"isbi2012_em": 6}.get(row.data, 4))


def test_blocks_worked_by_hand():
    """The last six slices, every fifth patient, the last fifth."""
    assert list(ROWS["isbi2012_em"].hold_back(NAMES, 1)) == NAMES[14:]
    assert list(ROWS["drive"].hold_back(NAMES, 2)) == ["001.png", "006.png", "011.png", "016.png"]
    assert list(ROWS["wbc_dataset1"].hold_back(NAMES, 1)) == NAMES[16:]


def test_the_seeded_draw_never_changes():
    """Figures of different days compare only while the same cases are held back."""
    assert accuracy.drawn(NAMES, 1) == [NAMES[i] for i in sorted(np.random.default_rng(42).permutation(20)[:4])]
    assert accuracy.drawn(NAMES, 1) == ["007.png", "009.png", "014.png", "015.png"]


def test_folders_hold_links_to_every_file_on_one_side(vessels, tmp_path):
    """Train and val share nothing, lose nothing, and images stay with their masks."""
    held = accuracy.prepare(ROWS["drive"], 2, data=vessels, folder=tmp_path / "work")
    assert held == ["001.png", "006.png"]
    for kind in ("images", "masks"):
        parts = {part: sorted((tmp_path / "work/data" / part / kind).iterdir()) for part in ("train", "val")}
        assert [path.name for path in parts["val"]] == held
        assert sorted(path.name for paths in parts.values() for path in paths) == NAMES[:10]
        assert all(path.resolve() == vessels / kind / path.name for paths in parts.values() for path in paths)


def test_an_image_without_mask_stops_the_row(vessels, tmp_path):
    """Held-back names are chosen from the images, so a missing mask would shift nothing but be lost."""
    (vessels / "masks" / "003.png").unlink()
    with pytest.raises(accuracy.BenchmarkError, match=r"other names .* \['003.png'\]"):
        accuracy.prepare(ROWS["drive"], 1, data=vessels, folder=tmp_path / "work")


def test_a_row_scores_last_and_best_weights_inside_the_field_of_view(vessels, tmp_path):
    """Half of two pixels: 2*1/(2*1+0+1) = 2/3; the third vessel pixel lies outside and costs nothing."""
    done = run(vessels, tmp_path / "work")
    assert done["error"] is None and done["steps"] == 70 and done["held_back"] == ["001.png", "006.png"]
    (figure,) = ROWS["drive"].figures
    assert accuracy.per_case(figure, done["dice"]["last"]) == [2 / 3, 2 / 3]
    assert accuracy.per_case(figure, done["dice"]["best"]) == [1, 1]
    names = ["train", "predict last", "evaluate last", "predict best", "evaluate best"]
    assert [command["name"] for command in done["commands"]] == names
    train = ["uvea", "train", "WORK/data", "--out", "WORK/model", "--minutes", "10"]
    assert done["commands"][0]["command"] == train
    assert done["commands"][2]["command"][-2:] == ["--within", "DATA/fov"]
    assert str(tmp_path) not in json.dumps(done)


def test_figures_average_their_classes_within_a_case():
    """Cell and membrane are one class each; the two parts of a white blood cell are averaged."""
    dice = {"a": {"0": 0.1, "1": 0.4, "2": 0.8}, "b": {"0": 0.3, "1": 1.0, "2": 0.0}}
    cell, membrane = ROWS["isbi2012_em"].figures
    assert accuracy.per_case(cell, dice) == [0.4, 1.0]
    assert accuracy.per_case(membrane, dice) == [0.1, 0.3]
    assert accuracy.per_case(ROWS["wbc_dataset1"].figures[0], dice) == pytest.approx([0.6, 0.5])


@pytest.mark.parametrize("command, first", [("train", "data"), ("predict", "model-last"), ("evaluate", "masks-last")])
def test_a_failed_command_ends_the_row_and_keeps_what_it_said(vessels, tmp_path, command, first):
    """What came before it is kept, nothing comes after it, and places on this machine are not told."""
    done = run(vessels, tmp_path / "work", fails=command)
    assert done["error"] == f"uvea {command} ended with exit code 2:\na\nno room in WORK/{first}/b\n  Try: b"
    assert done["commands"][-1]["exit_code"] == 2 and done["dice"] == {}
    assert "no room in WORK" in accuracy.as_markdown("2026-01-02", [done])


def test_runs_of_a_day_are_merged_and_judged_once_all_folds_are_there(vessels, tmp_path):
    """Ten cases of 2/3 miss the goal; four folds are not judged yet."""
    results = tmp_path / "accuracy-2026-01-02.json"
    for fold in range(1, 6):
        accuracy.save(results, run(vessels, tmp_path / f"work-{fold}", fold=fold))
        table = results.with_suffix(".md").read_text()
        assert ("all 5 folds" in table) == (fold == 5)
    assert len(json.loads(results.read_text())["runs"]) == 5
    (line,) = [line for line in table.splitlines() if "all 5 folds" in line]
    cells = [cell.strip() for cell in line.split("|")][3:-1]
    steps = ", ".join(["70"] * 5)
    means = ["0.6667 ± 0.0000", "1.0000 ± 0.0000"]
    assert cells == ["10", "10", steps, "vessel in the field of view", *means, "0.805", "no"]
    assert table.count("| slow, 2 cores") == 0 and table.count("1. slow, 2 cores, 2 threads, 8.0 GiB") == 1


def test_the_newest_run_of_a_row_is_shown_and_the_older_one_kept(vessels, tmp_path):
    """Running again until the figure is fine must show."""
    results = tmp_path / "accuracy-2026-01-02.json"
    accuracy.save(results, run(vessels, tmp_path / "one"))
    accuracy.save(results, run(vessels, tmp_path / "two", fails="predict"))
    table = results.with_suffix(".md").read_text()
    assert "0.6667" not in table and "2 of 5, earlier" in table
    assert json.loads(results.read_text())["runs"][0]["dice"]["last"]["001"]["1"] == 2 / 3


def test_more_minutes_than_the_goal_allows_reach_nothing(vessels, tmp_path):
    """A figure of an hour says nothing about ten minutes."""
    row = ROWS["wbc_dataset1"]
    done = {**run(vessels, tmp_path / "work"), "data": row.data, "fold": 1, "folds": 1, "minutes": 60}
    done["dice"] = {kind: {"a": {"0": 1.0, "1": 1.0, "2": 1.0}} for kind in ("last", "best")}
    assert "| 0.945 | 60 minutes |" in accuracy.as_markdown("2026-01-02", [done])
    assert "| 0.945 | yes |" in accuracy.as_markdown("2026-01-02", [{**done, "minutes": 10}])


def test_commands_run_for_real_and_are_measured():
    """A process of its own, with its exit code, text, time and memory."""
    done = accuracy.run_uvea(["evaluate", "no-such-masks", "no-such-reference"])
    assert done.code == 2 and "no-such-reference" in done.text
    assert 0 < done.seconds < 60 and done.cpu_seconds > 0 and done.peak_memory_bytes > 2**20


def test_data_that_is_not_there_starts_nothing(tmp_path, capsys):
    """Exit code 2 and one line, before any training."""
    assert accuracy.main(["--data-root", str(tmp_path), "--out", str(tmp_path / "out"), "--only", "drive"]) == 2
    assert "no drive in" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_numbered_nuclei_are_given_as_foreground(tmp_path):
    """The row is about the foreground: no mask tells one nucleus from the next, the images are linked."""
    data = tmp_path / "dsb2018_stage1"
    for name in NAMES[:10]:
        write_mask(data / "images" / name, [[9, 9, 9, 9]])
        write_mask(data / "masks" / name, [[0, 1, 2, 200]])
    accuracy.prepare(ROWS["dsb2018_stage1"], 1, data=data, folder=tmp_path / "work")
    masks = sorted((tmp_path / "work" / "data").glob("*/masks/*.png"))
    assert len(masks) == 10 and {tuple(np.asarray(Image.open(mask))[0]) for mask in masks} == {(0, 255, 255, 255)}
    assert all(image.is_symlink() for image in (tmp_path / "work" / "data").glob("*/images/*.png"))


@pytest.mark.data
@pytest.mark.parametrize("row", accuracy.ROWS, ids=lambda row: row.data)
def test_every_dataset_can_be_prepared(row, data_root, tmp_path):
    """The shares of the real datasets; reads names only."""
    counts = {"isbi2012_em": 6, "drive": 4, "wbc_dataset1": 48, "dsb2018_stage1": 113, "msd_hippocampus": 40}
    if not (data_root / row.data).is_dir():
        pytest.skip(f"no {row.data}")
    assert len(accuracy.prepare(row, 1, data=data_root / row.data, folder=tmp_path)) == counts[row.data]


@pytest.mark.data
@pytest.mark.parametrize("row", accuracy.ROWS, ids=lambda row: row.data)
def test_references_scored_against_themselves_reach_every_goal(row, data_root, tmp_path):
    """Every label that a figure is about is in scores.csv, the background among them."""
    if not (data_root / row.data).is_dir():
        pytest.skip(f"no {row.data}")
    held = accuracy.prepare(row, 1, data=data_root / row.data, folder=tmp_path)[:3]
    for name in held:
        for copy in ("masks", "reference"):
            (tmp_path / copy).mkdir(exist_ok=True)
            shutil.copyfile(tmp_path / "data" / "val" / "masks" / name, tmp_path / copy / name)
    within = data_root / row.data / row.within if row.within else None
    evaluate(tmp_path / "masks", tmp_path / "reference", out=tmp_path / "scores", within=within)
    dice = accuracy.dice_of(tmp_path / "scores" / "scores.csv")
    assert len(dice) == len(held)
    for figure in row.figures:
        assert accuracy.per_case(figure, dice) == [1.0] * len(held)


def by_python(words: Sequence[str]) -> Any:
    """`uvea evaluate` in this process, with the options of the benchmark."""
    command, predictions, reference, *options = words
    assert command == "evaluate"
    given = dict(zip(options[::2], options[1::2]))
    assert tuple(options[-3:]) == metrics.FLAGS
    labels = {int(part.split("=")[0]): part.split("=")[1] for part in given["--labels"].split(",")}
    evaluate(
        predictions,
        reference,
        out=given["--out"],
        label_names=labels,
        tolerance=float(given["--tolerance"]),
        report=False,
        overwrite=True,
    )
    return finished(0, "")


def test_the_volume_has_all_classes_and_a_prediction_that_is_off_by_little():
    """Every class overlaps for the most part, and is not the same."""
    reference, prediction = (metrics.synthetic(48, moved=moved) for moved in (False, True))
    found = metrics.by_uvea(reference, prediction)
    assert list(found) == ["1", "2", "3", "4", "5"]
    assert all(0 < scores["hd"] < np.inf and 0.5 < scores["nsd"] < 1 for scores in found.values())


def test_small_masks_are_the_same_every_day_and_lack_a_class_where_they_should():
    """The largest label is missing from the reference of case 0, from the prediction of case 1, and from no other."""
    there = [[metrics.CLASSES[-1] in mask for mask in metrics.synthetic_case(number, 64)] for number in range(3)]
    assert there == [[False, True], [True, False], [True, True]]
    first, again = metrics.synthetic_case(7, 64), metrics.synthetic_case(7, 64)
    np.testing.assert_array_equal(first, again)
    assert 0 < (first[0] != first[1]).mean() < 0.1


def test_small_masks_are_scored_with_the_options_of_the_command(tmp_path):
    """Two classes of three cases are empty in one mask; without MONAI its row says so, and scores are not kept."""
    asked = argparse.Namespace(cases=3, side=32, repeat=2)
    run = metrics.measure_cases(tmp_path, asked, versions={"monai": None}, call=by_python)
    names = list(run["tools"])
    assert names[0] == "uvea evaluate, 1 worker" and names[-1] == metrics.LOOP
    entry = run["tools"][names[0]]
    assert (entry["seconds"], entry["cpu_seconds"], len(entry["turns"])) == (2.0, 3.0, 2)
    assert run["tools"][metrics.LOOP] == {"error": "not installed"} and "scores" not in entry
    scores = metrics.scores_of(tmp_path / "scores-1" / "scores.csv")
    assert len(scores) == 15 and set(scores["00002 1"]) == set(metrics.CASE_METRICS)
    assert scores["00000 5"]["hd"] == scores["00001 5"]["hd"] == np.inf


def test_a_command_that_failed_is_a_row_of_the_table(tmp_path):
    """Its last lines stand in place of the figures."""
    asked = argparse.Namespace(cases=1, side=16, repeat=1)
    call = lambda words: finished(2, "a\nno room\n")  # noqa: E731
    run = metrics.measure_cases(tmp_path, asked, versions={"monai": None}, call=call)
    assert run["tools"]["uvea evaluate, 1 worker"] == {"error": "exit code 2: a\nno room"}


def test_the_largest_difference_is_that_of_finite_values():
    """Where one is infinite or not a number, the conventions differ; none is left of the second case."""
    ours = {"a 1": {"dice": 0.5, "hd": 2.0}, "b 1": {"dice": 0.0, "hd": np.inf}}
    theirs = {"a 1": {"dice": 0.5, "hd": 2.25}, "b 1": {"dice": np.nan, "hd": 7.0}}
    assert metrics.largest_difference(theirs, ours) == 0.25
    assert metrics.largest_difference({"b 1": theirs["b 1"]}, ours) is None


def test_the_loop_over_monai_agrees_with_what_uvea_writes(tmp_path):
    """In every finite value, to the precision of float32."""
    pytest.importorskip("monai.metrics", reason="monai not installed: pip install -c constraints.txt -e '.[oracles]'")
    metrics.write_cases(tmp_path, 4, 48)
    ours = metrics.evaluated(tmp_path, 1, by_python)["scores"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = metrics.by_monai_loop(tmp_path)
    assert theirs.keys() == ours.keys() and theirs["00002 1"].keys() == ours["00002 1"].keys()
    assert metrics.largest_difference(theirs, ours) < 1e-4


def test_the_page_of_metrics_has_a_table_per_size_and_per_number_of_cases(tmp_path):
    """The newest run of each counts; seconds are the median with both ends."""

    def turns(*seconds: float) -> dict[str, Any]:
        one = {"cpu_seconds": 8.0, "floor_bytes": 2**30, "peak_bytes": 2**31, "scores": {"1": {"hd": 1.0}}}
        return metrics._together([{"seconds": value, **one} for value in seconds])

    rest = {"repeat": 3, "note": "", "started": "then", "commit": "abc", "machine": MACHINE, "versions": {"uvea": "0"}}
    volume = {"size": 64, "foreground": 0.25, "tools": {"uvea": turns(2, 4, 9)}, **rest}
    cases = {"cases": 1000, "side": 256, "tools": {metrics.LOOP: {**turns(10), "difference": 2e-6}}, **rest}
    older = {**cases, "tools": {metrics.LOOP: turns(77)}}
    page = metrics.as_markdown("2026-01-02", [older, volume, cases])
    assert "| uvea | 4.00 (2.00 to 9.00) | 2.00 | 2.00 GiB | 1.00 GiB |  |" in page
    assert "| MONAI, a plain loop | 10.00 (10.00 to 10.00) | 100 | 0.80 | 2.00 GiB | 2e-06 |" in page
    assert "77.00" not in page and page.count("### ") == 2
