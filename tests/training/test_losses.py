"""Losses against values worked out by hand, and one contract that holds for all of them."""

import math

import pytest
import torch

from uvea.errors import PlanError, ShapeError
from uvea.training.losses import (
    IGNORE,
    LOSSES,
    binary_cross_entropy,
    build_loss,
    cross_entropy,
    deep,
    dice_and_cross_entropy,
    focal,
    nearest,
    soft_dice,
    with_objects,
)

BIG = 50.0  # a logit so large that softmax is 0 or 1 to float precision

CASES = {
    "binary_cross_entropy": (1,),
    "cross_entropy": (1, 2, 5),
    "soft_dice": (1, 2, 5),
    "dice_and_cross_entropy": (1, 2, 5),
    "focal": (1, 2, 5),
}
"""Channels of logits that each loss takes."""

EVERY = [(name, channels) for name, several in CASES.items() for channels in several]


def certain(labels, channels):
    """Network output that is certain of `labels`, (b, ...) to (b, c, ...)."""
    if channels == 1:
        return (BIG * (2.0 * labels - 1)).unsqueeze(1)
    return BIG * torch.nn.functional.one_hot(labels, channels).movedim(-1, 1).float()


def random_case(channels, *, shape=(2, 6, 7), seed=0):
    """Logits and labels without ignored pixels."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape[0], channels, *shape[1:], generator=rng)
    return logits, torch.randint(0, max(channels, 2), shape, generator=rng)


def test_every_loss_is_under_contract():
    """A loss without a line in CASES would be untested."""
    assert set(LOSSES) == set(CASES)


@pytest.mark.parametrize(("name", "channels"), EVERY)
def test_a_perfect_prediction_costs_nothing(name, channels):
    """Zero, also where a class never occurs."""
    labels = torch.tensor([[[0, 1], [1, 0]]])
    assert build_loss(name)(certain(labels, channels), labels).item() < 1e-6


@pytest.mark.parametrize(("name", "channels"), EVERY)
def test_a_batch_without_annotation_costs_nothing_and_teaches_nothing(name, channels):
    """Loss and gradient are exactly zero, not NaN."""
    logits = random_case(channels)[0].requires_grad_()
    labels = torch.full((2, 6, 7), IGNORE)
    loss = build_loss(name)(logits, labels)
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize(("name", "channels"), EVERY)
def test_ignored_pixels_do_not_matter(name, channels):
    """The prediction under IGNORE changes neither the loss nor the gradient elsewhere, and gets none itself."""
    logits, labels = random_case(channels)
    labels[:, 2, 3] = IGNORE
    other = logits.clone()
    other[..., 2, 3] += torch.arange(1.0, channels + 1)
    logits.requires_grad_()
    other.requires_grad_()
    loss, other_loss = build_loss(name)(logits, labels), build_loss(name)(other, labels)
    loss.backward()
    other_loss.backward()
    assert loss.item() == other_loss.item()
    assert torch.equal(logits.grad, other.grad)
    assert (logits.grad[..., 2, 3] == 0).all()


@pytest.mark.parametrize(("name", "channels"), EVERY)
def test_a_pixel_of_weight_two_counts_as_two_pixels(name, channels):
    """Doubling the weight of the right half equals appending the right half once more."""
    logits, labels = random_case(channels, shape=(1, 4, 6))
    weights = torch.ones(1, 4, 6)
    weights[..., 3:] = 2
    doubled = build_loss(name)(torch.cat([logits, logits[..., 3:]], -1), torch.cat([labels, labels[..., 3:]], -1))
    torch.testing.assert_close(build_loss(name)(logits, labels, weights=weights), doubled)


@pytest.mark.parametrize(("name", "channels"), EVERY)
def test_a_pixel_of_weight_zero_is_ignored(name, channels):
    """Weight 0 and the label IGNORE mean the same."""
    logits, labels = random_case(channels)
    weights = torch.ones(labels.shape)
    weights[:, 0] = 0
    ignoring = labels.clone()
    ignoring[:, 0] = IGNORE
    torch.testing.assert_close(build_loss(name)(logits, labels, weights=weights), build_loss(name)(logits, ignoring))


@pytest.mark.parametrize(("name", "channels"), EVERY)
def test_the_gradient_is_that_of_finite_differences(name, channels):
    """Moving one logit by a little changes the loss as the gradient says."""
    logits, labels = random_case(channels, shape=(1, 3, 3), seed=3)
    labels[0, 0, 0] = IGNORE
    logits.requires_grad_()
    build_loss(name)(logits, labels).backward()
    step = 1e-2
    for position in [(0, 0, 1, 1), (0, channels - 1, 2, 0)]:
        nudge = torch.zeros_like(logits)
        nudge[position] = step
        with torch.no_grad():
            rise = build_loss(name)(logits + nudge, labels) - build_loss(name)(logits - nudge, labels)
        assert logits.grad[position].item() == pytest.approx(rise.item() / (2 * step), abs=2e-4)


@pytest.mark.parametrize(("name", "channels"), EVERY)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_work_is_done_in_float32(name, channels, dtype):
    """Half-precision logits give the loss of the same numbers in float32; the gradient has their type."""
    logits, labels = random_case(channels)
    logits = logits.to(dtype).requires_grad_()
    loss = build_loss(name)(logits, labels.to(torch.int16))
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.equal(loss, build_loss(name)(logits.float(), labels))
    assert logits.grad.dtype == dtype


@pytest.mark.parametrize("name", ["cross_entropy", "soft_dice", "dice_and_cross_entropy", "focal"])
def test_one_sigmoid_logit_is_two_softmax_logits(name):
    """sigmoid(x) is softmax over (0, x), so the losses agree."""
    logits, labels = random_case(1)
    two = torch.cat([torch.zeros_like(logits), logits], 1)
    torch.testing.assert_close(build_loss(name)(logits, labels), build_loss(name)(two, labels))


def test_an_unsigned_255_is_not_taken_for_ignore():
    """A mask that was not encoded must fail loudly, not train on nothing."""
    logits, _ = random_case(2, shape=(1, 2, 2))
    with pytest.raises(RuntimeError, match="out of bounds"):
        cross_entropy(logits, torch.full((1, 2, 2), 255, dtype=torch.uint8))


def test_huge_logits_stay_finite():
    """A network that is certain and wrong by 10,000 costs 10,000, not infinity."""
    logits = torch.full((1, 1, 2, 2), 1e4, requires_grad=True)
    loss = binary_cross_entropy(logits, torch.zeros(1, 2, 2, dtype=torch.int64))
    loss.backward()
    assert loss.item() == pytest.approx(1e4)
    assert torch.isfinite(logits.grad).all()


def test_cross_entropy_by_hand():
    """Probabilities 3/4 and 1/4 of the truth: minus the mean of their logarithms."""
    logits = torch.tensor([[[0.0, math.log(3)], [math.log(3), 0.0]]])  # p(1) = 3/4, 1/4
    expected = -(math.log(0.75) + math.log(0.25)) / 2
    assert cross_entropy(logits, torch.tensor([[1, 1]])).item() == pytest.approx(expected)


def test_class_weights_make_a_weighted_mean():
    """Weight 3 for class 1: (1*a + 3*b) / 4, as in torch."""
    logits, labels = random_case(3)
    weights = torch.tensor([1.0, 3.0, 0.5])
    expected = torch.nn.functional.cross_entropy(logits, labels, weight=weights)
    torch.testing.assert_close(cross_entropy(logits, labels, class_weights=weights), expected)


def test_label_smoothing_agrees_with_torch():
    """A tenth of the truth spread over four classes."""
    logits, labels = random_case(4)
    expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(cross_entropy(logits, labels, label_smoothing=0.1), expected)


def test_half_overlap_by_hand():
    """Two true pixels, two predicted, one shared: Dice 2*1/(2+2), loss one half; the background likewise."""
    labels = torch.tensor([[[1, 1], [0, 0]]])
    guess = torch.tensor([[[1, 0], [1, 0]]])
    for channels in (1, 2):
        for background in (False, True):
            loss = soft_dice(certain(guess, channels), labels, background=background)
            assert loss.item() == pytest.approx(0.5, abs=1e-4)


def test_background_has_its_own_dice():
    """Four pixels, one true, three predicted: Dice 2*1/4 for class 1, 2*1/4 with truth 3 and guess 1 for class 0."""
    labels = torch.tensor([[[1, 0], [0, 0]]])
    guess = torch.tensor([[[1, 0], [0, 0]]])
    assert soft_dice(certain(guess, 2), labels, background=True).item() < 1e-5
    guess = torch.tensor([[[0, 0], [0, 0]]])  # class 1: 0; class 0: 2*3/(3+4)
    loss = soft_dice(certain(guess, 2), labels, background=True)
    assert loss.item() == pytest.approx(1 - (0 + 6 / 7) / 2, abs=1e-4)


def test_batch_dice_pools_and_per_sample_dice_averages():
    """Patch one right with 1 pixel, patch two misses 3 of 3: pooled 2*1/(1+4), averaged (1 + 0)/2."""
    labels = torch.tensor([[[1, 0], [0, 0]], [[1, 1], [1, 0]]])
    guess = torch.tensor([[[1, 0], [0, 0]], [[0, 0], [0, 0]]])
    assert soft_dice(certain(guess, 2), labels).item() == pytest.approx(1 - 0.4, abs=1e-4)
    assert soft_dice(certain(guess, 2), labels, per_sample=True).item() == pytest.approx(0.5, abs=1e-4)


def test_the_sum_is_the_sum():
    """Sharing one softmax changes nothing, with all options on."""
    logits, labels = random_case(3, shape=(2, 3, 4, 5))
    labels[0, 0] = IGNORE
    weights, class_weights = torch.rand(labels.shape), torch.tensor([0.5, 1.0, 2.0])
    total = dice_and_cross_entropy(
        logits,
        labels,
        weights=weights,
        class_weights=class_weights,
        label_smoothing=0.1,
        background=True,
        per_sample=True,
    )
    entropy = cross_entropy(logits, labels, weights=weights, class_weights=class_weights, label_smoothing=0.1)
    dice = soft_dice(logits, labels, weights=weights, background=True, per_sample=True)
    torch.testing.assert_close(total, entropy + dice)


def test_focal_by_hand():
    """A pixel at p = 3/4 counts (1/4)^2 of its cross-entropy."""
    logits = torch.tensor([[[0.0], [math.log(3)]]])
    loss = focal(logits, torch.tensor([[1]]), gamma=2.0)
    assert loss.item() == pytest.approx(-(0.25**2) * math.log(0.75))


def test_focal_without_gamma_is_cross_entropy():
    """The power of zero is one."""
    logits, labels = random_case(3)
    torch.testing.assert_close(focal(logits, labels, gamma=0.0), cross_entropy(logits, labels))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_has_a_finite_gradient_where_it_is_certain(gamma):
    """At p = 1 the power is vertical for gamma below one."""
    labels = torch.tensor([[[0, 1], [1, 0]]])
    logits = certain(labels, 2).requires_grad_()
    focal(logits, labels, gamma=gamma).backward()
    assert torch.isfinite(logits.grad).all()


def test_deep_supervision_by_hand():
    """Two levels count 2/3 and 1/3."""
    fine, labels = random_case(2, shape=(1, 4, 4))
    coarse = torch.randn(1, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    expected = cross_entropy(fine, labels) * 2 / 3 + cross_entropy(coarse, labels[:, 1::2, 1::2]) / 3
    torch.testing.assert_close(deep(cross_entropy)([fine, coarse], labels), expected)


def test_deep_supervision_passes_a_single_tensor_on():
    """A network in evaluation mode returns one tensor."""
    logits, labels = random_case(2)
    weights = torch.rand(labels.shape)
    assert deep(cross_entropy)(logits, labels, weights=weights) == cross_entropy(logits, labels, weights=weights)


def test_deep_supervision_shrinks_the_weights_too():
    """A weight map of ones changes nothing at any level."""
    logits, labels = random_case(2, shape=(1, 5, 8))
    levels = [logits, logits[..., ::2, ::2], logits[..., :1, :3]]
    weights = torch.ones(labels.shape)
    loss = deep(dice_and_cross_entropy)
    torch.testing.assert_close(loss(levels, labels, weights=weights), loss(levels, labels))


def test_nearest_by_hand():
    """Five to two: centres at 1.25 and 3.75; six to three: between pixels, the later one; IGNORE survives."""
    assert nearest(torch.tensor([[0, 1, 2, IGNORE, 4]]), (2,)).tolist() == [[1, IGNORE]]
    assert nearest(torch.tensor([[0, 1, 2, 3, 4, 5]]), (3,)).tolist() == [[1, 3, 5]]


def test_an_unknown_loss_is_refused_with_the_known_ones():
    """The reader learns which names would work."""
    with pytest.raises(PlanError, match=r"no loss called 'dise'\n.*soft_dice, dice_and_cross_entropy"):
        build_loss("dise")


def test_an_option_of_another_loss_is_refused():
    """Silently dropping class weights would train another loss than the plan says."""
    with pytest.raises(PlanError, match=r"soft_dice has no option class_weights\n.*cross_entropy.*focal"):
        build_loss("soft_dice", class_weights=[1, 2])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"class_weights": [1.0, 0.0]}, r"class weights \[1.0, 0.0\]"),
        ({"class_weights": [1.0, math.nan]}, "class weights"),
        ({"label_smoothing": 1.0}, "label smoothing 1.0"),
    ],
)
def test_an_option_out_of_range_is_refused(options, words):
    """The value is in the message."""
    with pytest.raises(PlanError, match=words):
        build_loss("cross_entropy", **options)


def test_sizes_that_do_not_match_are_refused():
    """Every message names both sizes."""
    logits, labels = random_case(2)
    with pytest.raises(ShapeError, match="2×2×6×7 and labels 2×5×7"):
        cross_entropy(logits, labels[:, 1:])
    with pytest.raises(ShapeError, match="weights 1×6×7 and labels 2×6×7"):
        cross_entropy(logits, labels, weights=torch.ones(1, 6, 7))
    with pytest.raises(ShapeError, match="3 class weights for 2 classes"):
        build_loss("focal", class_weights=[1, 2, 3])(logits, labels)
    with pytest.raises(ShapeError, match="the network gives 2"):
        binary_cross_entropy(logits, labels)


# Objects


def objects_of(size=12):
    """Targets (1, 3, y, x) with one object that has a border and a centre, and a column that was not annotated."""
    targets = torch.zeros(1, 3, size, size)
    targets[0, 0, 2:8, 2:8] = 1
    targets[0, 1, 2:8, 7] = 1
    targets[0, 2, 4:6, 4:6] = 0.5
    targets[0, :, :, -1] = 0
    targets[0, 0, :, -1] = -1
    return targets


def perfect(targets):
    """Logits that say just that."""
    classes = 20.0 * targets[:, :1].clamp_min(0) - 10
    return torch.cat((-classes, classes, 40 * targets[:, 1:2] - 20, targets[:, 2:].clamp(1e-6, 1 - 1e-6).logit()), 1)


def test_objects_cost_least_where_all_is_right():
    """A perfect prediction costs the entropy of the soft centre alone: ln 2, on 4 of 132 annotated pixels, twice."""
    targets = objects_of()
    loss = with_objects(build_loss("dice_and_cross_entropy"))
    least = loss(perfect(targets), targets)
    assert least.item() == pytest.approx(2 * 4 * math.log(2) / 132, abs=2e-3)
    for channel in range(4):
        logits = perfect(targets)
        logits[:, channel] = 0
        assert loss(logits, targets) > least


def test_what_was_not_annotated_costs_nothing_of_objects():
    """Neither its value nor its gradient depends on the last column."""
    targets = objects_of()
    logits = torch.randn(1, 4, 12, 12, generator=torch.manual_seed(0), requires_grad=True)
    loss = with_objects(build_loss("cross_entropy"))
    loss(logits, targets).backward()
    assert (logits.grad[..., -1] == 0).all() and (logits.grad[..., :-1] != 0).any(dim=(0, 2, 3)).all()


def test_a_batch_without_annotation_costs_nothing_of_objects():
    """Zero, and no NaN."""
    targets = objects_of()
    targets[:, 0] = -1
    assert with_objects(build_loss("dice_and_cross_entropy"))(torch.randn(1, 4, 12, 12), targets).item() == 0


def test_levels_of_objects_are_shrunk_in_space_only():
    """Targets keep their three channels at every level."""
    targets = objects_of()
    loss = with_objects(build_loss("dice_and_cross_entropy"))
    logits = [perfect(targets), perfect(targets[..., 1::2, 1::2])]
    wanted = (2 * loss(logits[0], targets) + loss(logits[1], targets[..., 1::2, 1::2])) / 3
    torch.testing.assert_close(deep(loss)(logits, targets), wanted)


def test_labels_in_place_of_targets_are_refused():
    """As would happen with another task."""
    with pytest.raises(ShapeError, match="not those of objects"):
        with_objects(build_loss("cross_entropy"))(torch.zeros(1, 4, 8, 8), torch.zeros(1, 8, 8))
