"""Find images and masks on disk, in the layouts that people use.

Looks at names only; no image is read. What a name means is in `names.py`, which mask belongs to which image in
`pairing.py`, and tables are read by `table.py`.
"""

import glob
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path

from uvea.datasets.case import Case, DataOptions, Dataset
from uvea.datasets.names import Role, is_system, listed, part_of, role_of
from uvea.datasets.pairing import Entry, Pairing, group_channels, pair, separate, suspected
from uvea.datasets.table import read_table
from uvea.errors import DatasetError
from uvea.images import CONVERT_DICOM, is_dicom, is_image, stem_of, suffix_of

NO_OPTIONS = DataOptions()
WAYS = (
    "put masks into masks/ beside images/ under the same names, or call them x_mask.tif beside x.tif, "
    "or name both with --images and --masks, or give a CSV table with columns image and mask"
)
"""Every layout, as a hint."""

ONE_PER_OBJECT = "one mask file per object: merge them into one mask whose pixels are the numbers of objects"
"""A layout that is not read, as a hint."""

MOST_COUNTED = 1000
"""Files that a message counts; a mistyped glob must not walk through a whole disk."""


def discover(source: Path, *, options: DataOptions = NO_OPTIONS) -> Dataset:
    """Find the cases of a dataset.

    The layouts, tried in this order: two globs in `options`; a CSV table; images/ and masks/ (or labels/, and the
    like; also imagesTr/ and labelsTr/); images and masks side by side, told apart by a word in the name. Folders
    called train, val and test above or below these fix the part of their cases; sub-folders of the images, such as
    one per patient, become groups.

    Args:
        source: a folder, or a CSV file.
        options: `images`, `masks` and `skip` are used here. A glob in `skip` leaves out the files, images or masks,
            whose name, name without suffix, path below `source` or name of a case it fits.

    Returns:
        Cases in name order. An image without a mask is a case without one; a mask without an image is a stray.

    Raises:
        DatasetError: nothing to train on was found, or what belongs together is not clear.
    """
    try:
        return _discover(Path(source), options)
    except OSError as error:
        raise _unreadable(source, error) from error


def find_images(
    sources: Sequence[str | Path], *, channels: int = 1, role: Role | None = "images"
) -> list[tuple[str, tuple[Path, ...]]]:
    """Find the images to predict, or the masks to score.

    Args:
        sources: files, folders (with all sub-folders) and globs.
        channels: files per image. With more than one, "case_0000" and its fellows become one image called "case",
            also where each is named by itself.
        role: what is wanted of a folder that holds images and masks: "images" refuses it, and a glob says that all
            files are meant; "masks" refuses images/ with masks/, and takes the masks that are beside their images;
            None takes all files.

    Returns:
        Name and files of each image, in the order of `sources`, then of names. A name is the path below the folder
        that was given, or below the fixed part of the glob, without suffix; it may contain "/".

    Raises:
        DatasetError: a source without images, or with images and masks; two images of one name; not `channels` files
            for an image.
    """
    found: dict[str, tuple[Path, ...]] = {}
    for source in _with_fellows(sources) if channels > 1 else sources:
        try:
            images = _images_of(source, channels, role)
        except OSError as error:
            raise _unreadable(str(source), error) from error
        for name, paths in images:
            if name in found and [p.resolve() for p in found[name]] != [p.resolve() for p in paths]:
                raise DatasetError(
                    f"two images would both give the mask '{name}': {listed([found[name][0], paths[0]])}",
                    hint="predict them one after the other with different --out folders",
                )
            found.setdefault(name, paths)
    if not found:
        raise DatasetError("no images were named", hint="name files, folders or globs, such as images/*.tif")
    return list(found.items())


