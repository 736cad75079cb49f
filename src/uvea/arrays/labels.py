"""What mask values mean: the map from values on disk to classes 0…n-1, and back.

`decide_labels` makes the map once, from counts of mask values; `LabelMap` is kept in the
plan and only applies it. Neither knows files or images: a caller says where a mask is from.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from uvea.errors import DatasetError, ShapeError

IGNORE = -1
"""Class of pixels that were not annotated: no loss and no score counts them."""

LARGEST_ID = (1 << 24) - 2
"""Numbers of objects up to here are exact in float32, which they pass through where images are bent."""

Value = int | float
Colour = tuple[int, int, int]
Key = Value | Colour
"""What a mask pixel may hold: a gray value or a colour."""

_INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "uint64")

TABLE_LIMIT = 1 << 20
"""Integer masks that span fewer values than this are encoded by a lookup table."""

MANY_VALUES = 5
"""Fewer values than this in every mask are taken for classes: four objects look just like four classes."""

VERY_MANY_VALUES = 20
"""More values than most sets of classes have."""

NEARLY_WHOLE = 1e-3
"""Values of masks that are all this close to whole numbers are whole, see `made_whole`."""

FEW_MASKS = 6
"""Up to here, three different numbers of objects are as many as can be expected: each is in two masks, on average."""

SPECK = 4.0
"""Mean size, in pixels, below which rare values are the rims that compression and smoothing leave."""

LOSS = 16
"""Gray values that a lossy file may confuse."""


class LabelMap(BaseModel):
    """What each mask value means.

    kind "values"     values[i] is the gray value of class i
    kind "colours"    colours[i] is the colour of class i
    kind "instances"  values[0] is background, every other value an object; objects are written as values[1]
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["values", "colours", "instances"]

    values: tuple[Value, ...] = ()
    """One per class, background first; empty for colours."""

    colours: tuple[Colour, ...] = ()
    """One per class, background first; empty unless kind is "colours"."""

    names: tuple[str, ...] = ()
    """One per class; left empty they become "background" and "foreground", or "class 1", "class 2", …"""

    ignore: int | None = None
    """Mask value (gray, in colour masks too) of pixels that were not annotated."""

    @model_validator(mode="before")
    @classmethod
    def _name_the_classes(cls, fields: object) -> object:
        if not isinstance(fields, dict):
            return fields
        # What comes from JSON has lists, which a strict check does not take for tuples once they are Python's.
        filled = {key: _as_tuple(value) for key, value in fields.items()}
        if filled.get("names"):
            return filled
        if filled.get("kind") == "instances":
            filled.setdefault("values", (0, 255))
        keys = [value for key in ("values", "colours") if isinstance(value := filled.get(key), tuple)]
        filled["names"] = default_names(max(map(len, keys), default=0))
        return filled

    @model_validator(mode="after")
    def _agree(self) -> Self:
        _check_range(self)
        keys: tuple[Key, ...] = self.colours if self.kind == "colours" else self.values
        if not keys or (self.values and self.colours):
            raise ValueError(f"labels of kind {self.kind!r} need values or colours of their kind, and no others")
        if len(set(keys)) != len(keys):
            raise ValueError(f"two classes share a mask value: {_listed(keys)}")
        if self.kind == "instances" and len(keys) != 2:
            raise ValueError(f"instances need two values, background and object, not {_listed(keys)}")
        if len(self.names) != len(keys) or len(set(self.names)) != len(keys):
            raise ValueError(f"{len(keys)} classes need as many different names, not {', '.join(self.names)}")
        if self.ignore in keys:
            raise ValueError(f"{self.ignore} cannot be both a class and the ignored value")
        return self

    @property
    def classes(self) -> int:
        """Number of classes, background included."""
        return len(self.names)

    def encode(self, mask: NDArray[np.generic], *, where: str = "the mask") -> NDArray[np.int16]:
        """Turn mask values into classes.

        Args:
            mask: (1, ...) gray or (3, ...) colour; a colour mask with equal channels is read as gray.
            where: file or case, for the error.

        Returns:
            Classes 0…n-1 of shape (...); IGNORE where the mask has the ignored value.

        Raises:
            DatasetError: if a value belongs to no class.
            ShapeError: if the mask has neither one nor three channels.
        """
        if mask.shape[0] not in (1, 3):
            raise ShapeError(
                f"{where} has {mask.shape[0]} channels",
                hint="save masks with one channel of class values, or as RGB with one colour per class",
            )
        if self.kind == "instances":
            return self._encode_objects(mask, where)
        known: dict[Value, int] = {}
        if self.kind == "colours":
            if self.ignore is not None:
                known[_code((self.ignore,) * 3)] = IGNORE
            known.update({_code(colour): index for index, colour in enumerate(self.colours)})
            return _look_up(colour_codes(np.broadcast_to(mask, (3, *mask.shape[1:]))), known, where, self.colours)
        if not is_gray(mask):
            raise DatasetError(
                f"{where} is a colour mask, but classes are gray values",
                hint=f"save it with one channel holding {_listed(self.values)}",
            )
        if mask.dtype == np.bool_ and self.classes == 2 and 0 in self.values and self.ignore not in (0, 1):
            # One bit: 1 is the foreground, whatever value it has elsewhere.
            return np.where(mask[0], 1 - self.values.index(0), self.values.index(0)).astype(np.int16)
        if self.ignore is not None:
            known[self.ignore] = IGNORE
        known.update({value: index for index, value in enumerate(self.values)})
        return _look_up(mask[0], known, where, self.values)

    def encode_objects(self, mask: NDArray[np.generic], *, where: str = "the mask") -> NDArray[np.int32]:
        """Turn mask values into numbers of objects.

        Numbers that the mask gives are kept where they are whole and from 1 to LARGEST_ID, else all are made anew.
        Where mask values are classes, what hangs together of one class, also over corners, is an object.

        Args:
            mask: as for `encode`.
            where: file or case, for the error.

        Returns:
            0 background, IGNORE where the mask has the ignored value, else a number; of shape (...). The class of an
            object follows from its number, see `classes_of`.

        Raises:
            DatasetError, ShapeError: as `encode`.
        """
        classes = self.encode(mask, where=where)
        ids = np.minimum(classes, 0).astype(np.int32)
        inside = classes > 0
        if self.kind != "instances":
            from scipy import ndimage

            whole = np.ones((3,) * classes.ndim)
            for label in range(1, self.classes):
                pieces, _ = ndimage.label(classes == label, whole)
                found = pieces > 0
                ids[found] = (pieces[found] - 1) * (self.classes - 1) + label
            return ids
        values = mask[0] if len(mask) == 1 or is_gray(mask) else colour_codes(mask)
        kept = values[inside]
        if not kept.size:
            return ids
        if kept.dtype.kind == "f" or not (kept.min() > 0 and kept.max() <= LARGEST_ID):
            kept = np.unique(kept, return_inverse=True)[1].reshape(-1) + 1
        ids[inside] = kept
        return ids

    def decode(self, labels: NDArray[np.integer]) -> NDArray[np.generic]:
        """Turn classes (...) into mask values (1, ...), or (3, ...) for colours.

        The type is the smallest that holds all values: 0 and 255 come back as uint8. IGNORE becomes the ignored value.

        Raises:
            ShapeError: if a label is no class.
        """
        lowest = 0 if self.ignore is None else IGNORE
        if labels.size and (labels.min() < lowest or labels.max() >= self.classes):
            raise ShapeError(
                f"labels from {labels.min()} to {labels.max()} do not fit {self.classes} classes",
                hint=f"use labels from {lowest} to {self.classes - 1}",
            )
        # IGNORE is -1, so numpy takes the last row of the table for it.
        if self.kind == "colours":
            colours = [*self.colours] + ([] if self.ignore is None else [(self.ignore,) * 3])
            table = np.array(colours, _smallest_type([part for colour in colours for part in colour]))
            return np.ascontiguousarray(np.moveaxis(table[labels], -1, 0))
        values = [*self.values] + ([] if self.ignore is None else [self.ignore])
        found: NDArray[np.generic] = np.array(values, _smallest_type(values))[labels]
        return found[None]

    def _encode_objects(self, mask: NDArray[np.generic], where: str) -> NDArray[np.int16]:
        if mask.dtype.kind == "f" and not np.isfinite(mask).all():
            raise DatasetError(f"{where} has NaN or infinite values", hint=way_to_whole_numbers(np.nan))
        if mask.dtype.kind in "if" and mask.min(initial=0) < 0:
            wrong = np.less(mask, 0) & (mask != self.values[0])
            if self.ignore is not None:
                wrong &= mask != self.ignore
            if wrong.any():
                found = np.unique(mask[wrong]).tolist()
                raise DatasetError(
                    f"{where} has negative values, which are no numbers of objects: {_listed(found)}",
                    hint=f"if nobody annotated these pixels, name their value with --ignore-value {found[-1]:g}; "
                    "else use 0 for background and numbers from 1",
                )
        labels: NDArray[np.int16] = (mask != self.values[0]).any(axis=0).astype(np.int16)
        if self.ignore is not None:
            labels[(mask == self.ignore).all(axis=0)] = IGNORE
        return labels


