"""Put images and masks together by their names.

Works on names alone. A rule says which keys a file answers to; the rule under which most
masks find an image is used for all files, and the plainest one where several do equally well.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from uvea.datasets.names import (
    IMAGE_WORDS,
    MASK_WORDS,
    SURE_WORDS,
    Reading,
    announced,
    before_word,
    channel_of,
    listed,
    plain_name,
    readings,
    starts,
    subject_of,
)
from uvea.errors import DatasetError


@dataclass(frozen=True)
class Entry:
    """A file by what its name says."""

    path: Path
    folder: tuple[str, ...]
    """Folders that mean something: part, patient. Without "images" and "masks" themselves."""

    stem: str

    def __post_init__(self) -> None:
        try:
            "/".join((*self.folder, self.stem)).encode()
        except UnicodeEncodeError:  # from an archive of another system; it could not be written to tables and reports
            raise DatasetError(
                f"{str(self.path)!r} has a name with letters that are not UTF-8", hint="rename it"
            ) from None


@dataclass(frozen=True)
class Pair:
    """One image, perhaps of several channel files, and its mask."""

    name: str
    folder: tuple[str, ...]
    images: tuple[Path, ...]
    mask: Path | None


@dataclass(frozen=True)
class Pairing:
    """What belongs together, and by which rule."""

    pairs: tuple[Pair, ...]
    strays: tuple[Path, ...]
    """Masks of no image."""

    rule: str
    """How, in words: "paired by name"."""

    common: tuple[str, str] | None = None
    """Texts that all images and all masks share, such as "…_training", where names are equal but for these."""


Key = tuple[str, ...]
"""Folders and then the name of a case."""

Keys = Callable[[Entry], tuple[Key, ...]]
"""The keys a file answers to, the likeliest first."""


def pair(images: Sequence[Entry], masks: Sequence[Entry]) -> Pairing:
    """Give every image its mask.

    Masks may have the name of the image, or that name with a word such as "mask" on it; images may carry a word of
    their own, or be one file per channel. Sub-folders must agree, unless names are unique without them and images and
    masks are not in the same ones. Where no mask fits, names are paired that differ only in a text common to all images
    and one common to all masks; or in a text that most masks have around the name of an image, case aside.

    Raises:
        DatasetError: two images of one name, two masks for one image, channel files with a gap, or names that agree
            only across sub-folders which images and masks share.
    """
    for entries, what in ((images, "images"), (masks, "masks")):
        _refuse_twins(entries, what)
    rule, matches = max(((rule, _match(images, masks, rule)) for rule in _RULES), key=lambda found: len(found[1]))
    if not matches and masks and any(entry.folder for entry in (*images, *masks)):
        flat_images, flat_masks = _without_folders(images), _without_folders(masks)
        if any(any(key) for rule in _RULES for key in _match(flat_images, flat_masks, rule).values()):
            pairing = pair(flat_images, flat_masks)
            folders = {entry.path: entry.folder for entry in (*images, *masks)}
            shared = {entry.folder for entry in images} & {entry.folder for entry in masks} - {()}
            for found in pairing.pairs:
                if found.mask and folders[found.images[0]] in shared and folders[found.mask] in shared:
                    raise _contradiction(found.images[0], found.mask)
            moved = tuple(_moved(found, folders[found.images[0]]) for found in pairing.pairs)
            return replace(pairing, pairs=moved, rule=f"{pairing.rule}, sub-folders aside")
    if not matches:
        return _pair_by_common_text(images, masks)
    return _build(images, masks, rule, matches)


def separate(entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Tell images and masks in one folder apart by the words in their names.

    A word counts as the mark of masks once a file without it has the same name ("x.tif", "x_mask.tif"); from then
    on every file that carries it in the same place is a mask. Where no folder has both, as in BIDS, the file without
    it may lie in any.

    Returns:
        Images and masks; no masks at all where no mark was found.
    """
    worded = {entry: found for entry in entries if (found := readings(entry.stem, MASK_WORDS))}
    if not worded:
        return list(entries), []
    marks = _marks(entries, worded, across=False) or _marks(entries, worded, across=True)
    masks = [entry for entry, found in worded.items() if any(reading.mark in marks for reading in found)]
    chosen = {entry.path for entry in masks}
    return [entry for entry in entries if entry.path not in chosen], masks


def _marks(entries: Sequence[Entry], worded: dict[Entry, tuple[Reading, ...]], *, across: bool) -> set[str]:
    """What masks have in their names beyond those of images of the same folder, or of any where names count alone."""
    owners: dict[Key, set[Path]] = defaultdict(set)
    for entry in entries:
        for key in (*_channel(entry), *_worded(IMAGE_WORDS)(entry)):
            owners[key[-1:] if across else key].add(entry.path)
    return {
        reading.mark
        for entry, found in worded.items()
        for reading in found
        # "p1/image" and "p2/mask" have no name in common.
        if (reading.core or not across)
        and owners.get((*(() if across else entry.folder), reading.core), set()) - {entry.path}
    }