def _discover(source: Path, options: DataOptions) -> Dataset:
    if (options.images is None) != (options.masks is None):
        given, absent = ("images", "masks") if options.masks is None else ("masks", "images")
        raise DatasetError(
            f"--{given} '{getattr(options, given)}' is given without --{absent}",
            hint=f"give both globs, for example --images 'raw/*.tif' --masks 'masks/*.tif'; --{absent} is missing",
        )
    if source.is_file():
        return _from_table(source, options)
    if not source.is_dir():
        raise DatasetError(f"there is no folder or table '{source}'", hint="check the path; relative ones start here")
    found, layout = _by_globs(source, options) if options.images else _by_folders(source, options)
    pairing = pair(found["images"], found["masks"])
    if not any(one.mask for one in pairing.pairs):
        raise _nothing_pairs(source, found)
    globbed = [path for pattern in (options.images, options.masks) if pattern for path in _glob(pattern, source)]
    skippable = (*globbed, *_image_files(source, ())) if options.skip else ()
    return Dataset(
        root=source,
        cases=_cases(pairing),
        layout=f"{layout}, {pairing.rule}",
        stray_masks=tuple(sorted(pairing.strays)),
        unused_skips=_unused(options.skip, skippable, source),
    )


@dataclass
class _Place:
    """The folders of one part: what lies directly under the source, or under train/."""

    images: list[Path] = field(default_factory=list)
    masks: list[Path] = field(default_factory=list)


_Found = dict[Role, list[Entry]]


def _from_table(source: Path, options: DataOptions) -> Dataset:
    if source.suffix.lower() != ".csv":
        folder = source.absolute().parent
        folder = source.parent.parent if role_of(folder.name) and _is_complete(folder.parent) else source.parent
        raise DatasetError(
            f"'{source}' is neither a folder nor a CSV table",
            hint=f"give the folder that holds the images and masks, such as '{folder}', or a .csv file",
        )
    if options.images:
        raise DatasetError(
            f"--images '{options.images}' cannot be used with the table '{source}'",
            hint="give the data folder instead of the table, or leave out --images and --masks",
        )
    root = source.parent
    every = read_table(source)
    cases = tuple(case for case in every if not any(_skipped(path, root, options.skip) for path in case.images))
    if not any(case.mask for case in cases):
        raise DatasetError(f"no row of '{source}' has a mask", hint="fill in the column mask")
    unused = _unused(options.skip, [path for case in every for path in case.images], root)
    return Dataset(root=root, cases=cases, layout=f"table {source.name}", unused_skips=unused)


def _by_globs(root: Path, options: DataOptions) -> tuple[_Found, str]:
    patterns: dict[Role, str] = {"images": options.images or "", "masks": options.masks or ""}
    masks = _glob_entries(root, "masks", patterns["masks"], options.skip)
    taken = {entry.path for entry in masks}
    every = _glob_entries(root, "images", patterns["images"], options.skip)
    images = [entry for entry in every if entry.path not in taken]
    if not images:
        raise DatasetError(
            f"--images '{patterns['images']}' and --masks '{patterns['masks']}' fit the same {_count(every)}",
            hint="give a glob that fits the images only",
        )
    if len(images) == len(masks) == 1:  # named one by one: they belong together whatever they are called
        masks = [replace(masks[0], folder=images[0].folder, stem=images[0].stem)]
    return {"images": images, "masks": masks}, f"{patterns['images']} and {patterns['masks']}"


def _glob_entries(root: Path, role: Role, pattern: str, skip: tuple[str, ...]) -> list[Entry]:
    base = root / pattern if (root / pattern).is_dir() else root / _fixed_part(pattern)
    files = [path for path in _glob(pattern, root) if is_image(path) and not _skipped(path, root, skip)]
    if not files:
        hint = _conversion(_glob(pattern, root)) or f"there: {_inventory(root)}"
        raise DatasetError(f"--{role} '{pattern}' fits no image in '{root}'", hint=hint)
    return [_entry(path, base) for path in files]