def classes_of(ids: NDArray[np.integer], classes: int) -> NDArray[np.integer]:
    """The class of every pixel of numbered objects (...); background and IGNORE stay what they are.

    With k classes, background included, object n is of class (n - 1) mod (k - 1) + 1. Classes are their own classes.
    """
    if not ids.size or ids.max() < classes:
        return ids
    return np.where(ids > 0, (ids - 1) % (classes - 1) + 1, ids)


def decide_labels(
    cases: Sequence[Mapping[Key, int]],
    *,
    pieces: Sequence[Mapping[Key, int]] = (),
    lossy: bool = False,
    ignore: int | None = None,
    names: tuple[str, ...] | Mapping[int, str] = (),
    instances: bool | None = None,
) -> LabelMap:
    """Decide what the values in a set of masks mean.

    Values are object numbers, not classes, when all of this holds (with `instances` None):
      - a mask has MANY_VALUES or more of them beside 0, and 0 is present;
      - a value is one connected piece (1.5 on average are allowed for objects that others cut in two);
      - either the masks number their objects 1…N with N taking four sizes or more (three in up to FEW_MASKS masks,
        two where a mask has VERY_MANY_VALUES); or there are VERY_MANY_VALUES and the usual one is in one or two
        masks only, as where the numbers run on from image to image.
    A set of organs fails the last point: all masks have the same values, or lack one in the middle. So do layers, of
    which the last one or two may be out of view.

    Masks that were compressed, smoothed or drawn over an image have values that exist only in specks, mostly on the
    rims of objects: three or more rare values (under 1 % of pixels each) in pieces of less than SPECK pixels on
    average. They are refused. In lossy files three rare values are enough, or two values closer than LOSS. Dots are as
    small: values are no rims where `names` has each of them, or where they are fewer than VERY_MANY_VALUES and
    0, 1, 2, … without a gap, because rims lie between the values of objects, which would be far apart. In lossy files
    only `names` can tell.

    Args:
        cases: pixels per value, one mapping per mask; colours as (red, green, blue).
        pieces: connected pieces of equal value per value, one mapping per mask; empty if not measured.
        lossy: whether the masks come from files that do not keep values exactly, such as JPEG.
        ignore: value of pixels that were not annotated.
        names: names of the classes from the user, background first; or by mask value, for gray values of classes. The
            order of the classes does not depend on it.
        instances: the user's word on whether values are object numbers.

    Raises:
        DatasetError: if the masks have no two values, values that are no whole numbers, rims of compression,
            or other classes than `names`.
    """
    cases, pieces = _without(cases, ignore), _without(pieces, ignore)
    totals: Counter[Key] = Counter()
    for counts in cases:
        totals.update(counts)
    broken = [value for value in totals if isinstance(value, float) and not value.is_integer()]
    if broken:
        raise DatasetError(
            f"masks have values that are not whole numbers: {_listed(broken)}",
            hint=way_to_whole_numbers(broken[0]),
        )
    if instances is None:
        instances = not lossy and _are_instances(cases, pieces)
    named = isinstance(names, Mapping) and set(names) == set(totals)
    counted = not lossy and len(totals) < VERY_MANY_VALUES and set(totals) == set(range(len(totals)))
    clean = named or counted or (instances and not lossy)
    coloured = any(isinstance(key, tuple) for key in totals)
    if specks := 0 if clean else _rim_values(totals, pieces, lossy):
        naming = "; or name every value with --labels, such as 0=background,50=cell, if these are classes"
        few = not coloured and len(totals) <= VERY_MANY_VALUES
        raise DatasetError(
            f"masks have {len(totals)} values, {specks} of them only in specks, such as on the rims of objects: "
            "they were compressed, smoothed or drawn over the image",
            hint="save masks as PNG or TIFF, without the image, without smoothing and not as JPEG, with one exact "
            f"value per class{naming if few else ''}",
        )
    if instances:
        return _named(_instance_labels(ignore), names)
    if len(totals) < 2:
        only = f"only the value {_listed(list(totals))}" if totals else "no values"
        beside = "" if ignore is None else f" beside the ignored {ignore}"
        check = "that these are the masks" if ignore is None else "that these are the masks, and --ignore-value"
        raise DatasetError(
            f"all masks together have {only}{beside}", hint=f"annotate at least one object, or check {check}"
        )
    if coloured:
        black = (0, 0, 0)
        background = black if black in totals else totals.most_common(1)[0][0]
        rest = sorted(key for key in totals if key != background and isinstance(key, tuple))
        return _named(LabelMap(kind="colours", colours=(background, *rest), ignore=ignore), names)  # type: ignore[arg-type]
    whole = sorted(int(key) for key in totals if not isinstance(key, tuple))
    ordered = [0, *(value for value in whole if value != 0)] if 0 in whole else whole
    return _named(LabelMap(kind="values", values=tuple(ordered), ignore=ignore), names)