_ENDINGS = SURE_WORDS - {"label"}
"""Words at the end of a name that say mask without the image of that name; slides have a "…_label" that is a photo."""


def suspected(entries: Sequence[Entry]) -> list[Entry]:
    """Files that are no images by their names, though they need not be the masks of any one image.

    Those in a folder of masks that other files pair with; those that end in a word for masks where another file
    begins alike and ends otherwise: "x_seg" beside "x_t1". In BIDS that file may lie in any folder, and have no more
    than the subject in common.
    """
    inside = _in_mask_folders(entries)
    outside = [entry for entry in entries if entry not in inside]
    cores = {entry: core for entry in outside if (core := before_word(entry.stem, _ENDINGS)) is not None}
    others = [entry for entry in outside if entry not in cores]
    known = {(entry.folder, start) for entry in others for start in starts(entry.stem) if start}
    subjects = {subject_of(entry.stem) for entry in others} - {None}
    stems, files = Counter(entry.stem for entry in cores), Counter(entry.folder for entry in others)
    # A name that is a word alone, "p1/seg", has to come again or to be one of few.
    known |= {(e.folder, "") for e in cores if files[e.folder] and (stems[e.stem] > 1 or files[e.folder] <= 2)}
    return [
        entry
        for entry in entries
        if entry in inside
        or (entry in cores and ((entry.folder, cores[entry]) in known or subject_of(entry.stem) in subjects))
    ]


def _in_mask_folders(entries: Sequence[Entry]) -> set[Entry]:
    """The files in folders that a word for masks ends the name of, where files of other folders agree with it."""
    below: dict[tuple[str, ...], list[Entry]] = defaultdict(list)
    others = []
    for entry in entries:
        if folder := _mask_folder(entry.folder):
            below[folder].append(entry)
        else:
            others.append(entry)
    if not others:
        return set()
    stems = {entry.stem for entry in others}
    folders = {entry.folder[:depth] for entry in others for depth in range(1, len(entry.folder) + 1)}
    many = 2 * sum(map(len, below.values())) >= len(others)
    found: set[Entry] = set()
    for folder, masks in below.items():
        core = before_word(folder[-1], MASK_WORDS)
        paired = [e for e in masks if e.stem in stems or any(r.core in stems for r in readings(e.stem, MASK_WORDS))]
        agree = 2 * len(paired) >= len(masks)
        sure = before_word(folder[-1].removesuffix("Ts"), SURE_WORDS) is not None
        if announced(folder[-1]):
            belongs = agree or (sure and many)
        else:  # numbers alone agree by chance: "with_mask/1" and "none/1"
            belongs = sure and agree and any(map(str.isalpha, "".join(entry.stem for entry in paired)))
        if belongs or (core and (*folder[:-1], core) in folders):  # "01_GT" beside "01"
            found.update(masks)
    return found


def _mask_folder(folder: tuple[str, ...]) -> tuple[str, ...]:
    """The innermost folder that a word for masks ends the name of, with those above it; () for none, or in images/."""
    for depth in range(len(folder), 0, -1):
        name = folder[depth - 1]
        if announced(name) == "images":
            return ()
        if announced(name) or before_word(name, MASK_WORDS) is not None:
            return folder[:depth]
    return ()