def _by_folders(root: Path, options: DataOptions) -> tuple[_Found, str]:
    everything = _image_files(root, options.skip)
    if not everything and options.skip and _image_files(root, ()):
        raise DatasetError(
            f"--skip {' --skip '.join(options.skip)} leaves out every image in '{root}'",
            hint="give a glob that fits fewer files",
        )
    if not everything:
        raise DatasetError(
            f"no images in '{root}': {_inventory(root)}",
            hint=_conversion(_walk(root))
            or "give a folder with images/ and masks/ in it, or a CSV table with columns image and mask",
        )
    places = _places(root)
    found: _Found = {"images": [], "masks": []}
    names: dict[Role, list[str]] = {"images": [], "masks": []}
    without_masks = []
    for leading, place in sorted(places.items()):
        images = _only(place.images, "images", options.skip)
        masks = _only(place.masks, "masks", options.skip)
        if masks and not images and not leading and any(path.parent == root for path in everything):
            found["images"] += [_entry(path, root) for path in everything if path.parent == root]
            names["images"].append(".")
        if images and not masks and part_of(leading) == "test":
            without_masks.append(images.relative_to(root).as_posix())
            continue
        chosen: dict[Role, Path | None] = {"images": images, "masks": masks}
        for role, folder in chosen.items():
            if folder:
                found[role] += [_entry(p, folder, leading=leading) for p in _image_files(folder, options.skip, root)]
                names[role].append(folder.relative_to(root).as_posix() + "/")
    if found["images"] and found["masks"]:
        layout = f"{' + '.join(names['images'])} and {' + '.join(names['masks'])}"
        if without_masks:
            layout += f" ({listed(without_masks)} without masks left out)"
        return found, layout
    images_beside, masks_beside = separate([_entry(path, root) for path in everything])
    if not masks_beside or not images_beside:
        raise _one_role_only(root, everything)
    return {"images": images_beside, "masks": masks_beside}, "images and masks side by side"


def _places(root: Path) -> dict[str, _Place]:
    """Folders of images and of masks, by the part they are under ("" for none)."""
    places: dict[str, _Place] = defaultdict(_Place)
    for folder in _subfolders(root):
        if role := role_of(folder.name):
            getattr(places[role[1]], role[0]).append(folder)
        elif part_of(folder.name):
            for inner in _subfolders(folder):
                if role := role_of(inner.name):
                    getattr(places[folder.name], role[0]).append(inner)
    return places


def _only(folders: list[Path], role: Role, skip: tuple[str, ...]) -> Path | None:
    """The one folder with images in it. "images" wins over other words for the same, such as "raw"."""
    filled = [folder for folder in folders if _image_files(folder, skip)]
    plain = [folder for folder in filled if role == "images" and folder.name.lower() in ("image", "images")]
    if len(plain) == 1:
        return plain[0]
    if len(filled) > 1:
        first, second = filled[0].name, filled[1].name
        raise DatasetError(
            f"two folders of {role} in '{filled[0].parent}': '{first}' and '{second}'",
            hint=f"say which: --images 'images/*' --masks '{second}/*'"
            if role == "masks"
            else f"say which: --images '{first}/*' --masks 'masks/*'",
        )
    return filled[0] if filled else None


def _cases(pairing: Pairing) -> tuple[Case, ...]:
    cases: dict[str, Case] = {}
    for found in pairing.pairs:
        part = part_of(found.folder[0]) if found.folder else None
        groups = found.folder[1:] if part else found.folder
        if found.name in cases:
            raise DatasetError(
                f"two images of one name: {listed([cases[found.name].images[0], found.images[0]])}",
                hint="rename one of them, or list the files in a CSV table with columns image and mask",
            )
        cases[found.name] = Case(
            name=found.name, images=found.images, mask=found.mask, group=groups[0] if groups else None, part=part
        )
    if len({case.group for case in cases.values()}) == 1:  # one folder around everything says nothing
        return tuple(Case(name=c.name, images=c.images, mask=c.mask, part=c.part) for _, c in sorted(cases.items()))
    return tuple(case for _, case in sorted(cases.items()))


def _with_fellows(sources: Sequence[str | Path]) -> list[str | Path | tuple[Path, ...]]:
    """The same sources, files of one folder together at the place of the first: a shell names channels one by one."""
    files: dict[Path, dict[Path, None]] = defaultdict(dict)
    for path in map(Path, sources):
        if path.is_file():
            files[path.parent][path] = None
    found: list[str | Path | tuple[Path, ...]] = []
    for source in sources:
        if not Path(source).is_file():
            found.append(source)
        elif fellows := files.pop(Path(source).parent, None):
            found.append(tuple(fellows))
    return found


