"""A network from Keras becomes a model folder that works like any other."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import uvea
from uvea.errors import ModelError, OutputError, PlanError
from uvea.images import read, write
from uvea.images.image import Image
from uvea.models.weights import save_weights
from uvea.plan.plan import Plan
from uvea.plan.rules import read_settings
from uvea.workflows import import_keras as workflow
from uvea.workflows.events import Message
from uvea.workflows.import_keras import import_keras
from uvea.workflows.model import Model

pytest.importorskip("h5py", reason="reading the files of Keras needs h5py, extra `keras`")

FIXTURES = Path(__file__).parents[1] / "models" / "fixtures"


def image(y: int, x: int, *, channels: int = 1) -> np.ndarray:
    """The first image that the fixtures were made with, (c, y, x) in [0, 1)."""
    found = np.random.RandomState(1).rand(2, y, x, channels).astype(np.float32)[0]
    return np.moveaxis(found, -1, 0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The tutorial network, whose pixels were divided by 255."""
    return import_keras(FIXTURES / "tutorial.keras", out=tmp_path_factory.mktemp("keras") / "model", scale=255)


def test_a_model_folder_predicts_what_keras_did(model):
    """Loaded anew from plan.json and weights.safetensors, on pixels of 0 to 255."""
    assert {path.name for path in model.folder.iterdir()} == {"plan.json", "weights.safetensors", "run"}
    wanted = np.load(FIXTURES / "tutorial.npy")[0, :, :, 0]
    found = uvea.load(model.folder).probabilities(image(16, 16) * 255)
    np.testing.assert_allclose(found[1], wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-6)