def _as_tuple(value: object) -> object:
    """A list as a tuple, and lists in it as tuples, such as colours."""
    if not isinstance(value, list):
        return value
    return tuple(tuple(item) if isinstance(item, list) else item for item in value)


def bits_stand_for_255(
    cases: Sequence[Mapping[Key, int]], one_bit: Sequence[bool], *, ignore: int | None = None
) -> bool:
    """Whether the 1 of masks of one bit is the 255 of all others, as where a program made some PNG files smaller.

    Args:
        cases: pixels per value, one mapping per mask.
        one_bit: which masks are so.
        ignore: value of pixels that were not annotated.
    """
    pairs = list(zip(cases, one_bit, strict=True))
    others = {key for counts, bit in pairs if not bit for key in counts} - {0, ignore}
    return others == {255} and ignore != 1 and any(bit and 1 in counts for counts, bit in pairs)


def made_whole(mask: NDArray[np.generic]) -> NDArray[np.generic]:
    """A mask with values that are nearly whole numbers made whole, in its own type; any other as it is.

    Programs that scale what they store, as nibabel does with floats, write 1 as 1.0000153. In 16 bits a value is off by
    half a step of their range, which is more for large numbers: so the limit is NEARLY_WHOLE, or 2^-16 of the largest
    value where that is more, and never above a tenth.
    """
    if mask.dtype.kind != "f":
        return mask
    nearest = np.rint(mask)
    if np.array_equal(mask, nearest):
        return mask
    with np.errstate(invalid="ignore"):  # NaN and infinity are near to nothing
        limit = min(max(NEARLY_WHOLE, float(np.abs(nearest).max()) / 2**16), 0.1)
        return nearest if np.abs(mask - nearest).max() <= limit else mask