def _images_of(
    source: str | Path | tuple[Path, ...], channels: int, role: Role | None
) -> list[tuple[str, tuple[Path, ...]]]:
    path = source[0] if isinstance(source, tuple) else Path(source)
    if path.is_file():
        files, base = list(source) if isinstance(source, tuple) else [path], path.parent
        if strange := [file for file in files if not is_image(file)]:
            raise DatasetError(
                f"'{strange[0]}' is not an image that uvea reads",
                hint=_conversion(strange) or "give PNG, TIFF, NIfTI or the like",
            )
    elif path.is_dir():
        files, base = _image_files(path, ()), path
        if role and (places := _places_below(path, files)):
            raise DatasetError(f"'{path}' holds images and masks", hint=_way_to(role, path, places))
    elif glob.has_magic(str(source)):
        base = Path(_fixed_part(str(source)))
        files = [match for match in _glob(str(source), Path()) if is_image(match)]
    else:
        raise DatasetError(f"there is no image or folder '{source}'", hint="check the path; relative ones start here")
    if not files:
        where = _inventory(path) if path.is_dir() else f"there: {_inventory(base)}"
        given = _walk(path) if path.is_dir() else _glob(str(source), Path())
        hint = _conversion(given) or f"give PNG, TIFF, NIfTI or the like; {where}"
        raise DatasetError(f"no images in '{source}'", hint=hint)
    entries = [Entry(file, file.relative_to(base).parent.parts, stem_of(file)) for file in files]
    if path.is_dir() and role:
        entries = _one_role(path, entries, role)
    if channels == 1:
        return sorted(("/".join((*entry.folder, entry.stem)), (entry.path,)) for entry in entries)
    grouped = group_channels(entries)
    for key, paths in grouped:
        if len(paths) != channels and not (len(paths) == 1 and stem_of(paths[0]) == key[-1]):
            raise DatasetError(
                f"'{'/'.join(key)}' has {len(paths)} channel file{'s' if len(paths) > 1 else ''}, "
                f"the model was trained on {channels}",
                hint=f"give all of them, called {key[-1]}_0000 to {key[-1]}_{channels - 1:04d}, or their folder",
            )
    return [("/".join(key), paths) for key, paths in grouped]


def _one_role(folder: Path, entries: list[Entry], role: Role) -> list[Entry]:
    """The images or the masks of a folder that holds both side by side; all files of any other."""
    images, masks = separate(entries)
    if role == "masks":
        return masks if images and masks else entries
    # Masks that fit no image are no images either. Where masks are wanted, all of them may be.
    strange = {entry.path for entry in (*masks, *suspected(entries))}
    wanted = [entry.path for entry in entries if entry.path not in strange]
    if not wanted or not strange:
        return entries
    others = sorted(strange)
    alone = _alone(folder, wanted, others)
    way = f"name the images alone, such as '{alone}'" if alone else "move the masks into a folder of their own"
    raise DatasetError(
        f"'{folder}' holds images and masks, such as '{_below(others[0], folder)}'",
        hint=f"{way}; or if all are images, '{Path(glob.escape(str(folder)), '*')}'",
    )


def _entry(path: Path, base: Path, *, leading: str = "") -> Entry:
    folders = [leading] if leading else []
    folders += [name for name in path.relative_to(base).parent.parts if not role_of(name)]
    return Entry(path, tuple(folders), stem_of(path))


def _image_files(folder: Path, skip: tuple[str, ...], root: Path | None = None) -> list[Path]:
    """All images below a folder, in name order; hidden files and folders and those in `skip` are left out."""
    return [path for path in _files(folder) if is_image(path) and not _skipped(path, root or folder, skip)]


def _files(folder: Path) -> list[Path]:
    return sorted(_walk(folder, onerror=_raise))


def _walk(folder: Path, *, onerror: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    """All files below a folder but hidden ones."""
    seen: set[str] = set()
    for here, folders, names in os.walk(folder, onerror=onerror, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_system(name))
        yield from (Path(here, name) for name in names if not is_system(name))


def _raise(error: OSError) -> None:
    raise error


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_system(path.name))


def _skipped(path: Path, root: Path, skip: tuple[str, ...]) -> bool:
    if not skip:
        return False
    names = {path.name, stem_of(path)}
    if path.is_relative_to(root):
        entry = _entry(path, root)
        names |= {path.relative_to(root).as_posix(), "/".join((*entry.folder, entry.stem))}
    return any(fnmatchcase(name, pattern) for pattern in skip for name in names)


