"""Networks from lists of layers: their sizes worked by hand, and what they refuse."""

from fractions import Fraction

import pytest
import torch
from torch import nn

from uvea.errors import PlanError, ShapeError
from uvea.models.graph import GraphNetwork
from uvea.models.presets import tutorial
from uvea.plan.graph import (
    Add,
    Concatenate,
    Conv,
    Graph,
    Input,
    MaxPool,
    TransposedConv,
    Upsample,
    grids_of,
    levels_of,
    reach_of,
    same_padding,
    stride_of,
    transposed_crop,
    transposed_size,
    weights_of,
)

IMAGE = Input(name="image", channels=1)


def conv(name: str, before: str, **settings: object) -> Conv:
    """A convolution of two channels and three pixels."""
    return Conv(**{"name": name, "inputs": (before,), "channels": 2, "kernel": (3, 3), **settings})


def network(*layers: object) -> GraphNetwork:
    """The image and these layers, with the same weights every time."""
    torch.manual_seed(0)
    return GraphNetwork(Graph(layers=(IMAGE, *layers))).eval()


def test_the_reach_of_the_tutorial_network_by_hand():
    """Two convolutions 2, pooling 1, enlarging 2 (a pixel of the lower level), two convolutions 2."""
    assert reach_of(tutorial(), grids_of(tutorial())) == (7, 7)


def test_no_pixel_sees_further_than_the_reach():
    """By gradients, for every pixel of a pooling cell."""
    network = GraphNetwork(tutorial()).double()
    image = torch.rand(1, 1, 40, 40, dtype=torch.float64, requires_grad=True)
    reach = reach_of(tutorial(), grids_of(tutorial()))[0]
    for place in (20, 21):
        (gradient,) = torch.autograd.grad(network(image)[0, 0, place, place], image)
        seen = gradient[0, 0].nonzero()
        assert (seen - place).abs().max() <= reach


def test_the_tutorial_network_has_148353_parameters():
    """1 to 64, 64 to 64, 128 to 64, 64 to 64, and 64 to 1 with a 1x1 kernel."""
    found = GraphNetwork(tutorial())
    assert sum(weight.numel() for weight in found.parameters()) == 640 + 2 * 36_928 + 73_792 + 65 == 148_353
    assert weights_of(tutorial(), grids_of(tutorial())) == 148_353


def test_the_tutorial_network_is_what_it_says():
    """The same layers written out in torch, with the enlarged branch first, give the same."""
    found = GraphNetwork(tutorial(width=3)).eval()
    one, two, three, four, last = (part for part in found.modules() if isinstance(part, nn.Conv2d))
    image = torch.randn(2, 1, 8, 12, generator=torch.Generator().manual_seed(0))
    top = two(one(image).relu()).relu()
    up = nn.functional.max_pool2d(top, 2).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    wanted = last(four(three(torch.cat((up, top), 1)).relu()).relu())
    torch.testing.assert_close(found(image), wanted)


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (8, 12), (33, 18)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_any_size_gives_one_logit_per_pixel(size, padding):
    """Also where strides and unpadded convolutions make the grids smaller."""
    found = network(
        conv("a", "image", padding=padding),
        conv("down", "a", stride=(2, 3), padding=padding),
        MaxPool(name="pool", inputs=("down",), size=(3, 2), stride=(2, 2), padding=padding),
        TransposedConv(name="up", inputs=("pool",), channels=2, kernel=(3, 2), stride=(2, 2), padding=padding),
        Upsample(name="back", inputs=("up",), size=(2, 3), how="linear"),
    )
    assert found.total_stride == (4, 6)
    assert found(torch.ones(1, 1, *size)).shape == (1, 2, *size)


def test_unpadded_convolutions_are_centred():
    """A kernel that copies the pixel in its middle gives every pixel back, the border repeated where it is short."""
    found = network(conv("a", "image", channels=1, padding="valid", bias=False, kernel=(5, 3)))
    with torch.no_grad():
        found.layers[1].conv.weight.zero_()[0, 0, 2, 1] = 1
    image = torch.arange(35.0).view(1, 1, 5, 7)
    torch.testing.assert_close(found(image), image)


def test_pooling_windows_stay_where_they_were_without_the_padding():
    """Unpadded layers and pooling: the middle of a padded image is what the layers give of the image alone."""
    layers = (
        conv("a", "image", padding="valid"),
        MaxPool(name="pool", inputs=("a",), size=(2, 2), stride=(2, 2)),
        Upsample(name="up", inputs=("pool",), size=(2, 2)),
        conv("b", "up", padding="valid"),
    )
    found = network(*layers)
    image = torch.randn(1, 1, 12, 16, generator=torch.Generator().manual_seed(1))
    a, b = found.layers[1].conv, found.layers[4].conv
    alone = b(nn.functional.interpolate(nn.functional.max_pool2d(a(image), 2), scale_factor=2))
    torch.testing.assert_close(found(image)[:, :, 2:-2, 2:-2], alone)