def way_to_whole_numbers(value: float) -> str:
    """What to do about masks with a value, such as this one, that is no whole number; for a hint."""
    if not np.isfinite(value):
        return "write a whole number in its place; if nobody annotated these pixels, name it with --ignore-value"
    return "save masks as whole numbers, one per class; threshold probability maps first"


def default_names(classes: int) -> tuple[str, ...]:
    """Names for classes that the user did not name."""
    if classes == 2:
        return ("background", "foreground")
    return ("background", *(f"class {index}" for index in range(1, classes)))


def is_gray(mask: NDArray[np.generic]) -> bool:
    """Whether all channels of a mask (c, ...) are equal."""
    return all(np.array_equal(mask[0], channel) for channel in mask[1:])


def colour_codes(mask: NDArray[np.generic]) -> NDArray[np.int64]:
    """One number per pixel of an RGB mask (3, ...) of up to 16 bits; `colour_of` undoes it."""
    codes: NDArray[np.int64] = mask[0].astype(np.int64) << 32
    codes |= mask[1].astype(np.int64) << 16
    codes |= mask[2].astype(np.int64)
    return codes


def colour_of(code: int) -> Colour:
    """The colour that `colour_codes` turned into this number."""
    return (code >> 32, (code >> 16) & 0xFFFF, code & 0xFFFF)


