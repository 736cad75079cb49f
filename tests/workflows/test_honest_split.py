"""What is scored was never seen: copies and groups across a split stop a training, and the test folder stays shut."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from uvea.errors import DatasetError
from uvea.images import read, write
from uvea.workflows.check import check
from uvea.workflows.plan import plan
from uvea.workflows.train import resume
from uvea.workflows.verify import verify

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")


def parted(folder: Path, source: Path, **parts: tuple[int, ...]) -> Path:
    """Cases of a dataset by number, in part folders: such as train/images/case0.png."""
    for part, numbers in parts.items():
        for kind in ("images", "masks"):
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
            for number in numbers:
                shutil.copy(source / kind / f"case{number}.png", folder / part / kind)
    return folder


def copied(folder: Path, source: str, target: str, *, brighter: int = 0) -> None:
    """Put a copy of a case into another part."""
    for kind in ("images", "masks"):
        image = read(folder / source.replace("/", f"/{kind}/"))
        array = image.array + brighter if kind == "images" else image.array
        write(folder / target.replace("/", f"/{kind}/"), image.with_array(array.astype(image.array.dtype)))


@pytest.mark.parametrize(("brighter", "kind"), [(0, "duplicate-across"), (9, "near-duplicate-across")])
def test_a_copy_across_the_users_folders_stops_everything_but_the_look_at_it(gray_data, tiny, tmp_path, brighter, kind):
    """The pair is named, and nothing is written."""
    data = parted(tmp_path / "data", gray_data, train=(0, 1, 2), val=(3, 4))
    copied(data, "train/case1.png", "val/other.png", brighter=brighter)
    (error,) = check(data).errors
    assert error.kind == kind
    for begin in (lambda: plan(data, device="cpu"), lambda: tiny(data, tmp_path / "m")):
        with pytest.raises(DatasetError, match=r"'train/case1' (=|and) 'val/other'.*\n.*--allow-leak"):
            begin()
    assert not (tmp_path / "m").exists()


def test_an_allowed_leak_marks_the_report_the_run_and_the_hashes(gray_data, tiny, tmp_path):
    """Also after it was interrupted and resumed."""
    data = parted(tmp_path / "data", gray_data, train=(0, 1, 2), val=(3, 4))
    copied(data, "train/case1.png", "val/other.png")

    def stop(event):
        if getattr(event, "task", "") == "training" and event.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny(data, tmp_path / "m", allow_leak=True, listen=stop)
    resume(tmp_path / "m")
    report = (tmp_path / "m" / "report.html").read_text()
    assert "trained with --allow-leak" in report and "these scores are too good" in report
    (leak,) = json.loads((tmp_path / "m" / "hashes.json").read_text())["leaks"]
    assert "case1" in leak and "other" in leak
    assert verify(tmp_path / "m").ok
    tiny(gray_data, tmp_path / "clean", allow_leak=True)
    assert "--allow-leak" not in (tmp_path / "clean" / "report.html").read_text()
    assert json.loads((tmp_path / "clean" / "hashes.json").read_text())["leaks"] == []


def test_a_copy_across_a_split_file_stops_a_training(gray_data, tiny, tmp_path):
    """JSON and CSV; on one side it is nobody's business."""
    data = shutil.copytree(gray_data, tmp_path / "data")
    for kind in ("images", "masks"):
        shutil.copy(data / kind / "case0.png", data / kind / "copy.png")
    names = {"train": ["case0", "case1", "case2"], "val": ["case3", "copy"]}
    (tmp_path / "split.json").write_text(json.dumps(names))
    rows = [f"{name},{part}" for part, some in names.items() for name in some]
    (tmp_path / "split.csv").write_text("\n".join(["name,split", *rows]))
    for name in ("split.json", "split.csv"):
        with pytest.raises(DatasetError, match="'case0' = 'copy'"):
            tiny(data, tmp_path / "m", split_file=tmp_path / name)
    names = {"train": ["case0", "copy", "case2"], "val": ["case3"]}
    (tmp_path / "split.json").write_text(json.dumps(names))
    assert plan(data, split_file=tmp_path / "split.json", device="cpu").splits[0].val == ("case3",)


def test_a_patient_on_both_sides_of_a_table_stops_a_training(gray_data, tiny, tmp_path):
    """The group is named, with its cases."""
    rows = [
        f"{gray_data}/images/case{n}.png,{gray_data}/masks/case{n}.png,{group},{part}"
        for n, group, part in [(0, "ann", "train"), (1, "bob", "train"), (2, "eve", "val"), (3, "ann", "val")]
    ]
    table = tmp_path / "cases.csv"
    table.write_text("\n".join(["image,mask,group,split", *rows]))
    with pytest.raises(DatasetError, match=r"1 group is in training and in validation.*'ann' \('case0', 'case3'\)"):
        tiny(table, tmp_path / "m")


opened: list[str] = []
"""Every file that this process opened while somebody listened."""

listening = [False]


def _remember(event: str, arguments: tuple[object, ...]) -> None:
    if listening[0] and event == "open" and isinstance(arguments[0], str | bytes):
        opened.append(str(arguments[0]))


@pytest.fixture
def opening():
    """The list of opened files; an audit hook cannot be removed, so it is told when to listen."""
    if not opened and not hasattr(sys, "_uvea_listens"):
        sys.addaudithook(_remember)
        sys._uvea_listens = True
    opened.clear()
    listening[0] = True
    yield opened
    listening[0] = False


@pytest.mark.parametrize("how", ["folders", "split file"])
def test_the_test_cases_are_never_opened_by_a_training(gray_data, tiny, tmp_path, opening, how):
    """Neither while planning, nor training, nor when it is resumed, nor when the model is verified."""
    if how == "folders":
        data, settings = parted(tmp_path / "data", gray_data, train=(0, 1, 2), val=(3,), test=(4, 5)), {}
    else:
        data = shutil.copytree(gray_data, tmp_path / "data")
        names = {"train": ["case0", "case1", "case2"], "val": ["case3"], "test": ["case4", "case5"]}
        (tmp_path / "split.json").write_text(json.dumps(names))
        settings = {"split_file": tmp_path / "split.json"}
    opening.clear()

    def stop(event):
        if getattr(event, "task", "") == "training" and event.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny(data, tmp_path / "m", listen=stop, **settings)
    resume(tmp_path / "m")
    assert verify(tmp_path / "m").ok
    touched = {path for path in opening if str(data) in path}
    assert {f"case{n}.png" for n in range(4)} == {Path(path).name for path in touched if path.endswith(".png")}
    opening.clear()
    check(data, **settings)
    assert {f"case{n}.png" for n in range(6)} == {Path(path).name for path in opening if path.endswith(".png")}


def test_a_test_case_that_comes_later_is_not_opened_either(gray_data, tiny, tmp_path, opening):
    """It is no change of the data that was trained on."""
    data = parted(tmp_path / "data", gray_data, train=(0, 1, 2), val=(3,))
    tiny(data, tmp_path / "m")
    parted(data, gray_data, test=(5,))
    opening.clear()
    assert verify(tmp_path / "m").ok
    resume(tmp_path / "m")
    assert not any("case5" in path for path in opening)