@pytest.mark.parametrize(
    ("length", "kernel", "stride", "around"),
    [(8, 3, 1, (1, 1)), (8, 3, 2, (0, 1)), (7, 3, 2, (1, 1)), (8, 2, 1, (0, 1)), (5, 1, 2, (0, 0)), (6, 5, 3, (1, 1))],
)
def test_same_padding_by_hand(length, kernel, stride, around):
    """ceil(length / stride) windows fit exactly; of an uneven number of zeros the larger half is at the end."""
    assert same_padding(length, kernel, stride) == around


def test_transposed_sizes_by_hand():
    """Padding "same" makes a multiple of the stride, "valid" the whole reach; a crop takes the smaller half first."""
    assert transposed_size(5, 3, 2, padding="same", output_padding=None) == 10
    assert transposed_size(5, 3, 2, padding="valid", output_padding=None) == 11
    assert transposed_size(5, 1, 3, padding="valid", output_padding=None) == 15
    assert transposed_size(5, 3, 2, padding="same", output_padding=1) == 10
    assert transposed_size(5, 4, 2, padding="valid", output_padding=0) == 12
    # The whole transpose of 5 pixels with a kernel of 4 and a stride of 2 has 12: one goes at each end.
    assert transposed_crop(5, 4, 2, size=10) == 1
    assert transposed_crop(5, 3, 2, size=10) == 0


def test_grids_by_hand():
    """A pool of two puts the first centre half a pixel in, enlarging takes it back, unpadded layers shift it."""
    graph = Graph(
        layers=(
            IMAGE,
            MaxPool(name="pool", inputs=("image",), size=(2, 2), stride=(2, 2)),
            conv("small", "pool", padding="valid"),
            Upsample(name="up", inputs=("small",), size=(2, 2)),
        )
    )
    grids = grids_of(graph)
    half = Fraction(1, 2)
    assert (grids["pool"].step, grids["pool"].extra, grids["pool"].first) == ((2, 2), (0, 0), (half, half))
    # Of n / 2 pixels n / 2 - 2 are left, the first of them where the second was, two pixels of the image on.
    assert (grids["small"].extra, grids["small"].first) == ((-2, -2), (half + 2, half + 2))
    assert (grids["up"].step, grids["up"].extra, grids["up"].first) == ((1, 1), (-4, -4), (2, 2))
    assert stride_of(grids) == (2, 2)
    assert levels_of(graph, grids) == ([2, 2], [(2, 2)], [(1, 1), (3, 3)])


def test_strides_that_are_no_multiples_make_their_common_one():
    """Branches pooled by 2 and by 3 need a multiple of 6."""
    graph = Graph(
        layers=(
            IMAGE,
            *(MaxPool(name=f"pool {n}", inputs=("image",), size=(n, n), stride=(n, n)) for n in (2, 3)),
            *(Upsample(name=f"up {n}", inputs=(f"pool {n}",), size=(n, n)) for n in (2, 3)),
            Add(name="sum", inputs=("up 2", "up 3")),
        )
    )
    assert GraphNetwork(graph).total_stride == (6, 6)
    assert levels_of(graph, grids_of(graph))[1] == [(2, 2), (3, 3)]


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([conv("a", "nowhere")], "takes 'nowhere', which does not come before it"),
        ([conv("image", "image")], "two layers 'image'"),
        ([Input(name="second", channels=1)], "'second' .* takes 0 layers"),
        ([Add(name="sum", inputs=("image",))], "'sum' .* takes 1 layers"),
        ([conv("a", "image"), Add(name="sum", inputs=("a", "image"))], "'sum' adds 2 and 1 channels"),
        (
            [conv("a", "image", padding="valid"), Concatenate(name="join", inputs=("a", "image"))],
            "'join' joins 'a' and 'image', which are of different size",
        ),
        ([conv("a", "image", groups=2)], "'a' has 2 groups for 1 and 2 channels"),
        ([Upsample(name="huge", inputs=("image",), size=(1000, 1000))], "grid of the layer 'huge' is 1/1000×1/1000"),
        ([conv("a", "image", channels=60_000), conv("b", "a", channels=60_000)], "32,400,660,000 weights"),
    ],
)
def test_layers_that_do_not_fit_are_refused_by_name(layers, said):
    """Before any memory is taken."""
    with pytest.raises(PlanError, match=said):
        GraphNetwork(Graph(layers=(IMAGE, *layers)))


def test_an_output_on_another_grid_is_refused():
    """A mask of half the size is none of the image."""
    with pytest.raises(PlanError, match="output is 2×2 pixels of the image"):
        network(MaxPool(name="pool", inputs=("image",), size=(2, 2), stride=(2, 2)))


def test_images_of_other_channels_are_refused():
    """The message has the shape."""
    with pytest.raises(ShapeError, match=r"1×3×8×8 .* 1 channel"):
        network(conv("a", "image"))(torch.zeros(1, 3, 8, 8))


def test_tensors_are_let_go_after_their_last_use():
    """A deep chain holds two layers at a time, not all: what the forward pass deletes is what nobody takes any more."""
    found = network(*(conv(f"c{i}", f"c{i - 1}" if i else "image") for i in range(4)))
    assert found._done_after == [[], ["image"], ["c0"], ["c1"], ["c2"]]
