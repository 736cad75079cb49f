"""Bring an array with named axes into the package's order: channel first, then z or t, y, x.

It knows letters and sizes only: no files, no geometry.
"""

import numpy as np
from numpy.typing import NDArray

from uvea.errors import ShapeError

LETTERS = "ctzyx"
"""c channel, t time, z slice, y row, x column."""


def check_letters(axes: str, *, example: str = "zyx") -> str:
    """The axes in lower case, after checking what can be known without an array.

    Args:
        axes: letters of c, t, z, y, x in any order, y and x among them.
        example: good axes, for the hint.

    Raises:
        ShapeError: if a letter is unknown or repeated, or y or x is missing.
    """
    letters = axes.strip().lower()
    if unknown := sorted(set(letters) - set(LETTERS)):
        raise ShapeError(
            f"axes {axes!r} have letters that mean nothing: {', '.join(unknown)}",
            hint=f"name each axis of the file by one of {', '.join(LETTERS)}, for example --axes {example}",
        )
    if repeated := sorted({letter for letter in letters if letters.count(letter) > 1}):
        raise ShapeError(
            f"axes {axes!r} name {', '.join(repeated)} more than once",
            hint=f"use every letter once, for example --axes {example}",
        )
    if missing := [letter for letter in "yx" if letter not in letters]:
        raise ShapeError(
            f"axes {axes!r} have no {' and no '.join(missing)}",
            hint=f"an image needs rows and columns, for example --axes {example}",
        )
    return letters


def check_axes(axes: str, shape: tuple[int, ...]) -> str:
    """The axes in lower case, after checking that they can name an array of `shape`.

    Args:
        axes: as `check_letters` takes them, one letter per axis of the array.
        shape: size of the array, in elements.

    Raises:
        ShapeError: as `check_letters`, or if the count is wrong.

    Example:
        >>> check_axes("ZYX", (9, 64, 64))
        'zyx'
    """
    letters = check_letters(axes, example=_example(shape))
    size = "×".join(map(str, shape))
    if len(letters) != len(shape):
        raise ShapeError(
            f"axes {axes!r} name {len(letters)} axes, the array has {len(shape)} ({size})",
            hint=f"give one letter per axis in the order of the file, for example --axes {_example(shape)}",
        )
    return letters


def arranged_axes(axes: str, shape: tuple[int, ...]) -> str:
    """The axes after the channel that an array with these axes has once arranged.

    Time and slices of size 1 are dropped.

    Raises:
        ShapeError: if the array has both time and slices, which no part of the package can use.
    """
    long = {letter for letter, length in zip(axes, shape, strict=True) if length > 1}
    if "t" in long and "z" in long:
        frames, slices = shape[axes.index("t")], shape[axes.index("z")]
        raise ShapeError(
            f"an array of {'×'.join(map(str, shape))} ({axes}) has both time ({frames}) and slices ({slices})",
            hint="save one file per time point, or one per slice",
        )
    return "".join(letter for letter in "tz" if letter in long) + "yx"


def arrange(array: NDArray[np.generic], axes: str) -> tuple[NDArray[np.generic], str]:
    """Reorder an array to (c, y, x), (c, z, y, x) or (c, t, y, x).

    Args:
        array: any number of axes up to five.
        axes: its axes, as `check_axes` returns them.

    Returns:
        A view where possible, and its axes after the channel. A missing channel has size 1.

    Example:
        >>> array, axes = arrange(np.zeros((64, 48, 3)), "yxc")
        >>> array.shape, axes
        ((3, 64, 48), 'yx')
    """
    spatial = arranged_axes(axes, array.shape)
    dropped = tuple(i for i, letter in enumerate(axes) if letter in "tz" and letter not in spatial)
    array = array.squeeze(dropped)
    axes = "".join(letter for i, letter in enumerate(axes) if i not in dropped)
    if "c" not in axes:
        array, axes = array[np.newaxis], "c" + axes
    return array.transpose([axes.index(letter) for letter in "c" + spatial]), spatial


def _example(shape: tuple[int, ...]) -> str:
    return {2: "yx", 3: "zyx", 4: "czyx", 5: "tczyx"}.get(len(shape), "zyx")
