"""A plan survives a trip through JSON and refuses what contradicts itself."""

import json

import pytest

from uvea.errors import PlanError
from uvea.plan.plan import Plan, shown
from uvea.training.losses import LOSSES


def test_a_saved_plan_reads_back_equal(plan, tmp_path):
    """Nothing is lost or changed by the file, in two and three dimensions."""
    for made in (
        plan(),
        plan(axes="zyx", unit="mm", spacing=(3.0, 0.7, 0.7), left_right_axis=2, mirror_pairs=(("left", "right"),)),
        plan({"normalization": "percentile low=1 high=99", "class_weights": "1,2.5"}),
    ):
        made.save(tmp_path / "plan.json")
        assert Plan.load(tmp_path / "plan.json") == made


def test_a_misspelt_setting_is_refused_by_name(plan, tmp_path):
    """Silently ignoring `patches` would train on another size."""
    path = tmp_path / "plan.json"
    plan().save(path)
    path.write_text(path.read_text().replace('"patch"', '"patches"'))
    with pytest.raises(PlanError, match="does not know: patches"):
        Plan.load(path)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('"format": 1', '"format": 2', r"is of format 2, this version of uvea reads 1\n"),
        ('"dims": 2,', "", r"plan\.json lacks dims\n"),
        ('"patch": [', '"patch": ["' + 999 * "x" + '", ', r"patch\.0 cannot be 'x{79} \("),
        ('"batch": ', '"batch": "1", "batch": ', r"'batch' is there twice"),
        ('"orientation": ""', '"orientation": "RAAS"', r"\(value error, 'RAAS' is no orientation, such as 'RAS'\)"),
    ],
)
def test_a_plan_of_another_version_is_told_in_one_short_line(plan, tmp_path, before, after, message):
    """What is missing has no value to show, and a long value is cut."""
    path = tmp_path / "plan.json"
    plan().save(path)
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(PlanError, match=message):
        Plan.load(path)


@pytest.mark.parametrize("content", ["", "[]", "{", '"plan"', "{}"])
def test_a_file_that_is_no_plan_is_named(tmp_path, content):
    """Empty, damaged, or JSON of another kind."""
    path = tmp_path / "plan.json"
    path.write_text(content)
    with pytest.raises(PlanError, match="plan.json"):
        Plan.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch": (64,)}, "patch has 1 values for 2 axes"),
        ({"patch": (64, 0)}, "patch.1 cannot be 0"),
        ({"overlap": (16, 16, 16)}, "overlap has 3 values"),
        ({"spacing": (1.0,)}, "spacing has 1 values"),
        ({"spacing": (1.0, 0.0)}, "spacing.1 cannot be 0"),
        ({"batch": 0}, "batch cannot be 0"),
        ({"learning_rate": float("nan")}, "learning_rate cannot be nan"),
        ({"width": (16, 32)}, "2 widths need 1 strides"),
        ({"strides": ((2, 2), (2, 2), (2, 2), (2,))}, "strides has 2 for 2 axes"),
        ({"kernels": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 2))}, "kernels has an even size"),
        ({"mirror_axes": (2,)}, "are not axes of 2D"),
        ({"mirror_axes": (0, 1) * 99}, "mirror_axes 0,1,.* has an axis twice"),
        ({"strides": ((2, 2), (2, 2), (2, 2), (256, 2))}, "strides come to 2048,16"),
        ({"tile": (64, 64), "overlap": (33, 32)}, "tiles of 64,64 overlap by 33,32"),
        ({"labels": {"kind": "values", "values": tuple(range(4097))}}, "labels has 4097 classes"),
        ({"labels": {"kind": "values", "values": (0, 10**30)}}, "here: masks cannot have values from 0 to 1000"),
        ({"class_weights": (1.0, 1.0, 1.0)}, "3 class_weights for 2 classes"),
        ({"class_weights": (1.0, 1.0), "loss": "soft_dice"}, "takes no class_weights"),
        ({"loss": "hinge"}, "loss cannot be 'hinge'"),
        ({"normalization": ()}, "normalization has 0 values"),
        ({"normalization": ({"kind": "percentile", "low": 90, "high": 3},)}, "percentiles from 90 to 3\\n.*low=1 high"),
        ({"normalization": ({"kind": "percentile", "low": -5},)}, "percentiles from -5 to 100"),
        ({"normalization": ({"kind": "clip", "low": 9, "high": 9},)}, "clips from 9 to 9"),
        ({"normalization": ({"kind": "clip", "std": 0},)}, "std of 0\\n"),
        ({"normalization": ({"kind": "clip", "low": -1e308},)}, "float32 does not hold: clip low=-1e\\+308"),
        ({"normalization": ({"kind": "clip", "std": 5e-324},)}, "float32 does not hold: .* std=4.94066e-324"),
        ({"normalization": ({"kind": "percentile", "lo": 3},)}, "normalization.0.lo cannot be 3"),
        ({"normalization": ({"mean": float("nan")},)}, "normalization.0.mean cannot be nan"),
    ],
)
def test_values_that_contradict_each_other_are_refused(plan, changes, message):
    """Each with its name and value."""
    values = plan({"width": "16,32,64,128,256"}).model_dump() | changes
    with pytest.raises(PlanError, match=message):
        Plan.make(values, where="here")