def test_three_classes_come_in_the_order_of_the_softmax(tmp_path):
    """Colour in, values as they were named out; a softmax of three is not touched."""
    model = import_keras(FIXTURES / "residual.keras", out=tmp_path / "m", labels={0: "background", 7: "a", 200: "b"})
    wanted = np.load(FIXTURES / "residual.npy")[0]
    picture = image(24, 32, channels=3)
    np.testing.assert_allclose(np.moveaxis(model.probabilities(picture), 0, -1), wanted, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(model.predict(picture), np.array([0, 7, 200])[wanted.argmax(-1)])


def test_files_of_any_size_are_predicted(model, tmp_path):
    """Masks of 0 and 255, also for sizes that Keras would have refused."""
    write(tmp_path / "in" / "a.png", Image(array=np.full((1, 33, 18), 90, np.uint8), axes="yx"))
    uvea.predict(model.folder, tmp_path / "in", out=tmp_path / "masks")
    mask = read(tmp_path / "masks" / "a.png")
    assert mask.shape == (33, 18)
    assert set(np.unique(mask.array)) <= {0, 255}


@pytest.mark.parametrize("name", ["tutorial", "residual", "transposed"])
def test_tiles_give_what_the_whole_image_would(name, tmp_path):
    """Larger than a tile on both axes: two to four tiles, against one."""
    model = import_keras(FIXTURES / f"{name}.keras", out=tmp_path / "m")
    plan = model.plan
    picture = image(plan.tile[0] + 40, plan.tile[1] + 8, channels=plan.channels)
    whole = replace(model, plan=plan.model_copy(update={"tile": tuple(2 * n for n in plan.tile)}))
    np.testing.assert_allclose(model.probabilities(picture), whole.probabilities(picture), rtol=0, atol=1e-5)


def test_the_plan_says_where_the_network_is_from(model):
    """Origin, parameters, the head and what is done to pixels, with the levels as they are."""
    plan = Plan.load(model.folder / "plan.json")
    reasons = {name: f"{value}: {reason}" for name, value, reason in plan.rows()}
    assert reasons["graph"] == (
        "9 layers: from tutorial.keras, Keras 3.15.1: 9 layers, 633 parameters; the sigmoid at the end is uvea's own"
    )
    assert "divided by 255" in reasons["normalization"]
    assert (plan.width, plan.strides, plan.kernels) == ((8, 4), ((2, 2),), ((3, 3), (1, 1)))
    assert (plan.patch, plan.tile, plan.classes, plan.labels.values) == ((16, 16), (512, 512), 2, (0, 255))


def test_shift_and_scale_are_those_of_the_user(tmp_path):
    """Pixels / 127.5 - 1 of 0, 127.5 and 255 are -1, 0 and 1."""
    from uvea.arrays.normalize import normalize

    plan = import_keras(FIXTURES / "tutorial.keras", out=tmp_path / "m", shift=127.5, scale=127.5).plan
    pixels = np.array([[[0, 127.5, 255, -1e6]]])
    np.testing.assert_allclose(normalize(pixels, plan.normalization)[0, 0, :3], [-1, 0, 1])
    assert "127.5 is subtracted, then they are divided by 127.5" in plan.reasons["normalization"]


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("tutorial.keras", {"scale": 255}, []),
        ("tutorial.keras", {}, ["pixels go to the network as they are"]),
        ("tutorial.weights.h5", {"scale": 1}, ["weights alone; they fit the tutorial network"]),
        ("valid.keras", {"scale": 1}, ["taken for logits"]),
    ],
)
def test_what_is_assumed_is_said(tmp_path, name, settings, said):
    """A warning for each assumption, none without."""
    heard: list[str] = []
    import_keras(
        FIXTURES / name,
        out=tmp_path / "m",
        listen=lambda event: heard.append(event.text) if isinstance(event, Message) else None,
        **settings,
    )
    assert len(heard) == len(said)
    assert all(part in text for part, text in zip(said, heard))


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"scale": 0}, PlanError, "divided by 0"),
        ({"scale": float("nan")}, PlanError, "divided by nan"),
        ({"labels": ("a", "b", "c")}, ModelError, "3 labels for a network of 2 classes"),
        ({"labels": ("a", "a")}, PlanError, "named twice"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(tmp_path, settings, error, said):
    """The folder is not made."""
    with pytest.raises(error, match=said):
        import_keras(FIXTURES / "tutorial.keras", out=tmp_path / "m", **settings)
    assert not (tmp_path / "m").exists()


def test_a_model_is_not_overwritten_unless_asked(tmp_path):
    """As by `uvea train`."""
    import_keras(FIXTURES / "tutorial.keras", out=tmp_path / "m")
    with pytest.raises(OutputError, match="not empty"):
        import_keras(FIXTURES / "valid.keras", out=tmp_path / "m")
    assert len(import_keras(FIXTURES / "valid.keras", out=tmp_path / "m", overwrite=True).plan.width) == 2


@pytest.mark.skipif(os.name == "nt", reason="folders are not locked there")
def test_nobody_trains_in_the_folder_while_a_model_is_written(tmp_path, monkeypatch):
    """Files of two models would come together there."""
    tried = []

    def save(*args):
        with pytest.raises(OutputError, match="another process is training in"):
            import_keras(FIXTURES / "valid.keras", out=tmp_path / "m", overwrite=True)
        tried.append(save_weights(*args))

    monkeypatch.setattr(workflow, "save_weights", save)
    import_keras(FIXTURES / "tutorial.keras", out=tmp_path / "m")
    assert len(tried) == 1


def test_a_plan_whose_graph_does_not_fit_it_is_refused(model, tmp_path):
    """A file that was changed by hand."""
    text = (model.folder / "plan.json").read_text()
    for old, new, said in (
        (
            '"channels": 1,\n  "files"',
            '"channels": 2,\n  "files"',
            "normalization has 1 values|takes images of 1 channel",
        ),
        ('"inputs": [\n          "conv2d_2"\n        ]', '"inputs": ["nowhere"]', "takes 'nowhere'"),
        ('"kind": "max_pool"', '"kind": "code"', "graph"),
        ('"background",\n      "foreground"', '"background", "a", "b"', "labels"),
    ):
        assert old in text
        (tmp_path / "plan.json").write_text(text.replace(old, new))
        with pytest.raises(PlanError, match=said):
            Plan.load(tmp_path / "plan.json")


def test_the_graph_is_no_setting():
    """`--set graph=…` has no meaning."""
    with pytest.raises(PlanError, match="no setting called 'graph'"):
        read_settings({"graph": "[]"})
