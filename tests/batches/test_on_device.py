"""Cases on a device give the batches that cases in memory give."""

import numpy as np
import pytest
import torch

from uvea.batches.on_device import device_sampler, size_bytes
from uvea.batches.sampler import TrainingCase, remember_positions, sampler


def make_case(name, shape, *, channels=2):
    """Seeded noise with labels 0 to 2."""
    rng = np.random.default_rng(len(name) + sum(shape))
    labels = rng.integers(0, 3, shape).astype(np.int16)
    image = rng.normal(size=(channels, *shape)).astype(np.float32)
    return TrainingCase(name, image, labels, remember_positions(labels, 3))


@pytest.mark.parametrize(
    ("shapes", "patch"),
    [
        ([(20, 30), (8, 9)], (8, 8)),
        ([(5, 40), (40, 3)], (16, 16)),
        ([(6, 9, 10), (2, 12, 30)], (8, 8, 8)),
    ],
    ids=["larger than the patch", "smaller, and reflected more than once", "volumes"],
)
def test_batches_are_equal_to_the_last_bit(shapes, patch):
    """Pixels and labels, over several rounds, with reflection and IGNORE outside."""
    cases = [make_case(f"case {i}", shape) for i, shape in enumerate(shapes)]
    given = {"foreground": 0.5, "seed": 3}
    usual = sampler(cases, patch, 3, **given)
    ours = device_sampler(cases, patch, 3, **given, device=torch.device("cpu"))
    for step in range(6):
        for want, have in zip(usual(step), ours(step), strict=True):
            assert have.dtype == torch.from_numpy(want).dtype
            np.testing.assert_array_equal(have.numpy(), want)


def test_the_memory_of_cases_is_known():
    """Two channels of four bytes and labels of two: ten bytes per pixel."""
    assert size_bytes([make_case("a", (4, 5)), make_case("b", (6, 1))]) == 10 * (20 + 6)


def test_numbers_of_objects_are_cut_alike():
    """int32, with what lies outside as IGNORE."""
    ids = np.arange(20 * 9, dtype=np.int32).reshape(20, 9) * 400
    one = TrainingCase("a", np.ones((1, 20, 9), np.float32), ids, remember_positions(ids, 2))
    settings = {"foreground": 0.5, "seed": 1}
    draw = device_sampler([one], (12, 12), 2, device=torch.device("cpu"), **settings)
    plain = sampler([one], (12, 12), 2, **settings)
    for step in range(4):
        assert draw(step)[1].dtype == torch.int32
        np.testing.assert_array_equal(draw(step)[1].numpy(), plain(step)[1])