def test_the_total_stride_is_the_product_of_all():
    """Twice by two, and once along the second axis only."""
    made = Plan.model_construct(dims=2, strides=((2, 2), (1, 2), (2, 2)))
    assert made.stride == (4, 8)


def test_every_loss_of_a_plan_can_be_built():
    """The names are written twice: once where torch is, once where it is not."""
    names = set(Plan.model_fields["loss"].annotation.__args__)
    assert names == set(LOSSES) - {"binary_cross_entropy"}, "which needs one logit, where a plan has one per class"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((256, 256), "256,256"),
        (((2, 2), (1, 2)), "2,2 ; 1,2"),
        (0.001, "0.001"),
        (True, "yes"),
        (None, "none"),
        ((), "none"),
        ("adamw", "adamw"),
        ({"kind": "clip", "low": 0.5}, "kind=clip low=0.5"),
    ],
)
def test_settings_are_shown_as_they_are_typed(value, text):
    """Worked by hand."""
    assert shown(value) == text


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("zscore", "zscore"),
        ("percentile low=1 high=99.8", "percentile low=1 high=99.8"),
        ("clip low=-100 high=300 mean=80 std=60", "clip low=-100 high=300 mean=80 std=60"),
    ],
)
def test_a_normalization_is_shown_as_it_is_typed(plan, said, text):
    """Without the numbers that do not count for it."""
    (row,) = [row for row in plan({"normalization": said}).rows() if row[0] == "normalization"]
    assert row[1] == text


def test_rows_hold_every_decision_with_its_reason(plan):
    """Name, value and reason, in the order of the plan."""
    made = plan()
    rows = {name: (value, reason) for name, value, reason in made.rows()}
    assert rows["patch"] == (shown(made.patch), made.reasons["patch"])
    assert set(rows) == set(made.reasons)


def test_the_file_is_readable(plan, tmp_path):
    """Indented JSON with plain names."""
    plan().save(tmp_path / "plan.json")
    text = (tmp_path / "plan.json").read_text()
    assert json.loads(text)["dims"] == 2
    assert text.count("\n") > 50


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("batch", "2", "batch cannot be '2'"),
        ("batch", True, "batch cannot be True"),
        ("batch", 10**30, "batch cannot be 1000"),
        ("rotate90", 1, "rotate90 cannot be 1 "),
        ("seed", 1.0, "seed cannot be 1.0"),
        ("seed", 10**30, "seed cannot be 1000"),
        ("minutes", float("nan"), "minutes cannot be nan"),
        ("steps", 10**400, "steps cannot be 1000"),
        ("epochs", 0, "epochs cannot be 0"),
        ("warmup_steps", 10**400, "warmup_steps cannot be 1000"),
        ("labels", {"kind": "values", "values": [0, float("nan")]}, "plan.json: masks cannot have values from nan"),
        ("patch", "64", "patch cannot be '64'"),
        ("width", [60_000], r"make a network of .* weights\n.*500,000,000"),
        ("convs", 32_767, "convs cannot be 32767"),  # found by fuzzing: it was built for minutes
        ("tile", [2**21, 64], "tile.0 cannot be 2097152"),
        ("learning_rate", float("nan"), "learning_rate cannot be nan"),
    ],
)
def test_a_file_says_each_setting_in_its_own_type_and_within_reason(plan, tmp_path, name, value, message):
    """Refused before anything of that size is made; text and truth values are no numbers."""
    values = plan().model_dump(mode="json")
    values[name] = value * len(values[name]) if name == "width" else value
    (tmp_path / "plan.json").write_text(json.dumps(values))
    with pytest.raises(PlanError, match=message):
        Plan.load(tmp_path / "plan.json")


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 20_000, '{"seed": ' + "1" * 5000 + "}"])
def test_a_plan_that_is_made_to_overwhelm_its_reader_is_refused(tmp_path, content):
    """Deep nesting, and numbers that take long to read."""
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(PlanError, match="cannot be read as a plan"):
        Plan.load(tmp_path / "plan.json")


def test_a_plan_of_objects_reads_back_equal(plan, tmp_path):
    """With its decoding; a plan from before there were objects is one of classes."""
    made = plan({"decoding": "gap=0.1"}, instances=True)
    made.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == made
    values = json.loads((tmp_path / "plan.json").read_text())
    del values["task"], values["decoding"]
    (tmp_path / "plan.json").write_text(json.dumps(values))
    assert Plan.load(tmp_path / "plan.json").task == "semantic"
