"""Decisions: each has a reason, can be overruled by its text, and holds for images of other kinds than ours."""

from itertools import pairwise
from math import prod

import pytest

from uvea.errors import PlanError
from uvea.plan.decoding import Decoding
from uvea.plan.memory import Network, step_bytes
from uvea.plan.plan import Plan, shown
from uvea.plan.rules import read_settings

GIVEN = {
    "format",
    "uvea",
    "channels",
    "files",
    "labels",
    "unit",
    "seed",
    "fingerprint",
    "graph",
    "reasons",
    "minutes",
    "epochs",
    "steps",
}
"""What is measured or said, not decided."""

SETTINGS = sorted(set(Plan.model_fields) - GIVEN)

MANY = [
    {},
    {"shape": (1, 1)},
    {"shape": (37, 4000)},
    {"shape": (2048, 2048), "channels": 3, "colour": True},
    {"shape": (300, 400), "channels": 5, "cases": 2},
    {"axes": "tyx", "shape": (30, 200, 200)},
    {"axes": "zyx", "shape": (5, 512, 512), "unit": "mm", "spacing": (8.0, 1.0, 1.0)},
    {"axes": "zyx", "shape": (36, 50, 35), "unit": "mm", "left_right_axis": 2},
    {"axes": "zyx", "shape": (155, 240, 240), "unit": "mm", "left_right_axis": 2},
    {"axes": "zyx", "shape": (88, 43, 101), "unit": "um", "spacing": (2.0, 0.3, 0.3)},
    {"axes": "zyx", "shape": (12, 1000, 1000), "unit": "um", "spacing": (1.0, 0.2, 0.2)},
    {"axes": "zyx", "shape": (9, 9, 9)},
]
"""Sets of images of many kinds."""


def network_of(made: Plan) -> Network:
    """What the estimate of memory wants to know."""
    return Network(
        channels=made.channels,
        classes=made.classes,
        width=made.width,
        strides=made.strides,
        kernels=made.kernels,
        convs=made.convs,
        residual=made.block == "residual",
    )


@pytest.mark.parametrize("accelerator", [None, 12])
@pytest.mark.parametrize("changes", MANY, ids=str)
def test_every_decision_has_a_value_that_fits_the_others(plan, changes, accelerator):
    """Whatever the images are like, on a processor and on a card."""
    made = plan(accelerator=accelerator, **changes)
    assert set(SETTINGS) <= set(made.reasons)
    assert all(reason and "\n" not in reason for reason in made.reasons.values())
    shape = made.fingerprint.shape_median[-made.dims :]
    unit = 16 if made.dims == 2 else 8
    for size, step, length, tile, shared in zip(made.patch, made.stride, shape, made.tile, made.overlap, strict=True):
        assert size % step == 0, "the network would pad the patch"
        assert size < length + unit, "the patch would be mostly padding"
        assert tile >= size
        assert 0 <= shared < tile
    assert made.batch >= 2
    assert len(made.normalization) == made.channels
    assert all(wider >= narrower for narrower, wider in pairwise(made.width))


@pytest.mark.parametrize("changes", MANY[:1] + MANY[7:10], ids=str)
def test_every_setting_can_be_set_to_the_text_that_is_shown(plan, changes):
    """The plan is then the same, but for the reasons."""
    made = plan(**changes)
    for name in SETTINGS:
        again = plan({name: shown(made.model_dump()[name])}, **changes)
        assert again.reasons[name] == "set by you"
        assert again.model_dump(exclude={"reasons"}) == made.model_dump(exclude={"reasons"}), name


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("patch", "[128, 96]", (128, 96)),
        ("patch", " 128 , 96 ", (128, 96)),
        ("norm", "none", "none"),
        ("activation", "leaky_relu", "leaky_relu"),
        ("mirror_axes", "none", ()),
        ("mirror_axes", "1", (1,)),
        ("class_weights", "1,3", (1.0, 3.0)),
        ("deep_supervision", "no", False),
        ("rotate90", "off", False),
        ("learning_rate", "1e-3", 0.001),
        ("dims", "2", 2),
        ("width", "8", (8,)),
        ("batch", "7", 7),
    ],
)
def test_text_becomes_a_value(plan, name, text, value):
    """Lists, switches, numbers and nothing."""
    assert getattr(plan({name: text}), name) == value


