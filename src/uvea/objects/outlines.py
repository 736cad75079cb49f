"""Outlines of objects along the edges of their pixels, as ImageJ ROIs and as GeoJSON.

An outline runs between pixels, with the object on its right: around the object clockwise, around a hole the other way,
in coordinates that have 0 at the outer corner of the first pixel, as in ImageJ and QuPath. Filling it gives back
exactly the pixels of the object. Volumes have outlines slice by slice, time series frame by frame.
"""

import io
import json
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from uvea.errors import OutputError, ShapeError

Ring = NDArray[np.int64]
"""(m, 2) corners, (y, x), each once."""

LARGEST_ROI = 32_767
"""ImageJ keeps positions of outlines in 16 bits."""

_POLYGON = 0
"""ImageJ's number for this kind of ROI."""

_START = np.array([(0, 0), (0, 1), (1, 1), (1, 0)])
"""Where the edge of a pixel that heads east, south, west or north begins, from its upper left corner."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outline:
    """One object in one slice or frame."""

    number: int
    """Id of the object."""

    z: int | None
    """Slice, from 0; None in 2D."""

    t: int | None = None
    """Frame, from 0; None where there is no time."""

    parts: tuple[tuple[Ring, ...], ...]
    """One per piece of the object: its outer ring, then its holes. Pixels that meet at a corner only are pieces."""


def outlines(ids: NDArray[np.integer], *, timed: bool = False) -> list[Outline]:
    """Trace every object.

    Args:
        ids: (y, x), (z, y, x) or, with `timed`, (t, y, x); 0 and less are background.
        timed: whether the first of three axes is time.

    Returns:
        Outlines by slice or frame, then by id.
    """
    if ids.ndim not in (2, 3):
        raise ShapeError(f"ids of {ids.ndim} axes have no outlines", hint="give ids as (y, x) or (z, y, x)")
    if ids.ndim == 2:
        return _trace(ids)
    return [
        replace(outline, t=number) if timed else replace(outline, z=number)
        for number, plane in enumerate(ids)
        for outline in _trace(plane)
    ]


def imagej_rois(found: Sequence[Outline], *, names: Mapping[int, str] | None = None) -> bytes:
    """A zip of ImageJ ROIs, which the ROI Manager opens.

    Every piece of an object in every slice or frame is one polygon; ImageJ's polygons have no holes, which are left
    out.

    Args:
        found: of `outlines`.
        names: of objects, by id; else an object is called by its number.

    Returns:
        The bytes of the file.

    Raises:
        OutputError: where an outline lies beyond pixel 32,767.

    Source: the layout is that of ij.io.RoiDecoder, version 228.
    """
    content = io.BytesIO()
    digits = len(str(max((one.number for one in found), default=1)))
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for one in found:
            name = (names or {}).get(one.number, f"{one.number:0{digits}d}")
            for piece, rings in enumerate(one.parts, start=1):
                place = "".join(f"-{axis}{at + 1:04d}" for axis, at in (("z", one.z), ("t", one.t)) if at is not None)
                entry = f"{one.number:0{digits}d}{place}" + (f"-{piece}" if len(one.parts) > 1 else "")
                # A fixed date: equal objects make equal files.
                archive.writestr(zipfile.ZipInfo(f"{entry}.roi"), _roi(rings[0], name, one), zipfile.ZIP_DEFLATED)
    return content.getvalue()


def geojson(
    found: Sequence[Outline],
    *,
    classes: Mapping[int, str] | None = None,
    measurements: Mapping[int, Mapping[str, float]] | None = None,
) -> str:
    """A GeoJSON collection as QuPath reads and writes it, in pixels: one detection per object and slice or frame.

    Args:
        found: of `outlines`.
        classes: name of the class, by id of the object.
        measurements: numbers by name, by id of the object; shown in QuPath's table.
    """
    features = []
    for one in found:
        properties: dict[str, object] = {"objectType": "detection", "name": str(one.number)}
        if classes and one.number in classes:
            properties["classification"] = {"name": classes[one.number]}
        if measurements and one.number in measurements:
            properties["measurements"] = dict(measurements[one.number])
        parts = [[_closed(loop) for loop in _loops(rings)] for rings in one.parts]
        geometry: dict[str, object] = {
            "type": "Polygon" if len(parts) == 1 else "MultiPolygon",
            "coordinates": parts[0] if len(parts) == 1 else parts,
        }
        if (one.z, one.t) != (None, None):
            geometry["plane"] = {"c": -1, "z": one.z or 0, "t": one.t or 0}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return json.dumps({"type": "FeatureCollection", "features": features}, separators=(",", ":")) + "\n"


def _trace(plane: NDArray[np.integer]) -> list[Outline]:
    """All outlines of one plane."""
    plane = np.maximum(plane, 0)
    edges, following, heading, owner = _edges(plane)
    rings = _rings(edges, following, heading)
    outer: dict[int, list[list[Ring]]] = {}
    holes: dict[int, list[Ring]] = {}
    for first, ring in rings:
        number = int(owner[first])
        if _area(ring) > 0:
            outer.setdefault(number, []).append([ring])
        else:
            holes.setdefault(number, []).append(ring)
    pieces: NDArray[np.integer] | None = None
    for number, inner in holes.items():
        parts = outer[number]
        if len(parts) == 1:
            parts[0] += inner
            continue
        if pieces is None:
            from skimage.measure import label

            pieces = label(plane, background=0, connectivity=1)  # type: ignore[no-untyped-call]
        owner_of = {int(pieces[_first_pixel(part[0])]): part for part in parts}
        for hole in inner:
            y, x = _first_pixel(hole)
            owner_of[int(pieces[y - 1, x])].append(hole)  # above a hole is the piece that it is in
    return [
        Outline(number=number, z=None, parts=tuple(tuple(part) for part in parts))
        for number, parts in sorted(outer.items())
    ]


def _edges(
    plane: NDArray[np.integer],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.integer]]:
    """Every pixel edge at which an object ends: where it begins (e, 2), the edge after it, heading and object."""
    padded = np.pad(plane, 1)
    width = padded.shape[1]
    flat = padded.reshape(-1)
    beside = np.array([-width, 1, width, -1])
    """From a pixel to its neighbour across the edge that heads east, south, west and north."""
    pixels, headings = [], []
    own = np.flatnonzero(flat)
    for towards, across in enumerate(beside.tolist()):
        ending = own[flat[own] != flat[own + across]]
        pixels.append(ending)
        headings.append(np.full(len(ending), towards))
    pixel, heading = np.concatenate(pixels), np.concatenate(headings)
    key = pixel * 4 + heading
    order = np.argsort(key)
    key, pixel, heading = key[order], pixel[order], heading[order]
    # Turn right where the pixel ahead is another's, else go straight, else turn left into the pixel ahead and aside.
    ahead = pixel + beside[(heading + 1) % 4]
    aside = ahead + beside[heading]
    mine = flat[pixel]
    right = flat[ahead] != mine
    straight = flat[aside] != mine
    next_pixel = np.where(right, pixel, np.where(straight, ahead, aside))
    next_heading = (heading + np.where(right, 1, np.where(straight, 0, 3))) % 4
    following = np.searchsorted(key, next_pixel * 4 + next_heading)
    corner = np.stack(np.divmod(pixel, width), axis=1) - 1 + _START[heading]
    return corner, following, heading, mine


def _rings(
    corner: NDArray[np.int64], following: NDArray[np.int64], heading: NDArray[np.int64]
) -> list[tuple[int, Ring]]:
    """The closed ways through the edges: index of the first edge of each, and its corners."""
    turns = (heading[following] != heading).tolist()
    after = following.tolist()
    seen = bytearray(len(after))
    rings = []
    for first in range(len(after)):
        if seen[first]:
            continue
        way, edge = [], first
        while not seen[edge]:
            seen[edge] = 1
            if turns[edge]:
                way.append(after[edge])
            edge = after[edge]
        rings.append((first, corner[way]))
    return rings


def _area(ring: Ring) -> float:
    """Signed area, positive for rings that have their object inside."""
    y, x = ring[:, 0], ring[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2


def _first_pixel(ring: Ring) -> tuple[int, int]:
    """The leftmost pixel of the highest row within a ring."""
    y, x = min(ring.tolist())
    return y, x


def _roi(ring: Ring, name: str, of: Outline) -> bytes:
    top, left = ring.min(axis=0).tolist()
    bottom, right = ring.max(axis=0).tolist()
    if max(bottom, right) > LARGEST_ROI:
        raise OutputError(
            f"object {name} reaches to pixel {max(bottom, right)}, ImageJ's outlines end at {LARGEST_ROI}",
            hint="leave imagej out of --outlines; geojson has no such limit",
        )
    points = len(ring)
    # More than 65,535 corners are counted in the four bytes that lines use for their ends.
    few = points <= 0xFFFF
    header = struct.pack(">4sHBx4hH", b"Iout", 228, _POLYGON, top, left, bottom, right, points if few else 0)
    header += struct.pack(">I", 0 if few else points) + bytes(56 - 22)
    z, t = (0 if at is None else at + 1 for at in (of.z, of.t))
    corners = np.concatenate([ring[:, 1] - left, ring[:, 0] - top]).astype(">i2").tobytes()
    second = 64 + len(corners)
    text = name.encode("utf-16-be")
    header += struct.pack(">II", z or t, second)
    # The second header: channel, slice, frame, where the name is and how long; the rest is about display.
    more = struct.pack(">6I", 0, 0, z, t, second + 64, len(text) // 2) + bytes(64 - 24)
    return header + corners + more + text


def _loops(rings: Sequence[Ring]) -> list[Ring]:
    """The rings of a part, none of which passes a corner twice, as polygons must not: the outer one, then holes.

    Where a notch or a hole meets the outside at a corner, what is cut off there is a hole of its own; two holes that
    meet at a corner are two.
    """
    loops: list[Ring] = []
    for ring in rings:
        way: list[tuple[int, int]] = []
        place: dict[tuple[int, int], int] = {}
        for y, x in ring.tolist():
            if (y, x) in place:
                start = place[y, x]
                loops.append(np.array(way[start:]))
                for corner in way[start:]:
                    del place[corner]
                del way[start:]
            place[y, x] = len(way)
            way.append((y, x))
        loops.append(np.array(way))
    return sorted(loops, key=lambda loop: _area(loop) <= 0)


def _closed(ring: Ring) -> list[list[int]]:
    """Corners as GeoJSON has them: (x, y), the first again at the end."""
    points: list[list[int]] = ring[:, ::-1].tolist()
    return [*points, points[0]]