def _unused(skip: tuple[str, ...], files: Iterable[Path], root: Path) -> tuple[str, ...]:
    """Globs that leave out none of these files."""
    unused = list(skip)
    for path in files:
        unused = [pattern for pattern in unused if not _skipped(path, root, (pattern,))]
    return tuple(unused)


def _glob(pattern: str, root: Path) -> list[Path]:
    """Files that fit a glob; a folder stands for all files below it."""
    found: set[Path] = set()
    for match in glob.glob(pattern, root_dir=root, recursive=True):
        path = root / match
        found.update(_files(path) if path.is_dir() and not pattern.endswith("**") else [path])
    return sorted(path for path in found if path.is_file())


def _fixed_part(pattern: str) -> str:
    """The folders of a glob before its first wildcard."""
    if not glob.has_magic(pattern):
        return str(Path(pattern).parent)
    fixed = []
    for piece in Path(pattern).parts[:-1]:
        if glob.has_magic(piece):
            break
        fixed.append(piece)
    return str(Path(*fixed)) if fixed else ""


def _inventory(folder: Path) -> str:
    """What is in a folder, in words: "12 files: 9 .csv, 3 .txt"."""
    files = list(islice(_walk(folder), MOST_COUNTED + 1))
    if not files:
        return "it is empty" if folder.is_dir() else f"there is no folder '{folder}'"
    kinds = Counter(suffix_of(path) or path.name for path in files).most_common(4)
    if len(files) > MOST_COUNTED:
        return f"more than {MOST_COUNTED:,} files, such as {', '.join(kind for kind, _ in kinds)}"
    return f"{_count(files)}: {', '.join(f'{n} {kind}' for kind, n in kinds)}"


def _conversion(files: Iterable[Path]) -> str:
    """What to do where there are DICOM files, as a hint; nothing where there are none among the first."""
    dicom = next(filter(is_dicom, islice(files, MOST_COUNTED)), None)
    return CONVERT_DICOM.format(dicom.parent) if dicom else ""


def _count(files: Iterable[object]) -> str:
    number = len(list(files))
    return f"{number} file" if number == 1 else f"{number} files"


_Roles = dict[Role, list[Path]]


def _places_below(root: Path, files: Iterable[Path]) -> dict[Path, _Roles]:
    """The files of images and of masks, by the folder in which images/ and masks/ lie, or images beside masks/."""
    here: dict[Path, list[Path]] = defaultdict(list)
    for path in files:
        here[path.parent].append(path)
    places: dict[Path, _Roles] = defaultdict(lambda: {"images": [], "masks": []})
    for folder, some in here.items():
        parts = folder.relative_to(root).parts
        for depth, name in enumerate(parts):
            if role := role_of(name):
                places[root.joinpath(*parts[:depth])][role[0]] += some
    for folder, roles in places.items():
        beside = here.get(folder, [])
        if not roles["images"] and set(map(stem_of, beside)) & set(map(stem_of, roles["masks"])):
            roles["images"] = beside
    return {folder: roles for folder, roles in sorted(places.items()) if roles["images"] and roles["masks"]}


def _way_to(role: Role, root: Path, places: dict[Path, _Roles]) -> str:
    """How to name the images, or the masks, of all these places."""
    wanted = [path for roles in places.values() for path in roles[role]]
    others = [path for roles in places.values() for kind, some in roles.items() if kind != role for path in some]
    folder = Path(os.path.commonpath([path.parent for path in wanted]))
    if not any(path.is_relative_to(folder) for path in others):
        return f"give the folder of the {role}, '{folder}'"
    alone = _alone(root, wanted, others)
    return f"name the {role} alone, such as '{alone}'" if alone else f"move the {role} into a folder of their own"


def _alone(root: Path, wanted: Sequence[Path], others: Sequence[Path]) -> Path | None:
    """A glob of all these files without the others, else the first of their folders; None where others are in these."""
    if pattern := _glob_of(root, wanted, others):
        return Path(glob.escape(str(root)), pattern)
    mixed = {folder for path in others for folder in path.parents}
    return wanted[0].parent if mixed.isdisjoint(path.parent for path in wanted) else None