def test_one_normalisation_is_for_all_channels(plan):
    """And each can have its own."""
    kinds = [how.kind for how in plan({"normalization": "nonzero"}, channels=3).normalization]
    assert kinds == ["nonzero"] * 3
    first, second = plan({"normalization": "percentile low=1 high=99 ; none"}, channels=2).normalization
    assert (first.kind, first.low, first.high, second.kind) == ("percentile", 1, 99, "none")


@pytest.mark.parametrize(
    ("name", "near"),
    [("pach", "patch"), ("learnin_rate", "learning_rate"), ("normalisation", "normalization"), ("mirror", "mirror")],
)
def test_a_misspelt_setting_is_refused_with_the_nearest(plan, name, near):
    """The user need not look it up."""
    with pytest.raises(PlanError, match=rf"no setting called '{name}'\n.*{near}"):
        plan({name: "1"})


@pytest.mark.parametrize("name", sorted(GIVEN))
def test_what_is_measured_cannot_be_set(plan, name):
    """Nor what has an option of its own."""
    with pytest.raises(PlanError, match="no setting called|is not a setting"):
        plan({name: "1"})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("patch", "256"),
        ("patch", "256,256,256"),
        ("patch", "0,256"),
        ("patch", "big"),
        ("patch", "none"),
        ("patch", ""),
        ("patch", "[256"),
        ("tile", "512"),
        ("overlap", "-1,4"),
        ("batch", "2.5"),
        ("batch", "2,2"),
        ("width", "none"),
        ("width", "16,wide"),
        ("width", "yes"),
        ("strides", "2"),
        ("strides", "2,2;2,2,2"),
        ("kernels", "3,3 ; 2,2"),
        ("spacing", "1"),
        ("spacing", "0,1"),
        ("dims", "4"),
        ("dims", "3"),
        ("learning_rate", "fast"),
        ("learning_rate", "nan"),
        ("learning_rate", "-1"),
        ("ema", "1"),
        ("loss", "hinge"),
        ("norm", "layer"),
        ("precision", "float16"),
        ("normalization", "median"),
        ("normalization", "zscore ; zscore"),
        ("class_weights", "1"),
        ("mirror_axes", "3"),
        ("augment", "5"),
        ("rotate90", "maybe"),
    ],
)
def test_a_setting_that_cannot_have_a_value_says_so(plan, name, text):
    """By name, with something to try, and never as an exception of another kind."""
    with pytest.raises(PlanError) as caught:
        plan({name: text})
    assert name in caught.value.problem
    assert caught.value.hint
    assert "\n" not in caught.value.problem + caught.value.hint


def test_more_levels_than_a_patch_can_be_halved_are_refused(plan):
    """Seventeen halvings of 64 pixels."""
    with pytest.raises(PlanError, match=r"64×64 cannot be halved 17 times\n.*width"):
        plan({"patch": "64,64", "width": ",".join(["8"] * 18)})


@pytest.mark.parametrize(
    ("changes", "dims"),
    [
        ({"axes": "yx"}, 2),
        ({"axes": "tyx", "shape": (40, 64, 64)}, 2),
        ({"axes": "zyx", "shape": (4, 64, 64)}, 2),
        ({"axes": "zyx", "shape": (40, 64, 64), "unit": "mm", "spacing": (9.0, 1.0, 1.0)}, 2),
        ({"axes": "zyx", "shape": (40, 64, 64), "unit": "mm", "spacing": (3.0, 1.0, 1.0)}, 3),
        ({"axes": "zyx", "shape": (40, 64, 64)}, 3),
    ],
)
def test_volumes_are_seen_whole_where_neighbouring_slices_say_something(plan, changes, dims):
    """Thin stacks, far slices and time are seen one by one."""
    assert plan(**changes).dims == dims


def test_a_time_series_is_never_a_volume(plan):
    """Not even when asked for."""
    with pytest.raises(PlanError, match="axes tyx"):
        plan({"dims": "3"}, axes="tyx")


def test_anisotropic_volumes_get_flat_kernels_and_strides_until_the_axes_are_alike(plan):
    """Slices four times as far apart as pixels: flat at the top, cubes further down."""
    made = plan(axes="zyx", shape=(32, 256, 256), unit="mm", spacing=(4.0, 1.0, 1.0))
    assert made.kernels[0] == (1, 3, 3)
    assert made.kernels[-1] == (3, 3, 3)
    assert made.strides[0] == (1, 2, 2)
    assert made.stride[0] < made.stride[1]


