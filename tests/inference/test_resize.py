"""Resizing band by band must give what torch gives for the whole."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from uvea.inference.resize import Resizer

lengths = st.integers(1, 23)


def resized(array, shape, heights):
    """All rows that a resizer gives for bands of these heights, with the rows that each piece is for."""
    resizer, start, found = Resizer(array.shape[1], shape), 0, []
    while start < array.shape[1]:
        height = heights[len(found) % len(heights)]
        found.append(list(resizer.add(array[:, start : start + height])))
        start += height
    return [piece for some in found for piece in some]


@settings(deadline=None)
@given(
    old=st.tuples(lengths, lengths), new=st.tuples(lengths, lengths), heights=st.lists(st.integers(1, 9), min_size=1)
)
def test_images_cut_anywhere_agree_with_torch(old, new, heights):
    """Larger, smaller or the same along either axis."""
    array = torch.rand((2, *old), generator=torch.Generator().manual_seed(0))
    pieces = resized(array, new, heights)
    rows = [index for place, _ in pieces for index in range(place.start, place.stop)]
    assert rows == list(range(new[0]))
    whole = functional.interpolate(array[None], size=new, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(torch.cat([piece for _, piece in pieces], 1), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("old", "new"), [((7, 6, 5), (12, 9, 5)), ((9, 8, 8), (4, 8, 17)), ((5, 6, 7), (5, 12, 3))])
def test_volumes_agree_with_torch(old, new):
    """Three axes, one of which may stay."""
    array = torch.rand((3, *old), generator=torch.Generator().manual_seed(0))
    found = torch.cat([piece for _, piece in resized(array, new, [2, 1])], 1)
    whole = functional.interpolate(array[None], size=new, mode="trilinear", align_corners=False)[0]
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=0)


def test_a_case_worked_by_hand():
    """Two rows to four: the edges keep their value, a quarter and three quarters lie between."""
    found = resized(torch.tensor([[[0.0], [1.0]]]), (4, 1), [1])
    assert [(place.start, place.stop) for place, _ in found] == [(0, 1), (1, 4)]
    assert torch.cat([piece for _, piece in found], 1).flatten().tolist() == [0, 0.25, 0.75, 1]


def test_what_is_given_out_at_once_is_bounded(monkeypatch):
    """Four rows become four thousand, ten at a time."""
    monkeypatch.setattr("uvea.inference.resize.LARGEST", 10 * 8)
    pieces = resized(torch.rand(1, 4, 8), (4000, 8), [4])
    assert max(piece.shape[1] for _, piece in pieces) == 10
    assert sum(piece.shape[1] for _, piece in pieces) == 4000
