"""Find which prediction belongs to which reference, by names or from a table.

Looks at names only. What does not fit together becomes a failure of one case, so that all others can be scored.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote

from uvea.datasets.discover import find_images
from uvea.datasets.names import is_system, listed, part_of, role_of
from uvea.datasets.pairing import Entry, pair, separate
from uvea.datasets.table import read_rows
from uvea.errors import DatasetError, UveaError
from uvea.images import is_image, stem_of
from uvea.workflows.events import Listener, Message

COLUMNS = ("case", "prediction", "reference", "group", "image", "probabilities", "within")
"""Columns of a table of pairs."""

Files = dict[str, list[Path]]
"""Files by the name of their case; more than one where a name is there twice."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One case to score."""

    case: str
    reference: Path
    prediction: Path | None
    """None scores as an empty mask."""

    group: str | None = None
    probabilities: Path | None = None
    within: Path | None = None
    image: Path | None = None
    """For the report."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a case cannot be scored."""

    case: str
    kind: type[UveaError]
    problem: str
    hint: str

    @property
    def error(self) -> UveaError:
        """As an exception."""
        return self.kind(self.problem, hint=self.hint)


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What may lie beside predictions and references, and what may be lacking."""

    within: Path | None = None
    probabilities: Path | None = None
    images: Path | None = None
    groups: Path | Mapping[str, str] | None = None
    allow_missing: bool = False
    allow_extra: bool = False


@dataclass(frozen=True, kw_only=True)
class Matched:
    """All cases, in name order."""

    pairs: tuple[Pair, ...]
    failures: tuple[Failure, ...] = ()
    said: tuple[str, ...] = ()
    """Warnings."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Cases without a prediction."""
        return tuple(one.case for one in self.pairs if one.prediction is None)


def match(predictions: Path, reference: Path | None, *, beside: Beside, tell: Listener) -> Matched:
    """Give every reference its prediction and what else belongs to it.

    Args:
        predictions: a folder of masks, one mask, or a table of pairs.
        reference: a folder of masks, one mask, or a dataset whose masks are taken; None with a table.
        beside: further files; see `uvea.evaluate`.
        tell: told by which rule names were paired.

    Returns:
        Pairs and failures.

    Raises:
        DatasetError: where nothing fits together, or a table or an option is wrong.
    """
    if reference is None:
        if predictions.suffix.lower() != ".csv":
            raise DatasetError(
                f"there is no reference for {predictions}",
                hint="name the masks that are right, or give a CSV table with columns prediction and reference",
            )
        found = _from_table(predictions, beside)
    else:
        found = _from_folders(predictions, reference, beside, tell)
    groups = _groups(beside.groups, found.pairs) if beside.groups is not None else _folders_of(found.pairs)
    pairs = tuple(replace(one, group=groups.get(one.case, one.group)) for one in found.pairs)
    warnings = (f"references without prediction score as empty: {listed(found.missing)}",) if found.missing else ()
    return replace(found, pairs=pairs, said=(*found.said, *warnings))


def _from_folders(predictions: Path, reference: Path, beside: Beside, tell: Listener) -> Matched:
    masks = _mask_folder(reference)
    if predictions.exists() and masks.exists() and predictions.samefile(masks):
        raise DatasetError(f"{predictions} would be scored against itself", hint="name the predictions first")
    if predictions.suffix.lower() == ".csv" and predictions.is_file():
        raise DatasetError(
            f"the table {predictions} names its references, {reference} cannot be given with it",
            hint=f"uvea evaluate {quote(str(predictions))}; or a folder of masks in place of the table",
        )
    wanted, found = _files_in(masks), _files_in(_mask_folder(predictions))
    for name in [f"{name}_probabilities" for name in found]:  # written by `predict --probabilities`
        if name not in wanted:
            found.pop(name, None)
    named, said = _named_alike(wanted, found, predictions, tell)

    failures: list[Failure] = []
    pairs: list[Pair] = []
    within = None if beside.within is None else _files_in(beside.within)
    probabilities = None if beside.probabilities is None else _files_in(beside.probabilities)
    if beside.probabilities is not None and beside.probabilities.is_file() and len(wanted) > 1:
        raise DatasetError(
            f"{beside.probabilities} is one probability map, there are {len(wanted)} references",
            hint="give the folder of the probability maps, one for every reference",
        )
    for case, paths in wanted.items():
        guesses = found.get(named.get(case, ""), [])
        try:
            pairs.append(
                Pair(
                    case=case,
                    reference=_only(paths, "references of one name"),
                    prediction=_prediction(guesses, case, predictions, beside.allow_missing),
                    within=_region(case, within, beside.within),
                    probabilities=_probabilities((case, named.get(case, case)), probabilities, beside.probabilities),
                )
            )
        except DatasetError as error:
            failures.append(_failure(case, error))
    extra = [name for name in found if name not in named.values()]
    if extra and beside.allow_extra:
        said = (*said, f"predictions without reference are not scored: {listed(extra)}")
    elif extra:
        failures += [
            Failure(
                case=name,
                kind=DatasetError,
                problem=f"{found[name][0]} has no reference of its name in {masks}",
                hint="give it the name of its reference, or leave such predictions out with --allow-extra",
            )
            for name in extra
        ]
    images = _images_for(pairs, beside.images, reference, masks)
    return Matched(
        pairs=tuple(replace(_one_path(one), image=images.get(one.case)) for one in pairs),
        failures=tuple(failures),
        said=said,
    )