def test_isotropic_volumes_get_cubes(plan):
    """Nothing is flat."""
    made = plan(axes="zyx", shape=(64, 64, 64), unit="mm")
    assert {kernel for level in made.kernels for kernel in level} == {3}
    assert set(made.strides) == {(2, 2, 2)}


def test_flat_volumes_are_seen_across_at_every_level(plan):
    """Twelve slices of cubes can be halved twice, 160 pixels four times: the plane has kernels of 3 to the bottom."""
    made = plan(axes="zyx", shape=(12, 160, 160), unit="px")
    assert (1, 2, 2) in made.strides
    assert {kernel[1:] for kernel in made.kernels} == {(3, 3)}


@pytest.mark.parametrize("shape", [(8, 2400, 2400), (12, 4000, 4000), (9, 9000, 30), (16, 5000, 5000)])
def test_patches_of_flat_and_wide_stacks_fit_the_budget(plan, shape):
    """An axis of eight pixels is not shortened any more, so that the others must be."""
    made = plan(axes="zyx", shape=shape, unit="px")
    assert len(made.patch) == 3 and prod(made.patch) <= 64 * 64 * 32


def test_slices_from_the_side_of_a_body_are_not_turned(plan):
    """Of sagittal slices, left and right lie in no slice: what is left are a head and a front."""
    made = plan(axes="zyx", shape=(5, 300, 300), unit="mm", spacing=(8.0, 1.0, 1.0), left_right_axis=0)
    assert (made.dims, made.mirror_axes, made.rotation, made.rotate90) == (2, (), 30.0, False)


def test_equal_spacings_are_left_as_they_are_and_different_ones_brought_to_their_median(plan):
    """Resampling costs detail, so it is done where it must be."""
    assert plan(unit="um", spacing=(0.5, 0.5)).spacing is None
    assert plan(unit="px", spacing_max=(3.0, 3.0)).spacing is None
    made = plan(unit="um", spacing=(0.5, 0.5), spacing_max=(1.0, 1.0))
    assert made.spacing == (0.5, 0.5)
    assert "0.5×0.5 to 1×1 um" in made.reasons["spacing"]


def test_a_coarser_spacing_of_the_user_makes_the_patch_smaller(plan):
    """Images of 300×400 at half the resolution have 150×200 pixels."""
    made = plan({"spacing": "1,1"}, unit="um", spacing=(0.5, 0.5))
    assert made.spacing == (1.0, 1.0)
    assert all(size < length + 16 for size, length in zip(made.patch, (150, 200)))


CT = {"axes": "zyx", "unit": "mm", "minimum": -1024.0, "maximum": 2000.0, "left_right_axis": 2}
MRI = {"axes": "zyx", "unit": "mm", "maximum": 900.0, "left_right_axis": 2}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        (CT, "clip"),
        (CT | {"foreground_mean": ()}, "zscore"),
        (MRI, "zscore"),
        (MRI | {"zeros": 0.5}, "nonzero"),
        ({"skew": 0.02, "dtypes": ("uint16",), "maximum": 4000.0}, "percentile"),
        ({"skew": 0.02, "channels": 3, "colour": True}, "zscore"),
        ({"skew": 0.5}, "zscore"),
    ],
)
def test_the_kind_of_image_decides_the_normalisation(plan, changes, kind):
    """CT by its scale, MRI in an empty surround, fluorescence by its dark ground, everything else by its spread."""
    made = plan(**changes)
    assert {how.kind for how in made.normalization} == {kind}


def test_ct_is_clipped_to_the_range_of_its_foreground(plan):
    """The physical scale is kept: fixed values, not those of each image."""
    (how,) = plan(**CT, foreground_low=(-80.0,), foreground_high=(240.0,)).normalization
    assert (how.low, how.high, how.mean, how.std) == (-80, 240, 150, 20)


def test_a_batch_of_few_gets_no_batch_norm(plan):
    """Its statistics are those of one or two patches, and not what an image has."""
    assert plan({"batch": "1"}).norm == plan({"batch": "2"}).norm == "instance"
    assert plan({"batch": "8"}).norm == "batch"