def group_channels(entries: Sequence[Entry]) -> list[tuple[Key, tuple[Path, ...]]]:
    """Collect "case_0000", "case_0001" under "case"; a file without a channel number stays by itself.

    Raises:
        DatasetError: a channel number that is missing or there twice.
    """
    groups: dict[Key, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[_channel(entry)[0]].append(entry)
    return [(key, _in_channel_order(key, groups[key])) for key in sorted(groups)]


def _in_channel_order(key: Key, entries: list[Entry]) -> tuple[Path, ...]:
    numbers = {entry.path: (channel_of(entry.stem) or ("", 0))[1] for entry in entries}
    paths = sorted(numbers, key=lambda path: (numbers[path], str(path)))
    for expected, path in enumerate(paths):
        if numbers[path] < expected:
            raise _twins("images", paths[expected - 1], path)
        if numbers[path] > expected:
            missing = f"{key[-1]}_{expected:04d}"
            raise DatasetError(
                f"'{path.name}' is channel {numbers[path]} of '{key[-1]}', but there is no '{missing}'",
                hint=f"add {missing}, or leave the image out with --skip '{key[-1]}_*'",
            )
    return tuple(paths)


def _own(entry: Entry) -> tuple[Key, ...]:
    return ((*entry.folder, entry.stem),)


def _channel(entry: Entry) -> tuple[Key, ...]:
    channel = channel_of(entry.stem)
    return ((*entry.folder, channel[0] if channel else entry.stem),)


def _worded(words: frozenset[str]) -> Keys:
    def keys(entry: Entry) -> tuple[Key, ...]:
        cores = [reading.core for reading in readings(entry.stem, words)]
        return tuple((*entry.folder, core) for core in (entry.stem, *cores))

    return keys


@dataclass(frozen=True)
class _Rule:
    images: Keys
    masks: Keys


_RULES = (
    _Rule(_own, _own),
    _Rule(_channel, _own),
    _Rule(_own, _worded(MASK_WORDS)),
    _Rule(_channel, _worded(MASK_WORDS)),
    _Rule(_worded(IMAGE_WORDS), _worded(MASK_WORDS)),
)


def _match(images: Sequence[Entry], masks: Sequence[Entry], rule: _Rule) -> dict[Path, Key]:
    """The image key that each mask finds; masks without one are left out."""
    known = {key for image in images for key in rule.images(image)}
    found = {mask.path: next((key for key in rule.masks(mask) if key in known), None) for mask in masks}
    return {path: key for path, key in found.items() if key is not None}


def _build(images: Sequence[Entry], masks: Sequence[Entry], rule: _Rule, matches: dict[Path, Key]) -> Pairing:
    mask_of: dict[Key, Path] = {}
    for path, key in matches.items():
        if key in mask_of:
            raise DatasetError(
                f"two masks for the image '{'/'.join(key)}': '{mask_of[key]}' and '{path}'",
                hint=f"keep one of them, or leave one out with --skip '{path.name}'",
            )
        mask_of[key] = path

    pairs: list[Pair] = []
    if rule.images is _channel:
        for key, paths in group_channels(images):
            pairs.append(Pair("/".join(key), key[:-1], paths, mask_of.get(key)))
    else:
        owner = _owners(images, rule, set(mask_of))
        for image in images:
            key = owner.get(image.path, (*image.folder, image.stem))
            name = "/".join(key) if key[-1] else "/".join(image.folder) or image.stem
            pairs.append(Pair(name, image.folder, (image.path,), mask_of[key] if image.path in owner else None))
    strays = tuple(mask.path for mask in masks if mask.path not in matches)
    return Pairing(tuple(pairs), strays, _describe(rule, masks, matches))


def _owners(images: Sequence[Entry], rule: _Rule, wanted: set[Key]) -> dict[Path, Key]:
    """Which image each wanted key means: the one that bears it with the fewest words taken off."""
    ranked: dict[Key, list[tuple[int, Path]]] = defaultdict(list)
    for image in images:
        for rank, key in enumerate(rule.images(image)):
            if key in wanted:
                ranked[key].append((min(rank, 1), image.path))
    owner: dict[Path, Key] = {}
    for key, bearers in ranked.items():
        bearers.sort()
        if len(bearers) > 1 and bearers[0][0] == bearers[1][0]:
            raise _twins("images", bearers[0][1], bearers[1][1])
        owner[bearers[0][1]] = key
    return owner


def _describe(rule: _Rule, masks: Sequence[Entry], matches: dict[Path, Key]) -> str:
    marks: Counter[str] = Counter()
    for mask in masks:
        if mask.path in matches:
            core = matches[mask.path][-1]
            marks.update(_mark_of(core, readings(mask.stem, MASK_WORDS)) if core != mask.stem else ())
    by = "paired by name"
    if rule.images is _channel:
        by += ", one file per channel"
    if marks:
        by += f", masks called {' or '.join(mark for mark, _ in marks.most_common(3))}"
    return by


def _mark_of(core: str, found: tuple[Reading, ...]) -> list[str]:
    return [reading.mark for reading in found if reading.core == core][:1]


def _pair_by_common_text(images: Sequence[Entry], masks: Sequence[Entry]) -> Pairing:
    """Pair "21_training" with "21_manual1": equal but for a text that all images and one that all masks share."""
    image_keys, image_text = _without_common_text(images)
    mask_keys, mask_text = _without_common_text(masks)
    mask_of = {key: mask.path for key, mask in zip(mask_keys, masks, strict=True)}
    agreed = mask_of.keys() & set(image_keys)
    fewer, more = sorted((len(images), len(masks)))
    # A key without any text would fit any one image to any one mask, whatever they are called.
    clear = len(mask_of) == len(masks) and len(set(image_keys)) == len(images) and all(any(key) for key in image_keys)
    if not (clear and len(agreed) == more) and (pairing := _pair_by_added_text(images, masks)):
        return pairing
    # Some may be missing on one side; names that agree by chance mostly leave some over on both.
    if not clear or len(agreed) < fewer or 2 * len(agreed) <= more:
        unpaired = tuple(Pair("/".join((*i.folder, i.stem)), i.folder, (i.path,), None) for i in images)
        return Pairing(unpaired, tuple(mask.path for mask in masks), "paired by name")
    pairs = tuple(
        Pair("/".join(part for part in key if part), image.folder, (image.path,), mask_of.get(key))
        for key, image in zip(image_keys, images, strict=True)
    )
    strays = tuple(path for key, path in mask_of.items() if key not in agreed)
    rule = f"paired by name, images called {image_text} and masks {mask_text}"
    return Pairing(pairs, strays, rule, common=(image_text, mask_text))


def _pair_by_added_text(images: Sequence[Entry], masks: Sequence[Entry]) -> Pairing | None:
    """Pair "a" with "a_cells", "a.tif" or "A": a text that most masks have before or behind the name of an image."""
    known: dict[Key, list[Key]] = defaultdict(list)
    for image in images:
        known[(*image.folder, plain_name(image.stem))] += _own(image)
    found: dict[tuple[str, str], dict[Path, Key]] = defaultdict(dict)
    for mask in masks:
        for before, core, after in _cuts(plain_name(mask.stem)):
            keys = known.get((*mask.folder, core), [])
            if len(keys) == 1:
                found[before, after][mask.path] = keys[0]
    if not found:
        return None
    text = max(found, key=lambda text: (len(found[text]), -len("".join(text))))
    matches = found[text]
    # One file says nothing about a text. One with a number may count objects: "a_1", "a_2".
    chance = any(text) and (len(matches) == 1 or any(map(str.isdigit, "".join(text))))
    # Numbers alone agree by chance where images are counted from 0 and masks from 1.
    numbers = not any(letter.isalpha() for key in matches.values() for letter in key[-1])
    if chance or 2 * len(matches) <= len(masks) or (numbers and len(matches) < min(len(images), len(masks))):
        return None
    called = "…".join(text)
    pairing = _build(images, masks, _RULES[0], matches)
    if not any(text):
        return replace(pairing, rule="paired by name, upper and lower case aside")
    return replace(pairing, rule=f"paired by name, masks called {called}", common=("…", called))


def _cuts(name: str) -> Iterator[tuple[str, str, str]]:
    """All ways to take a text off one end of a name that cut neither a word nor a number in two."""
    yield "", name, ""
    for at in range(1, len(name)):
        left, right = name[at - 1], name[at]
        if not (left.isalpha() and right.isalpha()) and not (left.isdigit() and right.isdigit()):
            yield "", name[:at], name[at:]
            yield name[:at], name[at:], ""


def _without_common_text(entries: Sequence[Entry]) -> tuple[list[Key], str]:
    """Keys without the text that all stems begin and end with. A number is never cut in two."""
    stems = [entry.stem for entry in entries]
    start = _shared_start(stems)
    if len(set(stems)) > 1:
        start = start.rstrip("0123456789")
    rest = [stem[len(start) :] for stem in stems]
    end = _shared_start([stem[::-1] for stem in rest])[::-1]
    if len(set(rest)) > 1:
        end = end.lstrip("0123456789")
    keys = [(*e.folder, stem[: len(stem) - len(end)]) for e, stem in zip(entries, rest, strict=True)]
    return keys, f"{start}…{end}"


def _shared_start(texts: list[str]) -> str:
    first, last = min(texts), max(texts)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[:length]


def _without_folders(entries: Sequence[Entry]) -> list[Entry]:
    """The same files without folders, or nothing where names alone are ambiguous."""
    if len({entry.stem for entry in entries}) != len(entries):
        return []
    return [replace(entry, folder=()) for entry in entries]


def _moved(found: Pair, folder: tuple[str, ...]) -> Pair:
    return replace(found, name="/".join((*folder, found.name)), folder=folder)


def _refuse_twins(entries: Sequence[Entry], what: str) -> None:
    seen: dict[Key, Path] = {}
    for entry in entries:
        key = (*entry.folder, entry.stem)
        if key in seen:
            raise _twins(what, seen[key], entry.path)
        seen[key] = entry.path


def _contradiction(image: Path, mask: Path) -> DatasetError:
    folders = f"'{image.parent.name}' and '{mask.parent.name}'"
    return DatasetError(
        f"'{image}' and '{mask}' have one name, but images and masks both have the folders {folders}",
        hint="move each mask to the folder of its image, or list the files in a CSV table with columns image and mask",
    )


def _twins(what: str, first: Path, second: Path) -> DatasetError:
    hint = f"keep one of them, or leave one out with --skip '{second.name}'"
    if first.name == second.name:
        hint = "rename one of them, or list the files in a CSV table with columns image and mask"
    elif first.suffix != second.suffix and what == "images":
        hint += f"; if one is the mask: --images '*{first.suffix}' --masks '*{second.suffix}'"
    return DatasetError(f"two {what} of one name: {listed([first, second])}", hint=hint)