def _from_table(table: Path, beside: Beside) -> Matched:
    for name, option in (("within", beside.within), ("probabilities", beside.probabilities), ("images", beside.images)):
        if option is not None:
            raise DatasetError(
                f"--{name} {option} cannot be given with the table {table}",
                hint=f"add a column {name.removesuffix('s') if name == 'images' else name} to the table",
            )
    rows = read_rows(table, known=COLUMNS, required="prediction")
    if not rows:
        raise DatasetError(f"{table} has no rows", hint="add one line per pair: prediction,reference")
    names = _case_names([row for _, row in rows])
    failures, pairs = [], []
    places: dict[str, list[int]] = defaultdict(list)
    for (number, _), case in zip(rows, names, strict=True):
        places[case].append(number)
    for (number, row), case in zip(rows, names, strict=True):
        if number != places[case][0]:
            continue  # the failure of the first row is that of all
        try:
            if len(places[case]) > 1:
                raise DatasetError(
                    f"rows {', '.join(map(str, places[case]))} of {table} are all called '{case}'",
                    hint="keep one of them, or give each a name of its own in a column case",
                )
            reference = _named_file(table, number, row["reference"])
            if reference is None:
                raise DatasetError(f"row {number} of {table} has no reference", hint="fill in the column reference")
            prediction = _named_file(table, number, row["prediction"])
            if prediction is not None and prediction.samefile(reference):
                raise DatasetError(
                    f"row {number} of {table} would score {prediction} against itself",
                    hint="name the prediction in the column prediction",
                )
            if prediction is None and not beside.allow_missing:
                raise DatasetError(
                    f"row {number} of {table} has no prediction",
                    hint="fill it in, or count it as an empty mask with --allow-missing",
                )
            pairs.append(
                _one_path(
                    Pair(
                        case=case,
                        reference=reference,
                        prediction=prediction,
                        group=row["group"] or None,
                        image=_named_file(table, number, row["image"]),
                        probabilities=_named_file(table, number, row["probabilities"]),
                        within=_named_file(table, number, row["within"]),
                    )
                )
            )
        except DatasetError as error:
            failures.append(_failure(case, error))
    return Matched(pairs=tuple(pairs), failures=tuple(failures))


def _one_path(one: Pair) -> Pair:
    """The pair with one path for one file, where the probabilities are the prediction itself."""
    if one.prediction is None or one.probabilities is None or not one.prediction.samefile(one.probabilities):
        return one
    return replace(one, prediction=one.probabilities)


def _failure(case: str, error: UveaError) -> Failure:
    return Failure(case=case, kind=type(error), problem=error.problem, hint=error.hint)