def test_rare_classes_weigh_more_than_the_background(plan):
    """And their patches are looked for; the names are in the reason."""
    names = ("background", "cell", "speck")
    rare = plan(names=names, class_fraction=(0.9, 0.099, 0.001), class_cases=(20, 20, 20))
    usual = plan(names=names, class_fraction=(0.6, 0.2, 0.2), class_cases=(20, 20, 20))
    assert usual.class_weights is None
    assert rare.class_weights[2] > rare.class_weights[0] == rare.class_weights[1]
    assert "speck" in rare.reasons["class_weights"]
    assert rare.foreground > usual.foreground


def test_dice_alone_takes_no_weights(plan):
    """It counts every class alike."""
    rare = {"class_fraction": (0.999, 0.001)}
    assert plan({"loss": "soft_dice"}, **rare).class_weights is None
    assert plan(**rare).class_weights is not None


BODY = {"axes": "zyx", "shape": (64, 64, 64), "unit": "mm"}


@pytest.mark.parametrize(
    ("changes", "axes"),
    [
        ({}, (0, 1)),
        ({"axes": "zyx"}, (0, 1, 2)),
        ({**BODY, "left_right_axis": 2}, (2,)),
        ({**BODY, "left_right_axis": 0}, (0,)),
        ({**BODY, "left_right_axis": 2, "left_right": True}, ()),
        ({**BODY, "left_right_axis": 2, "mirror_pairs": (("class 1", "class 2"),)}, ()),
        ({**BODY, "left_right": True}, ()),
        ({**BODY, "shape": (4, 64, 64), "left_right_axis": 2}, (1,)),
        ({**BODY, "shape": (4, 64, 64), "left_right_axis": 0}, ()),
    ],
)
def test_left_and_right_are_never_mirrored_where_they_are_different_labels(plan, changes, axes):
    """Named so, or lying so; axes are counted from the first that the network sees."""
    assert plan(**changes).mirror_axes == axes


def test_classes_that_lie_as_left_and_right_are_named(plan):
    """So that the user can say that they are not."""
    made = plan(**BODY, left_right_axis=2, mirror_pairs=(("class 1", "class 2"),))
    assert "'class 1' and 'class 2'" in made.reasons["mirror_axes"]


def test_quarter_turns_need_square_pixels_and_no_up(plan):
    """A body has an up, and pixels of 1×2 would change their shape."""
    assert plan().rotate90
    assert not plan(unit="um", spacing=(1.0, 2.0)).rotate90
    assert not plan(**BODY, left_right_axis=2).rotate90


def test_three_channels_are_colours_only_where_they_can_be(plan):
    """One file of three channels of a picture; not three files, nor a volume, nor where the user says no."""
    rgb = {"channels": 3, "colour": True}
    assert plan(**rgb).colour and "colour=no" in plan(**rgb).reasons["colour"]
    assert not plan(**rgb, files=3).colour
    assert not plan({"colour": "no"}, **rgb).colour
    assert plan({"colour": "no"}, **rgb, skew=0.05).normalization[0].kind == "percentile"
    with pytest.raises(PlanError, match="colour is yes, and the images have 1 channel"):
        plan({"colour": "yes"})


def test_images_are_turned_only_so_far_as_they_could_have_been_taken(plan):
    """Upside down where no side is up, slightly where one is."""
    assert plan().rotation == 180
    assert plan(**BODY, left_right_axis=2).rotation == 30
    assert plan({"mirror_axes": "none"}).rotation == 30
    assert plan({"rotation": "12.5"}).rotation == 12.5


SIZES = [{"shape": (2048, 2048)}, {"axes": "zyx", "shape": (128, 256, 256)}]


@pytest.mark.parametrize("changes", SIZES, ids=str)
def test_patch_and_batch_shrink_until_they_fit_and_the_reason_says_so(plan, changes):
    """On a processor and on a card."""
    for usual, small in (
        (plan(**changes), plan(memory=0.15, **changes)),
        (plan(accelerator=16, **changes), plan(accelerator=0.3, **changes)),
    ):
        assert small.batch * prod(small.patch) < usual.batch * prod(usual.patch)
        assert "of the free memory" in small.reasons["patch"] + small.reasons["batch"]
        assert "of the free memory" not in usual.reasons["patch"] + usual.reasons["batch"]