def _code(colour: Colour) -> int:
    return (colour[0] << 32) | (colour[1] << 16) | colour[2]


def _look_up(mask: NDArray[np.generic], known: dict[Value, int], where: str, shown: Sequence[Key]) -> NDArray[np.int16]:
    """Classes of a mask (...) of single numbers, refusing numbers that are not known."""
    unknown_class = np.int16(-2)
    if mask.size == 0:
        return np.zeros(mask.shape, np.int16)
    if mask.dtype == np.bool_:
        mask = mask.view(np.uint8)
    low, high = mask.min(), mask.max()
    if mask.dtype.kind in "iu" and int(high) - int(low) < TABLE_LIMIT:
        table = np.full(int(high) - int(low) + 1, unknown_class)
        for value, index in known.items():
            if low <= value <= high and float(value).is_integer():
                table[int(value) - int(low)] = index
        # uint8 and uint16 index as they are where the lowest value is 0, which saves a copy of the mask.
        unsigned = mask.dtype.kind == "u"
        labels: NDArray[np.int16] = table[mask if low == 0 else mask - low if unsigned else mask.astype(np.int64) - low]
    else:
        values = np.array(sorted(known))
        classes = np.array([known[value] for value in sorted(known)], np.int16)
        place = np.minimum(np.searchsorted(values, mask), len(values) - 1)
        labels = np.where(values[place] == mask, classes[place], unknown_class)
    wrong = labels == unknown_class
    if wrong.any():
        found: list[Key] = [value.item() for value in np.unique(mask[wrong])]
        if isinstance(shown[0], tuple):
            found = [colour_of(int(code)) for code in found if not isinstance(code, tuple)]
        raise DatasetError(
            f"{where} has values that belong to no class: {_listed(found)}",
            hint=f"correct the mask; classes are {_listed(shown)}",
        )
    return labels


def _without(cases: Sequence[Mapping[Key, int]], ignore: int | None) -> list[dict[Key, int]]:
    """The same counts without the ignored value; gray values as colours where any mask has a colour."""
    coloured = any(isinstance(key, tuple) for counts in cases for key in counts)
    cleaned = []
    for counts in cases:
        kept: dict[Key, int] = {}
        for key, count in counts.items():
            gray = key if not isinstance(key, tuple) else key[0] if len(set(key)) == 1 else None
            if ignore is not None and gray == ignore:
                continue
            kept[(int(key),) * 3 if coloured and not isinstance(key, tuple) else key] = count
        cleaned.append(kept)
    return cleaned