def _case_names(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The column case, or the name of the reference; its path where two references share a name."""
    paths = [Path(row["reference"] or row["prediction"]) for row in rows]
    short = [row["case"] or stem_of(path) for row, path in zip(rows, paths, strict=True)]
    if len(set(short)) == len(set(zip(short, paths, strict=True))):
        return short
    return [row["case"] or (path.parent / stem_of(path)).as_posix() for row, path in zip(rows, paths, strict=True)]


def _named_file(table: Path, number: int, field: str) -> Path | None:
    if not field:
        return None
    path = table.parent / field
    try:
        there = path.is_file()
    except (OSError, ValueError):  # no name that a file could have
        there = False
    if not there:
        raise DatasetError(
            f"row {number} of {table}: there is no file '{field}'",
            hint=f"give paths relative to the table's folder, '{table.parent}'",
        )
    return path


def _mask_folder(source: Path) -> Path:
    """The masks of a dataset with images/ and masks/; any other path as it is."""
    masks, images = (_with_role(source, role) for role in ("masks", "images"))
    return masks[0] if len(masks) == 1 and images else source


def _with_role(folder: Path, role: str) -> list[Path]:
    if not folder.is_dir():
        return []
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    return [path for path in inner if (found := role_of(path.name)) and found[0] == role]


def _files_in(source: Path) -> Files:
    """Masks by name; both files where a name is there twice."""
    try:
        return {name: list(paths) for name, paths in find_images([source], role="masks")}
    except DatasetError:
        if not source.is_dir():
            raise
        found = _every_file(source)
        if all(len(paths) == 1 for paths in found.values()):
            raise
        return found


def _every_file(folder: Path) -> Files:
    """As `find_images`, which refuses names that are there twice."""
    paths = sorted(path for path in folder.rglob("*") if is_image(path) and path.is_file())
    parts = {path: path.relative_to(folder).parts for path in paths}
    entries = [Entry(path, parts[path][:-1], stem_of(path)) for path in paths if not any(map(is_system, parts[path]))]
    images, masks = separate(entries)
    found: Files = defaultdict(list)
    for entry in masks if images and masks else entries:
        found["/".join((*entry.folder, entry.stem))].append(entry.path)
    return dict(sorted(found.items()))


def _named_alike(
    wanted: Files, found: Files, predictions: Path, tell: Listener
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The name of the prediction by the name of the reference, for those that have one; and warnings."""
    if len(wanted) == len(found) == 1 and predictions.is_file():
        return dict(zip(wanted, found, strict=True)), ()
    if wanted.keys() & found.keys():
        return {name: name for name in wanted if name in found}, ()
    # x.png may be the prediction for x_mask.png: the rules for images and their masks apply.
    pairing = pair(_entries(found), _entries(wanted))
    names = {paths[0]: name for name, paths in (*wanted.items(), *found.items())}
    matched = {names[one.mask]: names[one.images[0]] for one in pairing.pairs if one.mask is not None}
    if not matched:
        raise DatasetError(
            f"no prediction in {predictions} has the name of a reference: {listed(found)}, but {listed(wanted)}",
            hint="give both the same names; suffixes may differ",
        )
    if pairing.common is not None:
        # Masks of other images may be numbered likewise.
        ours, theirs = pairing.common
        return matched, (f"predictions called {ours} are scored against references called {theirs}: names differ",)
    tell(Message(f"predictions and references: {pairing.rule}"))
    return matched, ()


def _entries(files: Files) -> list[Entry]:
    return [Entry(paths[0], tuple(name.split("/")[:-1]), name.split("/")[-1]) for name, paths in files.items()]


def _only(paths: Sequence[Path], what: str) -> Path:
    if len(paths) > 1:
        raise DatasetError(f"there are {len(paths)} {what}: {listed(paths)}", hint="keep one of them")
    return paths[0]


def _prediction(found: Sequence[Path], case: str, predictions: Path, allow_missing: bool) -> Path | None:
    if found:
        return _only(found, "predictions for one reference")
    if allow_missing:
        return None
    raise DatasetError(
        f"there is no prediction for '{case}' in {predictions}",
        hint="add it, or count missing ones as empty masks with --allow-missing",
    )


def _region(case: str, found: Files | None, source: Path | None) -> Path | None:
    if found is None or source is None:
        return None
    if source.is_file():
        return source
    if case not in found:
        raise DatasetError(
            f"there is no region for '{case}' in {source}",
            hint="give every reference a region of its name, or one file for all",
        )
    return _only(found[case], "regions of one name")


def _probabilities(names: Sequence[str], found: Files | None, source: Path | None) -> Path | None:
    if found is None:
        return None
    if source is not None and source.is_file():
        return source
    for name in (f"{names[-1]}_probabilities", f"{names[0]}_probabilities", *names):
        if name in found:
            return _only(found[name], "probability maps of one name")
    raise DatasetError(
        f"there are no probabilities for '{names[0]}' in {source}",
        hint="add them under the name of the mask, also with _probabilities behind it; or leave --probabilities out",
    )


def _images_for(pairs: Sequence[Pair], images: Path | None, reference: Path, masks: Path) -> dict[str, Path]:
    """Images for the report: those that were named, or those of the dataset that the references are from."""
    sources = [images] if images is not None else _image_folders(reference, masks)
    for source in sources:
        found = _image_files(source, masks)
        entries = [Entry(path, tuple(name.split("/")[:-1]), name.split("/")[-1]) for name, path in found.items()]
        wanted = _entries({one.case: [one.reference] for one in pairs})
        try:
            paired = pair(entries, wanted).pairs if entries and wanted else ()
        except DatasetError:
            paired = ()
        cases = {one.reference: one.case for one in pairs}
        matched = {cases[one.mask]: one.images[0] for one in paired if one.mask is not None and len(one.images) == 1}
        if matched:
            return matched
    if images is not None and pairs:
        raise DatasetError(
            f"no image in {images} has the name of a reference, such as '{pairs[0].case}'",
            hint="give the folder of the images that the masks belong to, or leave --images out",
        )
    return {}


def _image_folders(reference: Path, masks: Path) -> list[Path]:
    if not masks.is_dir():
        return []
    beside = _with_role(masks.absolute().parent, "images") if role_of(masks.absolute().name) else []
    return [*(beside if masks == reference else _with_role(reference, "images")), masks]


def _image_files(source: Path, masks: Path) -> dict[str, Path]:
    if source.is_file():
        return {stem_of(source): source}
    found = {name: paths[0] for name, paths in _every_file(source).items()} if source != masks else {}
    if found or not source.is_dir():
        return found
    # Images and masks side by side: the images are what the references are not.
    every = [
        Entry(path, path.relative_to(source).parent.parts, stem_of(path))
        for path in sorted(source.rglob("*"))
        if is_image(path) and path.is_file()
    ]
    images, labels = separate(every)
    return {"/".join((*one.folder, one.stem)): one.path for one in images} if labels else {}


def _folders_of(pairs: Sequence[Pair]) -> dict[str, str]:
    """The first sub-folder of each case that is not train, val or test; nothing where there is only one."""
    groups: dict[str, str] = {}
    for one in pairs:
        folders = [folder for folder in one.case.split("/")[:-1] if part_of(folder) is None]
        if folders and one.group is None:
            groups[one.case] = folders[0]
    return groups if len(set(groups.values())) > 1 else {}


def _groups(source: Path | Mapping[str, str], pairs: Sequence[Pair]) -> dict[str, str]:
    """Groups by case, for every case."""
    if isinstance(source, Mapping):
        where, given = "the mapping of groups", {str(case): str(group) for case, group in source.items()}
    else:
        where = str(source)
        given = {}
        for number, row in read_rows(source, known=("case", "group"), required="case"):
            case = row["case"]
            if not case or not row["group"]:
                raise DatasetError(
                    f"row {number} of {source} lacks a case or a group", hint="fill in both, one line per case"
                )
            if given.setdefault(case, row["group"]) != row["group"]:
                raise DatasetError(
                    f"{source} has '{case}' in two groups: {given[case]} and {row['group']}", hint="keep one of them"
                )
    found: dict[str, str] = {}
    short = {one.case: {one.reference.name, stem_of(one.reference), one.case.split("/")[-1]} for one in pairs}
    times = Counter(name for names in short.values() for name in names)
    for one in pairs:
        # A short name that two cases share, such as that of a file in two folders, says nothing about either.
        names = (one.case, *(name for name in sorted(short[one.case]) if times[name] == 1))
        group = next((given[name] for name in names if name in given), None)
        if group is not None:
            found[one.case] = group
    if absent := [one.case for one in pairs if one.case not in found]:
        raise DatasetError(
            f"{where} has no group for {len(absent)} of {len(pairs)} cases: {listed(absent)}",
            hint="add a line case,group for each; a case that belongs to no other has a group of its own",
        )
    return found