@pytest.mark.parametrize("memory", [0.05, 0.1, 0.2, 0.5, 1, 4])
@pytest.mark.parametrize("changes", SIZES, ids=str)
def test_what_is_decided_takes_half_of_the_memory_at_most(plan, changes, memory):
    """Or is refused, where even the smallest patch does not fit."""
    try:
        made = plan(memory=memory, **changes)
    except PlanError as error:
        assert memory <= 0.05
        assert "needs about" in error.problem
        return
    needed = step_bytes(network_of(made), made.patch, made.batch)
    assert needed <= memory * 2**30 * (0.5 if made.batch > 1 else 1)


def test_a_batch_of_the_user_that_cannot_fit_is_refused_with_one_that_does(plan):
    """Both numbers are in the message, and what it says works."""
    with pytest.raises(PlanError, match=r"batch 400 of 256×256 needs about .* GiB, this machine has 8 GiB free") as no:
        plan({"batch": "400", "patch": "256,256"}, memory=8)
    name, _, fitting = no.value.hint.removeprefix("use --set ").partition("=")
    assert plan({name: fitting, "patch": "256,256"}, memory=8).batch == int(fitting)


def test_a_patch_of_the_user_that_cannot_fit_is_refused(plan):
    """On a card, whose name is in the message."""
    with pytest.raises(PlanError, match=r"1024×1024×1024 needs about .*, a card has 8 GiB free\n.*smaller patch"):
        plan({"patch": "1024,1024,1024"}, accelerator=8, axes="zyx", shape=(1024, 1024, 1024))


def test_tiles_shrink_to_the_patch_where_memory_is_short(plan):
    """Prediction must fit as well."""
    made = plan({"patch": "64,64", "batch": "2"}, memory=0.2)
    assert made.tile == (64, 64)
    assert "do not fit" in made.reasons["tile"]


def test_images_of_different_kinds_are_normalised_by_themselves(plan):
    """Dark and bright images in one batch have no common statistics."""
    assert plan({"batch": "8"}, skew_spread=0.3).norm == "instance"
    assert plan({"batch": "8"}, skew_spread=0.05).norm == "batch"


def test_images_that_are_hardly_seen_again_are_augmented_less_often(plan):
    """In ten minutes on two cores twenty images are seen over and over, a thousand are not; in ten hours they are."""
    assert plan(cases=20).augment_chance == 1
    assert plan(cases=1000).augment_chance < 1
    assert plan(cases=1000, minutes=600).augment_chance == 1
    assert plan(cases=1000, accelerator=16).augment_chance == 1


def test_how_often_images_are_seen_is_said_of_those_trained_on(plan):
    """Those that validate are counted among the patches, and never seen."""
    said = plan(cases=20).reasons["augment_chance"]
    assert "patches cover all images, and each trained on is seen about" in said and "times or more" in said


def test_a_training_ends_on_images_as_they_are(plan):
    """The last tenth of the steps; less where images would be seen more than eight times; none if the user wants."""
    assert plan(cases=1000).clean_finish == 0.1
    few, fewer = plan(cases=8).clean_finish, plan(cases=4).clean_finish
    assert 0 < fewer < few < 0.1 and fewer == pytest.approx(few / 2, abs=1e-3)
    assert plan({"clean_finish": "0"}).clean_finish == 0


def test_a_longer_budget_gets_a_wider_network(plan):
    """Width costs steps, and a long budget has them."""
    widths = [plan(minutes=minutes).width[0] for minutes in (1, 10, 60, 600)]
    assert widths == sorted(widths) and widths[0] < widths[-1]


def test_the_budget_and_the_seed_are_no_settings_and_have_options_of_their_own():
    """The hint can be typed."""
    with pytest.raises(PlanError, match=r"seed is not a setting of the plan\n.*--seed 7"):
        read_settings({"seed": "7"})


