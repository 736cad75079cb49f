"""Each command hands its options to its workflow and shows what comes back."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from uvea.datasets.case import DataOptions, Finding
from uvea.datasets.split import Split
from uvea.errors import DatasetError, ModelError
from uvea.workflows.kept import Kept

ERROR = Finding(severity="error", kind="missing-mask", problem="a.tif has no mask", hint="add masks/a.tif")
WARNING = Finding(severity="warning", kind="empty-mask", problem="b.tif is empty", hint="look at it")


def checked(*findings):
    """A report of the check workflow."""
    errors = tuple(one for one in findings if one.severity == "error")
    return SimpleNamespace(rows=lambda: [("cases", "12")], findings=findings, errors=errors)


def test_check_exits_with_zero_when_there_are_only_warnings(run, workflow):
    """Warnings do not stop a training, so they do not stop a script either."""
    workflow("check", check=checked(WARNING))
    result = run("check", "data")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "cases  12"
    assert result.stdout.splitlines()[-1] == "1 warning"


def test_check_exits_with_two_when_there_are_errors(run, workflow):
    """All of it is still shown."""
    workflow("check", check=checked(ERROR, WARNING))
    result = run("check", "data")
    assert result.exit_code == 2
    assert "a.tif has no mask" in result.stdout and "b.tif is empty" in result.stdout


def test_data_options_reach_the_workflow(run, workflow):
    """Every option of the data, by its own name."""
    calls = workflow("check", check=checked())
    words = [
        "--images",
        "raw/*.tif",
        "--masks",
        "gt/*",
        "--axes",
        "zyx",
        "--ignore-value",
        "255",
        "--labels",
        "bg, cell",
    ]
    run("check", "data", *words, "--no-instances", "--skip", "*_old.tif", "--skip", "x*", "--split", "s.csv")
    (call,) = calls
    assert call["args"] == (Path("data"),)
    assert call["split_file"] == Path("s.csv") and call["folds"] == 1
    assert call["options"] == DataOptions(
        images="raw/*.tif",
        masks="gt/*",
        axes="zyx",
        ignore_value=255,
        label_names=("bg", "cell"),
        instances=False,
        skip=("*_old.tif", "x*"),
    )


@pytest.mark.parametrize("command", ["check", "plan", "train"])
def test_labels_may_name_values(run, workflow, command):
    """Alike in all commands: mask values with their names, not names with a sign in them."""
    answers = {"check": checked(), "plan": SimpleNamespace(plan=SimpleNamespace(rows=list), findings=()), "train": None}
    calls = workflow(command, **{command: answers[command]})
    assert run(command, "data", "--labels", "0=background, 255=cell").exit_code == 0
    assert calls[0]["options"] == DataOptions(label_names={0: "background", 255: "cell"})
    result = run(command, "data", "--labels", "0=background,cell")
    assert result.exit_code == 2 and len(calls) == 1
    assert result.stderr.startswith("--labels has 'cell', which is not VALUE=NAME")


def test_check_reads_a_split_file_of_folds(run, workflow):
    """As many splits as there are folds, as in plan and train."""
    calls = workflow("check", check=checked())
    assert run("check", "data", "--split", "s.json", "--folds", "5").exit_code == 0
    assert (calls[0]["split_file"], calls[0]["folds"]) == (Path("s.json"), 5)


def test_decode_passes_everything_on(run, workflow):
    """Every option, by its own name."""
    calls = workflow("predict", decode_files=[Path("again/a.tif")])
    words = ["--gap", "0.1", "--axes", "zyx", "--max-pixels", "9", "--min-size", "20", "--outlines", "imagej"]
    assert run("decode", "m", "masks", "--out", "again", *words).stdout == "1 file in again\n"
    (call,) = calls
    assert call["args"] == (Path("m"), ["masks"])
    expected = {"axes": "zyx", "max_pixels": 9, "after": {"gap": 0.1, "min_size": 20}, "outlines": ("imagej",)}
    assert {name: call[name] for name in expected} == expected


def test_plan_shows_every_decision_with_its_reason(run, workflow):
    """A table: name, value, reason."""
    made = SimpleNamespace(rows=lambda: [("patch", "256,256", "covers a cell")])
    calls = workflow("plan", plan=SimpleNamespace(plan=made, findings=(WARNING,)))
    result = run("plan", "data", "--set", "patch=256,256", "--set", "loss = dice", "--epochs", "3")
    assert result.exit_code == 0
    assert "patch     256,256  covers a cell" in result.stdout
    assert "b.tif is empty" in result.stdout
    assert calls[0]["overrides"] == {"patch": "256,256", "loss": "dice"}
    assert calls[0]["budget"].epochs == 3 and calls[0]["budget"].minutes is None


def test_two_budgets_are_refused(run, workflow):
    """Minutes and epochs cannot both be exact."""
    workflow("plan", plan=None)
    result = run("plan", "data", "--minutes", "3", "--epochs", "4")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 2


def test_train_passes_everything_on_and_says_what_to_do_next(run, workflow):
    """The model, and the command that uses it."""
    calls = workflow("train", train=None)
    words = ["--minutes", "10", "--folds", "5", "--seed", "1", "--device", "cpu", "--overwrite"]
    result = run("train", "data", "--out", "m", *words)
    assert result.exit_code == 0
    assert "uvea predict m IMAGES --out masks" in result.stdout
    (call,) = calls
    assert call["args"] == (Path("data"),)
    expected = {"out": Path("m"), "minutes": 10.0, "epochs": None, "steps": None, "folds": 5, "seed": 1}
    assert {name: call[name] for name in expected} == expected
    assert call["device"] == "cpu" and call["overwrite"] is True


def test_what_to_do_next_can_be_pasted(run, workflow, tmp_path):
    """A space in the name of a folder is usual, and no reason for a command that fails."""
    workflow("train", train=None, resume=KeyboardInterrupt())
    assert "uvea predict 'my model' IMAGES" in run("train", "data", "--out", "my model").stdout
    (tmp_path / "my model" / "run").mkdir(parents=True)
    (tmp_path / "my model" / "run" / "run.json").touch()
    result = run("train", "--resume", str(tmp_path / "my model"))
    assert result.stderr.endswith(f"uvea train --resume '{tmp_path}/my model'\n")


def test_what_to_do_next_has_the_axes_that_the_training_was_given(run, workflow, tmp_path):
    """Images like those of the training are read wrongly without."""
    workflow("train", train=None)
    kept = Kept(
        source=tmp_path,
        options=DataOptions(axes="cyx"),
        device=None,
        plan="",
        data="",
        splits=(Split(train=("a",), val=("b",), reason=""),),
        unopened=(),
        findings=(),
        leaks=(),
        checkpoint_every=None,
    )
    (tmp_path / "run").mkdir()
    kept.save(tmp_path / "run" / "run.json")
    result = run("train", "data", "--out", str(tmp_path), "--axes", "cyx")
    assert result.stdout.endswith("IMAGES --out masks --axes cyx\n")


def test_resume_continues_the_model_that_is_named(run, workflow):
    """Nothing but its folder is needed."""
    calls = workflow("train", resume=None)
    assert run("train", "--resume", "m").exit_code == 0
    assert calls == [{"function": "resume", "args": (Path("m"),)}]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("data", "--resume", "m"), "DATA"),
        (("--resume", "m", "--minutes", "3"), "--minutes"),
        (("--resume", "m", "--set", "batch=1"), "--set"),
        (("--resume", "m", "--seed", "42"), "--seed"),
        (("--resume", "m", "--ignore-value", "3"), "--ignore-value"),
    ],
)
def test_resume_refuses_what_would_change_the_plan(run, workflow, words, named):
    """Also when the value is the default: the user believes that it does something."""
    calls = workflow("train", resume=None, train=None)
    result = run("train", *words)
    assert result.exit_code == 2 and calls == []
    assert result.stderr.startswith(f"{named} cannot be given together with --resume")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "there is no DATA"),
        (("data", "--set", "patch"), "--set patch is not NAME=VALUE"),
        (("data", "--set", "a=1", "--set", "a=2"), "--set gives a twice: 1 and 2"),
        (("data", "--labels", "a,,b"), "--labels 'a,,b' has an empty name"),
        (("data", "--labels", "a,a"), "--labels 'a,a' has a name twice"),
    ],
)
def test_faulty_options_get_two_lines(run, workflow, words, problem):
    """What, which value, and the way out; nothing is started."""
    calls = workflow("train", train=None)
    result = run("train", *words)
    assert result.exit_code == 2 and calls == []
    first, second = result.stderr.splitlines()
    assert first.startswith(problem)
    assert second.startswith("  Try: ")


def test_predict_says_how_many_files_it_wrote(run, workflow):
    """Images may be files, folders and globs, all at once."""
    calls = workflow("predict", predict_files=[Path("masks/a.tif")])
    result = run("predict", "m", "a.tif", "more", "--out", "masks", "--mirror", "--probabilities")
    assert result.stdout == "1 file in masks\n"
    (call,) = calls
    assert call["args"] == (Path("m"), ["a.tif", "more"])
    assert call["mirror"] and call["probabilities"] and not call["overwrite"]


class Incomplete(DatasetError):
    """As the error of the workflow."""

    scores = None


def test_evaluate_prints_the_table(run, workflow):
    """With the place of the files, if there are any."""
    calls = workflow("evaluate", evaluate=SimpleNamespace(table=lambda width: "cell  0.91"), IncompleteError=Incomplete)
    result = run("evaluate", "masks", "truth", "--out", "scores", "--labels", "bg,cell", "--allow-missing")
    assert result.stdout == "cell  0.91\nscores in scores\n"
    (call,) = calls
    assert call["args"] == (Path("masks"), Path("truth"))
    assert call["label_names"] == ("bg", "cell") and call["allow_missing"] is True
    assert call["instances"] is None and call["distances"] and call["report"] and call["workers"] is None


def test_evaluate_passes_everything_on(run, workflow):
    """Every option, by its own name."""
    calls = workflow("evaluate", evaluate=SimpleNamespace(table=lambda width: ""), IncompleteError=Incomplete)
    words = ["--labels", "0=background, 128=liver", "--group", "g.csv", "--tolerance", "1.5", "--no-distances"]
    words += ["--instances", "--em-membranes", "--em-threshold", "0.3", "--probabilities", "soft", "--within", "fov"]
    words += ["--ignore", "9", "--allow-extra", "--images", "raw", "--no-report", "--workers", "3", "--overwrite"]
    assert run("evaluate", "pairs.csv", *words).exit_code == 0
    (call,) = calls
    assert call["args"] == (Path("pairs.csv"), None)
    expected = {
        "label_names": {0: "background", 128: "liver"},
        "groups": Path("g.csv"),
        "tolerance": 1.5,
        "distances": False,
        "instances": True,
        "em_membranes": True,
        "em_threshold": 0.3,
        "probabilities": Path("soft"),
        "within": Path("fov"),
        "ignore_value": 9,
        "allow_missing": False,
        "allow_extra": True,
        "images": Path("raw"),
        "report": False,
        "workers": 3,
        "overwrite": True,
    }
    assert {name: call[name] for name in expected} == expected


def test_evaluate_shows_what_was_scored_and_what_was_not(run, workflow):
    """The table of the others, two lines per failure up to ten, and exit code 2."""
    failures = [SimpleNamespace(error=DatasetError(f"no mask for {n}", hint="add it")) for n in range(12)]
    problem = Incomplete("some failed", hint="mend them")
    problem.scores = SimpleNamespace(table=lambda width: "cell  0.91", failures=failures)
    workflow("evaluate", evaluate=problem, IncompleteError=Incomplete)
    result = run("evaluate", "masks", "truth", "--out", "scores")
    assert result.exit_code == 2
    assert result.stdout == "cell  0.91\nscores in scores\n"
    lines = result.stderr.splitlines()
    assert lines[:2] == ["no mask for 0", "  Try: add it"]
    assert lines[20:] == ["2 more cases could not be scored", "  Try: scores/summary.json lists all"]


@pytest.mark.parametrize(
    ("labels", "problem"),
    [("0=a,b", "--labels has 'b', which is not VALUE=NAME"), ("0=a,0=b", "--labels gives the value 0 twice")],
)
def test_labels_name_all_values_or_none(run, workflow, labels, problem):
    """Half a mapping would be a guess."""
    calls = workflow("evaluate", evaluate=None, IncompleteError=Incomplete)
    result = run("evaluate", "masks", "truth", "--labels", labels)
    assert result.exit_code == 2 and calls == []
    assert result.stderr.startswith(problem)


def test_compare_prints_its_table(run, workflow):
    """Options that count for masks go to the evaluation of both."""
    calls = workflow("compare", compare_files=SimpleNamespace(table=lambda width: "B is better"))
    words = ["--reference", "truth", "--metrics", "dice, hd95", "--out", "c", "--instances", "--workers", "2"]
    words += ["--allow-extra", "--max-pixels", "9"]
    result = run("compare", "a", "b", *words)
    assert result.stdout == "B is better\ncomparison in c\n"
    (call,) = calls
    assert call["args"] == (Path("a"), Path("b"))
    expected = {"reference": Path("truth"), "metrics": ["dice", "hd95"], "instances": True, "workers": 2}
    expected |= {"allow_extra": True, "max_pixels": 9}
    assert {name: call[name] for name in expected} == expected


def test_demo_shows_its_score_and_report(run, workflow):
    """The Dice on the test images, and where to look."""
    paths = {"report": Path("d/report.html"), "scores": Path("d/scores.html"), "folder": Path("d")}
    workflow("demo", demo=SimpleNamespace(dice=0.9345, **paths))
    result = run("demo", "--out", "d")
    assert result.exit_code == 0
    assert "0.934" in result.stdout or "0.935" in result.stdout
    assert "d/report.html" in result.stdout and "d/scores.html" in result.stdout


def test_a_fault_of_the_data_is_two_lines(run, workflow):
    """Problem and remedy on stderr, exit code 2, nothing on stdout."""
    workflow("train", train=DatasetError("no images in data", hint="uvea check data"))
    result = run("train", "data")
    assert result.exit_code == 2
    assert result.stderr == "no images in data\n  Try: uvea check data\n"
    assert result.stdout == ""


def test_leaks_and_states_reach_the_training(run, workflow):
    """Both are off, or left to uvea, unless they are asked for."""
    calls = workflow("train", train=None)
    assert run("train", "data").exit_code == 0
    assert (calls[0]["allow_leak"], calls[0]["checkpoint_every"]) == (False, None)
    assert run("train", "data", "--allow-leak", "--checkpoint-every", "30").exit_code == 0
    assert (calls[1]["allow_leak"], calls[1]["checkpoint_every"]) == (True, 30.0)


@pytest.mark.parametrize("differs", [False, True])
def test_verify_shows_what_it_looked_at_and_exits_with_two_where_something_differs(run, workflow, differs):
    """Each difference is an error with its way out."""
    problems = (ModelError("plan.json is another", hint="copy it again"),) if differs else ()
    found = SimpleNamespace(rows=(("plan.json", "as written"),), problems=problems, ok=not differs)
    calls = workflow("verify", verify=found)
    result = run("verify", "m", "--data", "there")
    assert calls == [{"function": "verify", "args": (Path("m"),), "data": Path("there")}]
    assert result.exit_code == (2 if differs else 0)
    assert result.stdout.splitlines()[0] == "plan.json  as written"
    assert ("plan.json is another" in result.stderr) == differs
    assert ("m is as it was written" in result.stdout) != differs