def _are_instances(cases: Sequence[Mapping[Key, int]], pieces: Sequence[Mapping[Key, int]]) -> bool:
    """The rule in the docstring of `decide_labels`. Negative values are no objects."""
    objects = [sorted(number for key in counts if (number := _number(key)) > 0) for counts in cases]
    largest = max(map(len, objects), default=0)
    has_background = any(key in counts for counts in cases for key in (0, (0, 0, 0)))
    if largest < MANY_VALUES or not has_background or not pieces:
        return False
    number_of_pieces = sum(count for counts in pieces for key, count in counts.items() if _number(key) > 0)
    if number_of_pieces > 1.5 * sum(map(len, objects)):
        return False
    annotated = [values for values in objects if values]
    sizes_wanted = 2 if largest >= VERY_MANY_VALUES else 3 if len(annotated) <= FEW_MASKS else 4
    counts_differ = len(set(map(len, annotated))) >= sizes_wanted
    consecutive = sum(values == list(range(1, len(values) + 1)) for values in annotated)
    if counts_differ and consecutive >= 0.8 * len(annotated):
        return True
    spread = Counter(value for values in annotated for value in values)
    usual = sorted(spread.values())[len(spread) // 2]
    return len(spread) >= VERY_MANY_VALUES and usual <= 2 and (usual < len(annotated) or len(annotated) == 1)


def _rim_values(totals: Counter[Key], pieces: Sequence[Mapping[Key, int]], lossy: bool) -> int:
    """How many values are rims of compression or smoothing; 0 if the masks are clean."""
    rare = [key for key, count in totals.items() if count < 0.01 * totals.total()]
    if lossy:
        grays = sorted(max(key) if isinstance(key, tuple) else key for key in totals)
        close = [gray for gray, higher in pairwise(grays) if 0 < higher - gray < LOSS]
        return max(len(close), len(rare) if len(rare) >= 3 else 0)
    if len(rare) < 3:
        return 0
    number_of_pieces = sum(counts.get(key, 0) for counts in pieces for key in rare)
    # Only measured pieces can tell specks from small objects.
    return len(rare) if number_of_pieces and sum(totals[key] for key in rare) < SPECK * number_of_pieces else 0


def _named(labels: LabelMap, names: tuple[str, ...] | Mapping[int, str]) -> LabelMap:
    if not names:
        return labels
    if isinstance(names, Mapping):
        names = _names_in_order(labels, names)
    if len(names) != labels.classes:
        keys: Sequence[Key] = labels.colours or labels.values
        raise DatasetError(
            f"{len(names)} label names for {labels.classes} classes ({_listed(keys)}): {', '.join(names)}",
            hint=f"give {labels.classes} names with --labels, background first",
        )
    if len(set(names)) != len(names):
        raise DatasetError(f"two classes share a label name: {', '.join(names)}", hint="give every class its own name")
    return labels.model_copy(update={"names": names})


def _names_in_order(labels: LabelMap, names: Mapping[int, str]) -> tuple[str, ...]:
    """The names of gray values in the order of the classes."""
    if labels.kind != "values":
        objects = labels.kind == "instances"
        what = "number their objects" if objects else "have colours"
        or_classes = ", or --no-instances if the values are classes" if objects else ""
        raise DatasetError(
            f"--labels gives names to the values {_listed(list(names))}, but the masks {what}",
            hint=f"give {labels.classes} plain names with --labels, background first{or_classes}",
        )
    if set(names) != set(labels.values):
        beside = "" if labels.ignore is None else f" beside the ignored {labels.ignore}"
        raise DatasetError(
            f"--labels gives names to the values {_listed(list(names))}, but the masks have "
            f"{_listed(labels.values)}{beside}",
            hint="name all values of the masks and no others; --ignore-value is for pixels that nobody annotated",
        )
    return tuple(names[int(value)] for value in labels.values)


def _instance_labels(ignore: int | None) -> LabelMap:
    if ignore == 0:
        raise DatasetError(
            "0 is the background of masks of objects, it cannot be the ignored value",
            hint="give unannotated pixels another value, and name it with --ignore-value",
        )
    return LabelMap(kind="instances", values=(0, 1 if ignore == 255 else 255), ignore=ignore)


def _number(key: Key) -> Value:
    return _code(key) if isinstance(key, tuple) else key


def _smallest_type(numbers: Sequence[Value]) -> np.dtype[np.generic]:
    low, high = min(numbers), max(numbers)
    if all(float(number).is_integer() for number in numbers):
        return np.dtype(next(name for name in _INTEGERS if _holds(name, low, high)))
    exact = all(float(np.float32(number)) == number for number in numbers)
    return np.dtype("float32" if exact else "float64")


def _holds(integers: str, low: Value, high: Value) -> bool:
    return bool(np.iinfo(integers).min <= low and high <= np.iinfo(integers).max)


def _check_range(labels: LabelMap) -> None:
    """Refuse values that no file holds: plans, and what users say, may have any number."""
    parts = [part for colour in labels.colours for part in colour]
    numbers: list[Value] = [*labels.values, *parts, *([] if labels.ignore is None else [labels.ignore])]
    known = ("uint16",) if labels.kind == "colours" else _INTEGERS
    # Floats beyond are no whole numbers any more, and NaN is none.
    broken = [one for one in numbers if isinstance(one, float) and not abs(one) <= 2**53]
    if broken or (numbers and not any(_holds(name, min(numbers), max(numbers)) for name in known)):
        low, high = (broken[0],) * 2 if broken else (min(numbers), max(numbers))
        raise DatasetError(
            f"masks cannot have values from {low!s:.40} to {high!s:.40}",
            hint="use colours from 0 to 65535" if labels.kind == "colours" else "use whole numbers of 64 bits",
        )


def _listed(keys: Sequence[Key], most: int = 8) -> str:
    """Values for a message: sorted as given, shortened."""
    shown = [str(key) if isinstance(key, tuple) else f"{key:g}" for key in list(keys)[:most]]
    return ", ".join(shown) + (f" and {len(keys) - most} more" if len(keys) > most else "")