def test_masks_that_number_their_objects_make_an_object_model(plan):
    """Two maps more than classes, no border weights, and a decoding that begins with the size of the objects."""
    made = plan(instances=True, object_size=400.0)
    assert (made.task, made.classes, made.maps, made.outputs) == ("objects", 2, 2, 4)
    assert (made.activation, made.norm, made.start) == ("leaky_relu", "instance", "objects-2")
    assert (made.patch, made.batch) == ((128, 128), 8)
    assert made.border_weight == 0 and made.decoding == Decoding(min_size=20)
    assert plan({"spacing": "2,2"}, instances=True, object_size=400.0).decoding == Decoding(min_size=5)
    assert "number their objects" in made.reasons["task"]
    plain = plan({"task": "semantic"}, instances=True)
    assert (plain.task, plain.outputs, plain.decoding) == ("semantic", 2, None)
    assert (plain.activation, plain.start) == ("relu", "random")
    assert plan(instances=True, object_size=33.0**2).patch == (256, 256)  # four of them lie side by side in no less
    assert plan(instances=True, object_size=400.0, accelerator=24).patch == (304, 400)


def test_small_patches_are_for_one_thin_class_on_a_processor(plan):
    """Not where it is wide, where nothing is known of it, where classes differ, and on a card."""
    image = {"shape": (600, 700)}
    made = plan(thickness=16.0, **image)
    assert (made.task, made.patch, made.batch, made.norm) == ("semantic", (128, 128), 8, "batch")
    assert "32 pixels across" in made.reasons["patch"]
    assert plan(thickness=16.0, skew_spread=0.3, **image).norm == "instance"
    several = {"names": ("background", "a", "b"), "class_fraction": (0.8, 0.1, 0.1), "class_cases": (20, 20, 20)}
    for changes in ({"thickness": 17.0}, {"thickness": 0.0}, several):
        assert plan(**{"thickness": 16.0, **image, **changes}).patch == (256, 256)
    assert plan(thickness=16.0, accelerator=24, **image).patch == (512, 512)


def test_learnt_weights_are_for_the_network_that_learnt_them(plan):
    """Or a wider one; other settings begin with random ones, and say why; who asks for both is told."""
    for settings in ({"norm": "batch"}, {"width": "8,16"}, {"block": "residual"}):
        made = plan(settings, instances=True)
        assert made.start == "random" and next(iter(settings)) in made.reasons["start"]
    assert plan(instances=True, axes="zyx", shape=(20, 90, 90)).start == "random"
    for changes in ({"accelerator": 24}, {"minutes": 60}):
        made = plan(instances=True, **changes)
        assert made.width[0] > 16 and made.start == "objects-2" and "other channels" in made.reasons["start"]
    assert plan({"start": "random"}, instances=True).start == "random"
    with pytest.raises(PlanError, match="start cannot be objects-2: its weights are for norm instance, .* batch"):
        plan({"start": "objects-2", "norm": "batch"}, instances=True)
    with pytest.raises(PlanError, match="start cannot be objects-1: these weights no longer come with uvea"):
        plan({"start": "objects-1"}, instances=True)
    assert "width 16,32,64,128,256 or more" in plan({"width": "8,16"}, instances=True).reasons["start"]


def test_classes_are_objects_only_where_that_is_asked_for(plan):
    """Every class by itself."""
    names = ("background", "round", "long")
    shares = {"class_fraction": (0.8, 0.1, 0.1), "class_cases": (20, 20, 20)}
    made = plan(names=names, **shares)
    assert (made.task, made.outputs) == ("semantic", 3)
    assert plan({"task": "objects"}, names=names, **shares).outputs == 5


def test_a_decoding_is_given_by_names(plan):
    """What is not named keeps its default."""
    made = plan({"decoding": "gap=0.1 min_size=7 fill_holes=no"}, instances=True)
    assert made.decoding == Decoding(gap=0.1, min_size=7, fill_holes=False)
    assert made.reasons["decoding"] == "set by you"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"border_weight": "10"}, "border_weight is 10, and objects"),
        ({"decoding": "none"}, "there is no decoding"),
        ({"decoding": "gap=0.1", "task": "semantic"}, "the task is semantic"),
        ({"decoding": "gap"}, "'gap', which is not NAME=VALUE"),
        ({"decoding": "gap=7"}, "decoding with gap 7"),
        ({"decoding": "gab=0.1"}, "decoding cannot be"),
        ({"task": "instances"}, "task cannot be instances"),
    ],
)
def test_settings_of_objects_that_cannot_be_are_refused(plan, settings, message):
    """With what is wrong, and what could be said instead."""
    with pytest.raises(PlanError, match=message):
        plan(settings, instances=True)
