"""Training on arrays: the split of scikit-learn, the layouts, and what is written."""

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import uvea
from uvea.errors import DatasetError, PlanError, ShapeError, UveaError
from uvea.evaluation import score_case, summarise
from uvea.models.device import Precision, describe_machine
from uvea.training.losses import build_loss
from uvea.workflows import train_arrays as workflow
from uvea.workflows.events import Message, Progress
from uvea.workflows.train_arrays import Trained, as_images, split_arrays, train_arrays

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")

FAST = {"preset": "mini", "batch_size": 4, "epochs": 2, "precision": "float32", "device": "cpu"}


def discs(count: int = 10, size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a brighter disc somewhere: float32 (n, y, x) and uint8 masks of 0 and 1."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:size, :size]
    centres = rng.integers(4, size - 4, (count, 2))
    masks = np.stack([(y - a) ** 2 + (x - b) ** 2 < 14 for a, b in centres]).astype(np.uint8)
    return (masks + rng.normal(0, 0.2, masks.shape)).astype(np.float32), masks


@pytest.fixture(scope="module")
def trained() -> Trained:
    """Twelve epochs on twenty discs, as the course asks for it; read only."""
    x, y = discs(20)
    return uvea.train(
        x[..., None],
        y[..., None],
        **{**FAST, "epochs": 12, "learning_rate": 0.003},
        loss="bce",
        optimizer="adam",
        validation=0.2,
        seed=42,
    )


@pytest.mark.parametrize(
    ("count", "share", "seed", "held", "kept"),
    [
        (10, 0.2, 42, (8, 1), (5, 0, 7, 2, 9, 4, 3, 6)),
        (13, 0.2, 42, (11, 9, 0), (8, 5, 2, 1, 12, 4, 7, 10, 3, 6)),
        (15, 0.2, 42, (9, 11, 0), (13, 5, 8, 2, 1, 14, 4, 7, 10, 12, 3, 6)),
        (7, 0.25, 0, (6, 2), (1, 3, 0, 5, 4)),
        (12, 0.3, 123, (5, 0, 4, 9), (8, 7, 10, 3, 1, 6, 11, 2)),
    ],
)
def test_the_split_is_that_of_scikit_learn(count, share, seed, held, kept):
    """What train_test_split of scikit-learn 1.9.1 gave, order included."""
    assert split_arrays(count, share, seed=seed) == (kept, held)


def test_the_split_of_a_hundred_begins_and_ends_as_in_scikit_learn():
    """The first and last of both parts, seed 42."""
    kept, held = split_arrays(100, 0.2)
    assert held[:5] == (83, 53, 70, 45, 44) and held[-3:] == (77, 12, 31)
    assert kept[:5] == (55, 88, 26, 42, 69) and kept[-3:] == (14, 92, 51)


@pytest.mark.parametrize(("count", "share"), [(1, 0.2), (3, 1.0), (3, -0.1), (2, 0.9), (5, float("nan"))])
def test_a_share_that_leaves_nothing_is_refused(count, share):
    """The message has both numbers."""
    with pytest.raises(PlanError, match=rf"{share:g} of {count} image"):
        split_arrays(count, share)


def test_the_course_in_one_call_learns(trained):
    """Discs in noise are found, and the history has a value per epoch for every name."""
    assert set(trained.history) == {"loss", "val_loss", "val_accuracy", "val_dice", "val_iou"}
    assert {len(values) for values in trained.history.values()} == {12}
    assert trained.history["loss"][-1] < trained.history["loss"][0] / 3
    assert trained.history["val_dice"][-1] > 0.8
    assert sum(w.numel() for w in trained.model.networks[0].parameters()) == 148_353
    assert (trained.train, trained.validation) == split_arrays(20, 0.2)


def test_every_image_counts_alike_in_the_loss_of_an_epoch():
    """Of batches of four images and one, as in Keras; at a standstill it is the loss of the same images held back."""
    x, y = discs(5)
    trained = train_arrays(
        x,
        y,
        preset="mini",
        epochs=1,
        batch_size=4,
        learning_rate=1e-12,
        validation=(x, y),
        precision="float32",
    )
    assert trained.history["loss"] == pytest.approx(trained.history["val_loss"], rel=1e-4)


def test_dice_and_iou_of_the_history_belong_together(trained):
    """The last values are those of `evaluate` on the images held back."""
    x, y = discs(20)
    held = list(trained.validation)
    scores = trained.evaluate(x[held], y[held])
    for name in ("dice", "iou", "accuracy"):
        assert scores[name] == pytest.approx(trained.history[f"val_{name}"][-1], abs=1e-6)


@pytest.mark.parametrize("name", ["cross_entropy", "soft_dice", "dice_and_cross_entropy", "focal"])
@pytest.mark.parametrize("classes", [2, 3])
def test_images_are_validated_in_batches_as_one_by_one(name, classes):
    """Every image counts alike, also of a small last batch: the mean of their losses, and the scores of `evaluate`."""
    rng = np.random.default_rng(5)
    images = torch.from_numpy(rng.normal(size=(5, 1, 9, 8)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, classes, (5, 9, 8)).astype(np.int16))
    labels[1] = 0
    network = torch.nn.Conv2d(1, 1 if classes == 2 else classes, 3, padding=1, bias=False)
    torch.nn.init.normal_(network.weight, generator=torch.Generator().manual_seed(0))
    which, cpu = (4, 1, 3, 0, 2), torch.device("cpu")

    with torch.no_grad():
        alone = [float(build_loss(name)(network(images[i : i + 1]), labels[i : i + 1])) for i in which]
        logits = network(images)
    found = ((logits > 0)[:, 0].long() if classes == 2 else logits.argmax(1)).numpy()
    names = ["background", "a", "b"][:classes]
    rows = [row for i in which for row in score_case(str(i), labels[i].numpy(), found[i], names=names)]
    summary = summarise(rows, resamples=0)
    for batch in (1, 2, 5):
        scores = workflow._validation(
            network,
            workflow._drawer(images, labels, cpu),
            which,
            batch=batch,
            classes=classes,
            loss=build_loss(name, per_sample=True if "dice" in name else None),
            precision=Precision(dtype="float32", channels_last=False, reason=""),
            device=cpu,
        )
        assert scores["val_loss"] == pytest.approx(np.mean(alone), rel=1e-5)
        assert scores["val_dice"] == summary.dice.mean
        assert scores["val_iou"] == summary.foreground["iou"].mean
        assert scores["val_accuracy"] == (labels.numpy() == found).mean()


@pytest.mark.parametrize("room", [0, 2**30])
def test_images_that_fit_on_a_device_go_there_once(monkeypatch, room):
    """Then their numbers alone are moved; what is trained is the same."""
    x, y = discs()
    usual, moved = train_arrays(x, y, **FAST).history, []

    def noted(values, device):
        moved.append(values.nbytes)
        return values.to(device)

    machine = replace(describe_machine(), accelerator="a card", accelerator_memory_bytes=room)
    monkeypatch.setattr(workflow, "describe_machine", lambda device: machine)
    monkeypatch.setattr(workflow, "_moved", noted)
    assert train_arrays(x, y, **FAST).history == usual
    assert (max(moved) == 4 * 8) == (room > 0)


def test_predictions_have_the_shape_of_the_masks(trained):
    """One image or many, any layout, any size; probabilities are those of the foreground."""
    x, _ = discs(3, size=21)
    masks = trained.predict(x)
    assert masks.shape == (3, 21, 21) and masks.dtype == np.uint8
    for layout in (x[..., None], x[:, None]):
        np.testing.assert_array_equal(trained.predict(layout), masks)
    np.testing.assert_array_equal(trained.predict(x[0]), masks[0])
    np.testing.assert_array_equal(trained.probabilities(x) > 0.5, masks == 1)


def test_one_image_is_told_from_several_by_the_layout_of_the_training(trained):
    """(1, y, x) is one image for those who gave channels first, and (y, x, 1) for all."""
    x, _ = discs(1, size=21)
    first = replace(trained, channels_first=True)
    assert trained.predict(x[:, None][0]).shape == (1, 21, 21)
    assert first.predict(x[:, None][0]).shape == (21, 21)
    for model in (trained, first):
        assert model.predict(x[..., None][0]).shape == (21, 21)


def test_three_gray_images_are_not_taken_for_a_colour_image(trained):
    """Where it cannot be told, both ways out are named; four are several, and channels first says that it is one."""
    colour = replace(trained, model=replace(trained.model, plan=trained.model.plan.model_copy(update={"channels": 3})))
    with pytest.raises(ShapeError, match=r"one colour image or three gray ones\n.*x\[None\].*x\[:, None\]"):
        colour._is_one((3, 9, 8))
    assert not colour._is_one((4, 9, 8))
    assert colour._is_one((9, 8, 3)) and replace(colour, channels_first=True)._is_one((3, 9, 8))


def test_pixels_of_another_scale_are_refused(trained):
    """A network that saw fractions knows nothing of 0 to 255; how many bits a fraction has does not matter."""
    x, y = discs(2)
    np.testing.assert_array_equal(trained.predict(x.astype(np.float64)), trained.predict(x))
    for given in ((x * 255).clip(0, 255).astype(np.uint8), x > 0.5):
        for call in (trained.predict, trained.probabilities, lambda pixels: trained.evaluate(pixels, y)):
            with pytest.raises(DatasetError, match=f"images are of {given.dtype}, those for training were of float32"):
                call(given)


def test_anything_that_holds_numbers_is_taken(trained):
    """Tensors with gradients or of 16 bits; images of several sizes are refused with the way out."""
    x, _ = discs(2)
    tensor = torch.from_numpy(x)
    np.testing.assert_array_equal(trained.predict(tensor.clone().requires_grad_()), trained.predict(x))
    assert trained.predict(tensor.bfloat16()).shape == x.shape
    with pytest.raises(ShapeError, match=r"makes no array.*\n.*one at a time"):
        trained.predict([x[0], x[1, :9]])


def test_the_same_call_gives_the_same_network():
    """Also after others have drawn random numbers; another seed gives another."""
    x, y = discs()
    first = train_arrays(x, y, **FAST, seed=1).history["loss"]
    np.random.default_rng().normal()
    assert train_arrays(x, y, **FAST, seed=1).history["loss"] == first
    assert train_arrays(x, y, **FAST, seed=2).history["loss"] != first


@pytest.mark.parametrize("layout", [lambda a: a[..., None], lambda a: a[:, None], lambda a: a])
def test_every_layout_trains_alike(layout):
    """Channels last, first, or none."""
    x, y = discs()
    assert train_arrays(layout(x), layout(y), **FAST).history == train_arrays(x, y, **FAST).history


def test_layouts_are_told_by_the_number_of_channels():
    """Three colours last or first; where both ends could be channels, it is refused."""
    assert as_images(np.zeros((2, 9, 8, 3))).shape == (2, 3, 9, 8)
    assert as_images(np.zeros((2, 3, 9, 8))).shape == (2, 3, 9, 8)
    assert as_images(np.zeros((2, 9, 8))).shape == (2, 1, 9, 8)
    for shape in ((2, 3, 9, 3), (2, 9, 9, 9), (9, 9), (0, 9, 9), (2, 1, 9, 9, 1)):
        with pytest.raises(ShapeError, match="is not images with 1 to 4 channels"):
            as_images(np.zeros(shape))


def test_whole_numbers_are_divided_and_the_plan_says_so():
    """uint8 by 255: the same training as on floats that were divided before."""
    x, y = discs()
    pixels = np.clip(x * 100 + 60, 0, 255).astype(np.uint8)
    whole = train_arrays(pixels, y, **FAST)
    assert whole.history == train_arrays(pixels.astype(np.float32) / 255, y, **FAST).history
    assert whole.model.plan.reasons["normalization"] == "uint8 is divided by 255"
    np.testing.assert_array_equal(whole.predict(pixels), whole.predict(pixels[..., None]))


def test_the_order_of_bytes_does_not_matter():
    """What comes from big-endian files is the same image, and nearly whole masks are whole."""
    x, y = discs()
    pixels = np.clip(x * 100 + 60, 0, 255).astype(np.uint16)
    swapped = train_arrays(pixels.astype(">u2"), y.astype(">f4") * np.float32(1.0000153), **FAST)
    assert swapped.history == train_arrays(pixels, y, **FAST).history


def test_masks_keep_their_values():
    """0 and 255 come back as 0 and 255; three classes have three logits."""
    x, y = discs()
    assert train_arrays(x, y * 255, **FAST).model.plan.labels.values == (0, 255)
    three = train_arrays(x, y + (y & (np.arange(16) > 8)), **FAST, loss="bce+dice")
    assert three.model.plan.classes == 3
    assert three.probabilities(x[:2]).shape == (2, 3, 16, 16)


def test_a_model_that_is_written_predicts_the_same(tmp_path):
    """plan.json and weights.safetensors are enough for `uvea.load`."""
    x, y = discs()
    trained = train_arrays(x, y, **FAST, out=tmp_path / "model")
    names = {"plan.json", "weights.safetensors", "last.safetensors", "history.csv", "scores.csv", "run"}
    assert {path.name for path in (tmp_path / "model").iterdir()} == names
    np.testing.assert_array_equal(uvea.load(tmp_path / "model").predict(x[0]), trained.predict(x[0]))
    with pytest.raises(UveaError, match="not empty"):
        train_arrays(x, y, **FAST, out=tmp_path / "model")


@pytest.mark.skipif(os.name == "nt", reason="folders are not locked there")
def test_two_trainings_on_arrays_do_not_share_a_folder(tmp_path):
    """The second is refused as long as the first one goes on."""
    x, y = discs()
    tried = []

    def again(event):
        if isinstance(event, Progress) and not tried:
            tried.append(event)
            with pytest.raises(UveaError, match="another process is training in"):
                train_arrays(x, y, **FAST, out=tmp_path, overwrite=True)

    train_arrays(x, y, **FAST, out=tmp_path, listen=again)
    assert len(tried) == 1


def test_nothing_is_written_unless_asked(tmp_path, monkeypatch):
    """Neither here nor in the folder for temporary files is anything left."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    x, y = discs()
    train_arrays(x, y, **FAST)
    assert list(tmp_path.iterdir()) == []


def test_without_a_preset_uvea_plans(tmp_path):
    """On the split asked for; everything is decided with a reason, and a loss can be set by its name here."""
    x, y = discs(10, size=32)
    heard = []
    trained = train_arrays(
        x, y, steps=3, batch_size=2, loss="dice", precision="float32", device="cpu", listen=heard.append
    )
    assert not any(tempfile.gettempdir() in event.text for event in heard if isinstance(event, Message))
    assert trained.model.plan.graph is None
    assert (trained.model.plan.loss, trained.model.plan.batch) == ("soft_dice", 2)
    assert (trained.train, trained.validation) == split_arrays(10, 0.2)
    assert trained.history["step"][-1] == 3
    assert trained.predict(x).shape == y.shape


def copied() -> tuple[np.ndarray, np.ndarray]:
    """Ten images of which one that is held back is a copy of one to train on."""
    x, y = discs(10, size=32)
    kept, held = split_arrays(10, 0.2)
    x[held[0]], y[held[0]] = x[kept[0]], y[kept[0]]
    return x, y


def test_a_copy_across_the_split_is_refused_in_the_words_of_python():
    """The split is that of scikit-learn, so it may divide copies; nothing names an option or a folder that is gone."""
    with pytest.raises(DatasetError) as caught:
        train_arrays(*copied(), steps=1, batch_size=2, precision="float32", device="cpu")
    assert caught.value.problem.startswith("1 image is in training and in validation")
    assert caught.value.hint.startswith("leave one of them out, or allow_leak=True to train all the same; image_00003")
    assert "--" not in str(caught.value) and "uvea check" not in str(caught.value)


def test_a_copy_across_the_split_can_be_allowed():
    """It is told as a warning."""
    heard = []
    settings = {"steps": 1, "batch_size": 2, "precision": "float32", "device": "cpu"}
    trained = train_arrays(*copied(), **settings, allow_leak=True, listen=heard.append)
    assert (trained.train, trained.validation) == split_arrays(10, 0.2)
    warnings = [event.text for event in heard if isinstance(event, Message) and event.level == "warning"]
    assert any("in training and in validation" in text and "was allowed" in text for text in warnings)


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        ("save masks as PNG or TIFF; `uvea check d` lists everything", "save masks as PNG or TIFF"),
        (
            "export them again, or leave them out with --skip; `uvea check d` lists everything",
            "look at x and y; image_00003 is x[3]; images given for validation come after the last of x",
        ),
    ],
)
def test_every_other_fault_of_the_data_is_told_without_options(monkeypatch, hint, said):
    """A way out that can be followed stays as it is."""

    def refuse(*args, **settings):
        raise DatasetError("something is wrong", hint=hint)

    monkeypatch.setattr(workflow, "train_files", refuse)
    with pytest.raises(DatasetError) as caught:
        train_arrays(*discs(), steps=1)
    assert (caught.value.problem, caught.value.hint) == ("something is wrong", said)


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        (
            "close other programs and continue with `uvea train --resume a b`, or train again with --overwrite and a "
            "smaller --set batch=, patch= or width=",
            "close other programs, or train again with overwrite=True and a smaller batch_size",
        ),
        (
            "continue it with `uvea train --resume m`, choose another --out, or use --overwrite",
            "choose another out, or use overwrite=True",
        ),
        ("use --set batch=1", "use batch_size=1"),
        (
            "train with a lower learning rate (--set learning_rate=0.0003) or --set precision=float32",
            "train with a lower learning rate (learning_rate=0.0003) or precision=float32",
        ),
        ("use a number above 0, such as --epochs 10", "use a number above 0, such as epochs=10"),
        ("give one of --minutes, --epochs and --steps", "give one of minutes, epochs and steps"),
    ],
)
@pytest.mark.parametrize("preset", [None, "mini"])
def test_ways_out_are_those_of_python(monkeypatch, preset, hint, said):
    """Of every kind of error; and no file is named that is gone by then."""

    def refuse(*args, **settings):
        folder = settings.get("out", "model")
        raise PlanError(f"something is wrong; {folder}/checkpoint has the state before it", hint=hint)

    monkeypatch.setattr(workflow, "train_files", refuse)
    monkeypatch.setattr(workflow, "_trained_as_planned", refuse)
    with pytest.raises(PlanError) as caught:
        train_arrays(*discs(), preset=preset, steps=1)
    assert caught.value.hint == said
    assert tempfile.gettempdir() not in caught.value.problem


def test_what_is_gone_afterwards_is_not_named():
    """Parts of a sentence about it are left out, and images keep their names."""
    text = "the loss became nan, on /tmp/x/arrays/images/image_00003.npy; /tmp/x/model has the state"
    assert workflow._without("/tmp/x", text) == "the loss became nan, on image_00003.npy"
    assert workflow._without("/tmp/x", "/tmp/x/model is full") == "the folder for temporary files/model is full"


def test_own_images_for_validation_are_used():
    """All others train then."""
    x, y = discs()
    trained = train_arrays(x[:8], y[:8], **FAST, validation=[x[8:], y[8:]])
    assert (trained.train, trained.validation) == (tuple(range(8)), ())
    assert trained.evaluate(x[8:], y[8:])["dice"] == pytest.approx(trained.history["val_dice"][-1], abs=1e-6)


def test_images_for_validation_may_have_other_bytes():
    """Fractions are fractions, and the order of bytes says nothing about the numbers."""
    x, y = discs()
    for first, second in (("f8", "f4"), (">u2", "<u2")):
        given = x.astype(first), x.astype(second)
        trained = train_arrays(given[0][:8], y[:8], **FAST, validation=(given[1][8:], y[8:]))
        assert len(trained.train) == 8


def test_all_images_can_train():
    """Without validation the history has the loss alone."""
    x, y = discs()
    trained = train_arrays(x, y, **FAST, validation=0)
    assert set(trained.history) == {"loss"} and len(trained.train) == 10


def test_pixels_that_were_not_divided_are_warned_about():
    """Floats of 0 to 255 learn slowly."""
    x, y = discs()
    heard = []
    train_arrays(x * 200, y, **FAST, listen=heard.append)
    messages = [event for event in heard if isinstance(event, Message)]
    assert next(event.text for event in messages if event.level == "warning").startswith("pixels go up to")
    assert set(heard[-1].figures) == {"loss", "val Dice"}  # as in every training


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"preset": "unet"}, PlanError, "no preset called 'unet'"),
        ({"loss": "mse"}, PlanError, "no loss called 'mse'"),
        ({"optimizer": "sgd"}, PlanError, "trained with adam, not sgd"),
        ({"minutes": 1}, PlanError, "not for 1 minutes"),
        ({"allow_leak": True}, PlanError, "allow_leak is for planned trainings"),
        ({"steps": 3, "epochs": 3}, PlanError, "given twice"),
        ({"seed": -1}, PlanError, "the seed is -1"),
        ({"seed": 1.5}, PlanError, "seed is 1.5, which is no whole number"),
        ({"epochs": "2"}, PlanError, "epochs is '2', which is no whole number"),
        ({"minutes": "1"}, PlanError, "not for 1 minutes"),
        ({"loss": ["bce"]}, PlanError, "no loss called"),
        ({"batch_size": 0}, PlanError, r"batch cannot be 0.*\n.*batch_size=32"),
        ({"validation": None}, PlanError, "validation is None, which is no share and no pair"),
        ({"validation": "0.2"}, PlanError, "validation is '0.2', which is no share and no pair"),
        ({"validation": (np.zeros((1, 16, 16)),)}, PlanError, "validation is a tuple of 1, which is no share"),
        ({"validation": (np.zeros((1, 9, 9)), np.zeros((1, 9, 9)))}, ShapeError, "validation are 1×9×9"),
        (
            {"validation": (np.zeros((1, 16, 16), "uint8"), np.zeros((1, 16, 16)))},
            DatasetError,
            "validation are of uint8, those for training of float",
        ),
        ({"preset": None, "validation": 0, "epochs": None, "steps": 1}, PlanError, "needs images to validate on"),
        ({"preset": None, "optimizer": "adam", "epochs": None, "steps": 1}, PlanError, "optimizer=adam is for"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, error, said):
    """By name, before anything is trained."""
    x, y = discs()
    with pytest.raises(error, match=said):
        train_arrays(x, y, **{**FAST, **settings})


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda x, y: (x, y[:5]), ShapeError, "masks of 5×16×16 do not fit 10 images of 16×16"),
        (lambda x, y: (x, y[:, :8]), ShapeError, "do not fit"),
        (lambda x, y: (x, y * 0), DatasetError, "only the value 0"),
        (lambda x, y: (x, y * 0.5), DatasetError, "no whole numbers"),
        (lambda x, y: (x, np.arange(y.size).reshape(y.shape)), DatasetError, r"64 values\n.*objects.* from files"),
        (lambda x, y: (x.astype(np.int64), y), DatasetError, "int64 have no range"),
        (lambda x, y: (np.where(y, np.nan, x), y), DatasetError, "NaN or infinite"),
        (lambda x, y: (x.astype(str), y), ShapeError, "holds no images"),
        (lambda x, y: (x, y.astype(complex)), ShapeError, "an array of complex128 holds no masks"),
        (lambda x, y: (x, y * 1e20), DatasetError, "values up to 1e\\+20"),
    ],
)
def test_arrays_that_are_no_images_and_masks_are_refused(change, error, said):
    """With what was found and the way out."""
    x, y = change(*discs())
    with pytest.raises(error, match=said):
        train_arrays(x, y, **FAST)


def test_files_and_arrays_are_told_apart(tmp_path):
    """A path trains on files; one array alone, or both kinds at once, is refused."""
    x, y = discs()
    with pytest.raises(DatasetError, match="without their masks"):
        uvea.train(x)
    with pytest.raises(DatasetError, match="together with an array"):
        uvea.train("data", y)
    for call in (
        lambda: uvea.train(Path("nowhere"), out=tmp_path / "m"),
        lambda: uvea.train(source="nowhere", out="m"),
    ):
        with pytest.raises(UveaError, match="nowhere"):
            call()
    with pytest.raises(TypeError, match="epoch"):
        uvea.train(x, y, epoch=3)