def _glob_of(root: Path, wanted: Sequence[Path], others: Iterable[Path]) -> str | None:
    """A glob below `root` that fits these files and none of the others; None if there is no simple one."""
    parts = [path.relative_to(root).parts for path in wanted]
    *above, last = [glob.escape(names[0]) if len(set(names)) == 1 else "*" for names in zip(*parts, strict=False)]
    ends = _ends_of(wanted) if len(set(map(len, parts))) == 1 and last == "*" else [""]
    patterns = ["/".join((*above, last + end)) for end in ends]
    return next((pattern for pattern in patterns if set(_glob(pattern, root)).isdisjoint(others)), None)


def _ends_of(paths: Sequence[Path]) -> list[str]:
    """Globs of how all these names end: their last word and suffix, or the suffix, or any number and the suffix."""
    suffixes = {path.name.removeprefix(stem_of(path)) for path in paths}
    suffix = glob.escape(suffixes.pop()) if len(suffixes) == 1 else ""
    words = {"".join(re.findall(r"[_\-. ][^_\-. ]*\Z", stem_of(path))) for path in paths}
    if suffix and len(words) == 1:
        return [glob.escape(words.pop()) + suffix]
    if not suffix:
        return ["", ".*"]
    return [suffix, "_[0-9]*" + suffix] if all(re.match("_[0-9]", word) for word in words) else [suffix]


def _one_role_only(root: Path, everything: list[Path]) -> DatasetError:
    """Why there is nothing to train on, though there are images, or masks."""
    places = _places_below(root, everything)
    if len(places) > 1:
        return _several_places(root, places)
    masks = [path for path in everything if any(_is_role(part, "masks") for part in path.relative_to(root).parts[:-1])]
    lacking = "images" if len(masks) == len(everything) else "masks"
    if places:
        hint = f"give the dataset in it, '{next(iter(places))}'"
    elif role_of(root.name) and _is_complete(root.absolute().parent):
        hint = f"give the folder above, '{root.parent}'"
    else:
        hint = _conversion(_walk(root)) or WAYS
    examples = listed([path.relative_to(root).as_posix() for path in everything])
    return DatasetError(f"{_count(everything)} in '{root}' but no {lacking} were found: {examples}", hint=hint)


def _several_places(root: Path, places: dict[Path, _Roles]) -> DatasetError:
    entries: _Found = {"images": [], "masks": []}
    for roles in places.values():
        for role, paths in roles.items():
            entries[role] += [_entry(path, root) for path in paths]
    images, masks = ([entry.path for entry in entries[role]] for role in ("images", "masks"))
    globs = _glob_of(root, images, masks), _glob_of(root, masks, images)
    if _one_per_object(entries):
        hint = ONE_PER_OBJECT
    elif all(globs):
        hint = f"take them all with --images '{globs[0]}' --masks '{globs[1]}', or give one, '{next(iter(places))}'"
    else:
        hint = f"give one of the datasets in it, such as '{next(iter(places))}'"
    names = listed([place.relative_to(root).as_posix() for place in places])
    return DatasetError(f"'{root}' is no dataset, but has {len(places)} in it: {names}", hint=hint)


def _is_role(folder: str, role: Role) -> bool:
    found = role_of(folder)
    return found is not None and found[0] == role


def _is_complete(folder: Path) -> bool:
    return any(place.images and place.masks for place in _places(folder).values())


def _one_per_object(found: _Found) -> bool:
    """Whether images have folders of their own, and several masks in them, with other names: "id0/id0", "id0/m1"."""
    folders = {entry.folder for entry in found["images"]}
    alone = len(folders) == len(found["images"]) < len(found["masks"])
    return alone and all(entry.folder in folders for entry in found["masks"])


def _nothing_pairs(root: Path, found: _Found) -> DatasetError:
    image, mask = (found[role][0].path for role in ("images", "masks"))
    hint = "give mask and image the same name, or list the files in a CSV table with columns image and mask"
    return DatasetError(
        f"no mask in '{root}' has the name of an image: {_count(found['images'])} such as '{_below(image, root)}', "
        f"{_count(found['masks'])} such as '{_below(mask, root)}'",
        hint=ONE_PER_OBJECT if _one_per_object(found) else hint,
    )


def _unreadable(source: str | Path, error: OSError) -> DatasetError:
    where = str(error.filename or source)
    where = where if len(where) < 200 else f"{where[:200]}…"
    return DatasetError(f"cannot read '{where}': {error.strerror}", hint="check the path and its rights")


def _below(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
