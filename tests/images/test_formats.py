"""One contract, run for every format. A new format adds one line to CASES."""

import gzip
import zlib

import numpy as np
import pytest

from uvea.errors import ImageError, OutputError, ShapeError
from uvea.images import FORMATS, Image, format_for, is_image, mask_suffix, read, stem_of, suffix_of, write

INTEGERS = ["uint8", "uint16", "int16", "int32"]
VOLUME = dict(dtypes=[*INTEGERS, "int64", "float32", "float64"], spatial=["yx", "zyx"], channels=[1, 2, 3, 5])
PLACED = dict(VOLUME, keeps=["spacing", "unit", "origin", "direction"])
STACK = dict(VOLUME, dtypes=[*INTEGERS, "float32", "float64", "bool"], spatial=["yx", "zyx", "tyx"])
CASES = {
    ".png": dict(dtypes=["bool", "uint8", "uint16"], spatial=["yx"], channels=[1, 2, 3, 4], keeps=[]),
    ".jpg": dict(dtypes=["uint8"], spatial=["yx"], channels=[1, 3], keeps=[], lossy=True),
    ".jpeg": dict(dtypes=["uint8"], spatial=["yx"], channels=[1, 3], keeps=[], lossy=True),
    ".bmp": dict(dtypes=["bool", "uint8"], spatial=["yx"], channels=[1, 3], keeps=[]),
    ".tif": dict(STACK, keeps=["spacing", "unit"]),
    ".tiff": dict(STACK, keeps=["spacing", "unit"]),
    ".ome.tif": dict(STACK, keeps=["spacing", "unit"]),
    ".ome.tiff": dict(STACK, keeps=["spacing", "unit"]),
    ".nii": PLACED,
    ".nii.gz": PLACED,
    ".nrrd": PLACED,
    ".nhdr": PLACED,
    ".mha": PLACED,
    ".mhd": PLACED,
    ".npy": dict(VOLUME, keeps=[]),
}
SIZES = {"yx": (9, 11), "zyx": (6, 9, 11), "tyx": (6, 9, 11)}


def make(dtype="uint8", *, axes="yx", channels=1, unit="um", seed=0):
    """A random image with an oblique geometry, unlike pixel sizes and rows that differ from columns."""
    rng = np.random.default_rng(seed)
    dims = len(axes)
    array = rng.integers(0, 2 if dtype == "bool" else 100, (channels, *SIZES[axes])).astype(dtype)
    if array.dtype.kind == "f":
        array += rng.random(array.shape).astype(dtype)
    rotation = np.linalg.qr(rng.normal(size=(dims, dims)))[0]
    return Image(
        array=array,
        axes=axes,
        spacing=(1.0, 0.3, 0.123456) if axes == "tyx" else (2.5, 0.3, 0.123456)[-dims:],
        unit=unit,
        origin=(-101.3, 20.2, 3.7)[-dims:],
        direction=tuple(map(tuple, rotation.tolist())),
    )


def cut_in_half(path):
    """Leave the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def assert_one_line_each(error):
    """A problem and a hint, each on one line."""
    assert "\n" not in error.problem and "\n" not in error.hint
    assert len(error.problem) < 600


@pytest.mark.parametrize(
    ("suffix", "axes"),
    [(suffix, axes) for suffix, case in CASES.items() if 5 in case["channels"] for axes in case["spatial"]],
)
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_images_of_one_column_read_back_unchanged(suffix, axes, channels, tmp_path):
    """A last axis of one pixel is no channel."""
    array = np.arange(channels * 42, dtype=np.uint8).reshape(channels, *(6, 7, 1)[-len(axes) :], -1)[..., 0]
    write(tmp_path / f"a{suffix}", Image(array=array, axes=axes))
    assert np.array_equal(read(tmp_path / f"a{suffix}", axes=axes if channels == 1 else None).array, array)


@pytest.mark.parametrize(
    ("suffix", "axes", "channels", "dtype"),
    [
        (suffix, axes, channels, dtype)
        for suffix, case in CASES.items()
        for axes in case["spatial"]
        for channels in case["channels"]
        for dtype in (case["dtypes"] if channels == 1 else {"uint8", "float32"} & set(case["dtypes"]))
    ],
)
def test_what_is_written_reads_back_unchanged(suffix, axes, channels, dtype, tmp_path):
    """Values, type, axes, and as much of the geometry as the format has room for, survive the file."""
    case = CASES[suffix]
    image = make(dtype, axes=axes, channels=channels)
    write(tmp_path / f"image{suffix}", image)
    again = read(tmp_path / f"image{suffix}")
    assert (again.array.shape, again.axes, again.array.dtype) == (image.array.shape, axes, np.dtype(dtype))
    if not case.get("lossy"):
        np.testing.assert_array_equal(again.array, image.array)
    for fact in ("spacing", "origin", "direction"):
        if fact in case["keeps"]:
            np.testing.assert_allclose(getattr(again, fact), getattr(image, fact), rtol=1e-6, atol=1e-6)
    assert again.unit == ("um" if "unit" in case["keeps"] else "px")


@pytest.mark.parametrize("unit", ["mm", "um", "px"])
@pytest.mark.parametrize("suffix", [suffix for suffix, case in CASES.items() if "unit" in case["keeps"]])
def test_units_survive(suffix, unit, tmp_path):
    """Also px, which most formats have no word for."""
    image = make("uint8", axes="zyx", unit=unit)
    write(tmp_path / f"image{suffix}", image)
    again = read(tmp_path / f"image{suffix}")
    assert again.unit == unit
    np.testing.assert_allclose(again.spacing, image.spacing, rtol=1e-6)


def test_every_format_is_under_contract():
    """A format without a line in CASES would be untested."""
    assert {suffix for family in FORMATS for suffix in family.suffixes} == set(CASES)


@pytest.mark.parametrize("suffix", CASES)
def test_a_file_cut_in_half_is_refused(suffix, tmp_path, capfd):
    """Truncated copies are common; none may read as a darker or shorter image, nor print from below."""
    case = CASES[suffix]
    image = make("uint8", axes=case["spatial"][-1] if "tyx" not in case["spatial"] else "zyx")
    path = tmp_path / f"image{suffix}"
    write(path, image)
    cut_in_half(path)
    with pytest.raises(ImageError, match="image") as caught:
        read(path)
    assert_one_line_each(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("part", [0.02, 0.1, 0.3, 0.7, 0.9, 0.99])
@pytest.mark.parametrize("suffix", [suffix for suffix in CASES if suffix not in (".jpeg", ".tiff", ".ome.tiff")])
def test_a_file_cut_anywhere_is_refused(suffix, part, tmp_path, capfd):
    """Wherever the copy stopped: in the header, in the pixels, near the end."""
    case = CASES[suffix]
    axes = "zyx" if "zyx" in case["spatial"] else "yx"
    path = tmp_path / f"image{suffix}"
    write(path, make("uint8", axes=axes))
    if suffix == ".nhdr" and part > 0.9:
        pytest.skip("the last line of this header says nothing that cannot be left out")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(ImageError) as caught:
        read(path)
    assert_one_line_each(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", CASES)
def test_rubbish_is_refused(suffix, tmp_path, capfd):
    """Text, zeros and noise under the name of an image are one line of error, not a traceback or a crash."""
    noise = np.random.default_rng(0).bytes(5000)
    for content in (b"hello\n" * 50, bytes(3000), noise, b"x"):
        path = tmp_path / f"image{suffix}"
        path.write_bytes(content)
        with pytest.raises(ImageError, match="cannot be read|is empty|no pixels|more than") as caught:
            read(path)
        assert_one_line_each(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", CASES)
def test_an_empty_file_says_so(suffix, tmp_path):
    """Zero bytes: an interrupted copy."""
    (tmp_path / f"image{suffix}").touch()
    with pytest.raises(ImageError, match=r"is empty\n.*copy the file again"):
        read(tmp_path / f"image{suffix}")


@pytest.mark.parametrize("suffix", CASES)
def test_damaged_pixels_never_escape_as_another_error(suffix, tmp_path, capfd):
    """Flipped bytes read as some image or as one ImageError; formats with a checksum must notice."""
    path = tmp_path / f"image{suffix}"
    axes = "zyx" if "zyx" in CASES[suffix]["spatial"] else "yx"
    image = make("uint8", axes=axes)
    write(path, image)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(15):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 4):
            damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            again = read(path)
            assert suffix not in (".png", ".nii.gz") or np.array_equal(again.array, image.array)
        except (ImageError, ShapeError) as error:
            assert_one_line_each(error)
    assert capfd.readouterr() == ("", "")


WRONG = [("a.png", ".tif"), ("a.ome.tif", ".png"), ("a.nii.gz", ".nii"), ("a.nii", ".nii.gz"), ("a.npy", ".mha")]


@pytest.mark.parametrize(("name", "real"), WRONG)
def test_a_wrong_suffix_is_named_with_the_right_one(name, real, tmp_path):
    """The way out is to rename the file."""
    write(tmp_path / f"b{real}", make())
    (tmp_path / f"b{real}").rename(tmp_path / name)
    with pytest.raises(ImageError, match=rf"starts like .*\n.*end in \{real}"):
        read(tmp_path / name)


def test_an_unknown_file_is_refused_with_the_list_of_known_ones(tmp_path):
    """The reader learns which formats would work."""
    with pytest.raises(ImageError, match=r"scan\.foo.*\n.*\.nii\.gz.*\.png"):
        format_for(tmp_path / "scan.foo")


def test_missing_files_and_folders_are_named(tmp_path):
    """Neither is an image."""
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageError, match="does not exist"):
        read(tmp_path / "none.png")
    with pytest.raises(ImageError, match="is a folder"):
        read(tmp_path / "folder.png")


@pytest.mark.parametrize("suffix", CASES)
def test_nothing_is_overwritten_unless_asked(suffix, tmp_path):
    """The old file stays as it was, and no scratch file stays at all."""
    path = tmp_path / "new" / f"image{suffix}"
    write(path, make(seed=1))
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(OutputError, match=r"exists already\n.*--overwrite"):
        write(path, make(seed=2))
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before
    write(path, make(seed=2), overwrite=True)
    assert {file for file in path.parent.iterdir()} == set(before)
    assert path.read_bytes() != before[path] or len(before) > 1


@pytest.mark.parametrize("suffix", CASES)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(suffix, tmp_path, monkeypatch):
    """Also when the encoder dies half-way."""
    path = tmp_path / f"image{suffix}"
    write(path, make())
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}

    def die(path, image):
        path.write_bytes(b"half")
        raise ValueError("disk on fire")

    monkeypatch.setattr(format_for(path), "write", die, raising=False)
    with pytest.raises(ImageError, match="disk on fire"):
        write(path, make(seed=1), overwrite=True)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_probabilities_are_refused_where_they_would_be_rounded(suffix, tmp_path):
    """The hint names a suffix that holds them."""
    with pytest.raises(ImageError, match=rf"image\{suffix} cannot hold 1 channels of float32.*\n.*\.tif"):
        write(tmp_path / f"image{suffix}", make("float32"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".png", ".ome.tif"])
def test_labels_in_a_wide_type_are_narrowed_when_they_fit(suffix, tmp_path):
    """A mask of int64 with few labels is a mask; too many labels are refused, not wrapped."""
    labels = np.array([[[0, 300], [2, 1]]], dtype=np.int64)
    write(tmp_path / f"mask{suffix}", Image(array=labels, axes="yx"))
    np.testing.assert_array_equal(read(tmp_path / f"mask{suffix}").array, labels)
    with pytest.raises(ImageError, match=r"\n.*\.tif"):
        write(tmp_path / f"other{suffix}", Image(array=labels * 2**40, axes="yx"))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".npy"])
def test_a_time_series_is_held_by_the_formats_without_time(suffix, tmp_path):
    """A volume read with --axes tyx can be written back; it reads the same with the same option."""
    image = make(axes="tyx")
    write(tmp_path / f"image{suffix}", image)
    again = read(tmp_path / f"image{suffix}", axes="tyx")
    assert again.axes == "tyx"
    np.testing.assert_array_equal(again.array, image.array)


@pytest.mark.parametrize("suffix", [".tif", ".nii.gz", ".nrrd", ".mha", ".npy"])
def test_axes_overrule_the_file(suffix, tmp_path):
    """What is stored as slices is read as channels, or turned around, when the user says so."""
    image = make(axes="zyx")
    write(tmp_path / f"image{suffix}", image)
    channels = read(tmp_path / f"image{suffix}", axes="cyx")
    np.testing.assert_array_equal(channels.array, image.array[0])
    turned = read(tmp_path / f"image{suffix}", axes="ZXY")
    np.testing.assert_array_equal(turned.array[0], image.array[0].swapaxes(1, 2))
    if "spacing" in CASES[suffix]["keeps"]:
        np.testing.assert_allclose(channels.spacing, image.spacing[1:], rtol=1e-6)
        assert turned.spacing[0] == pytest.approx(2.5)
        assert turned.axes == "zyx"


@pytest.mark.parametrize("suffix", CASES)
def test_axes_that_do_not_fit_are_refused_with_the_file(suffix, tmp_path):
    """The message names file, letters and size."""
    write(tmp_path / f"image{suffix}", make())
    with pytest.raises(ShapeError, match=rf"image\{suffix}.*'tzcyxy'"):
        read(tmp_path / f"image{suffix}", axes="tzcyxy")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".nii.gz", ".npy"])
def test_axes_may_name_slices_or_channels_that_a_file_lacks(suffix, tmp_path):
    """One gray image among colour ones, or one slice among volumes, needs no other option."""
    image = make()
    write(tmp_path / f"image{suffix}", image)
    for axes in ("zyx", "yxc", "czyx"):
        np.testing.assert_array_equal(read(tmp_path / f"image{suffix}", axes=axes).array, image.array)


def png_header(width, height, bits, colour):
    """A PNG that declares a size and holds a few bytes."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, colour, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def nifti_header(*shape):
    """The first bytes of a NIfTI file of uint8."""
    import nibabel

    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.uint8)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    return header.binaryblock + bytes(100)


def tiff_header(width, height, *, tile=None):
    """A classic TIFF of one page with ten bytes of pixels."""
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 277: 1}
    tags |= {322: tile, 323: tile, 324: 8, 325: 10} if tile else {273: 8, 278: height, 279: 10}
    entries = b"".join(
        tag.to_bytes(2, "little") + b"\4\0\1\0\0\0" + value.to_bytes(4, "little") for tag, value in sorted(tags.items())
    )
    return b"II*\0" + (18).to_bytes(4, "little") + bytes(10) + len(tags).to_bytes(2, "little") + entries + bytes(4)


META = b"ObjectType = Image\nNDims = 3\nDimSize = 30000 30000 30000\nElementType = MET_UCHAR\n"
NRRD = b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 30000 30000 30000\n"
NPY_FIELDS = b"{'descr': '|u1', 'fortran_order': False, 'shape': (30000, 30000, 30000), }"
BOMBS = {
    "gray.png": png_header(60000, 60000, 8, 0),
    "deep.png": png_header(2**31 - 1, 2**31 - 1, 16, 6),
    "one.bmp": b"BM" + bytes(8) + b"\x36\0\0\0\x28\0\0\0" + b"\x60\xea\0\0" * 2 + b"\1\0\x18\0" + bytes(24),
    "huge.nii": nifti_header(30000, 30000, 30000),
    "huge.nii.gz": gzip.compress(nifti_header(30000, 30000, 3000)),
    "strip.tif": tiff_header(60000, 60000),
    "tile.tif": tiff_header(16, 16, tile=2**24),
    "many.tif": tiff_header(2**31, 2**31),
    "raw.mha": META + b"ElementDataFile = LOCAL\n" + bytes(100),
    "packed.mha": META + b"CompressedData = True\nElementDataFile = LOCAL\n" + zlib.compress(bytes(100)),
    "raw.nrrd": NRRD + b"encoding: raw\n\n" + bytes(100),
    "packed.nrrd": NRRD + b"encoding: gzip\n\n" + gzip.compress(bytes(100)),
    "bzip.nrrd": NRRD.replace(b"30000", b"90000") + b"encoding: bzip2\n\n" + bytes(100),
    "array.npy": b"\x93NUMPY\1\0\x76\0" + NPY_FIELDS.ljust(117) + b"\n" + bytes(100),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_declares_a_huge_image_is_refused_before_decoding(name, tmp_path):
    """The message names the declared size; nothing of that size is allocated."""
    import tracemalloc

    (tmp_path / name).write_bytes(BOMBS[name])
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=r"declares .*×.*\n") as caught:
            read(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    finally:
        tracemalloc.stop()
    assert_one_line_each(caught.value)


def test_names_say_format_stem_and_mask(tmp_path):
    """Double suffixes are one; case does not matter; labels never go into JPEG."""
    names = {
        "a.v2.NII.GZ": (".nii.gz", "a.v2", ".nii.gz"),
        "b.ome.tif": (".ome.tif", "b", ".ome.tif"),
        "c_0000.tif": (".tif", "c_0000", ".tif"),
        "d.JPG": (".jpg", "d", ".png"),
        "e.bmp": (".bmp", "e", ".png"),
    }
    for name, (suffix, stem, mask) in names.items():
        path = tmp_path / name
        assert (suffix_of(path), stem_of(path), mask_suffix(path), is_image(path)) == (suffix, stem, mask, True)
    for name in ("notes.txt", "a.gz", ".hidden.png", "png", ".nii.gz"):
        assert not is_image(tmp_path / name)


@pytest.mark.parametrize("suffix", CASES)
def test_names_in_capitals_with_spaces_and_umlauts_work(suffix, tmp_path):
    """As cameras and people name their files."""
    path = tmp_path / "Größe 1" / f"Zelle 5 µm{suffix.upper()}"
    image = make()
    write(path, image)
    again = read(path)
    assert again.array.shape == image.array.shape
    assert CASES[suffix].get("lossy") or np.array_equal(again.array, image.array)
    assert stem_of(path) == "Zelle 5 µm"


def test_many_threads_may_read_at_once(tmp_path):
    """A survey reads on all cores."""
    from concurrent.futures import ThreadPoolExecutor

    image = make()
    paths = [
        tmp_path / f"{number}{suffix}" for number in range(3) for suffix in CASES if not CASES[suffix].get("lossy")
    ]
    for path in paths:
        write(path, image)
    with ThreadPoolExecutor(8) as pool:
        for again in pool.map(read, paths * 3):
            np.testing.assert_array_equal(again.array, image.array)


def test_a_file_that_may_not_be_opened_is_named(tmp_path, monkeypatch):
    """Permissions are the user's to fix, so no traceback."""
    path = tmp_path / "a.png"
    write(path, make())

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(ImageError, match=r"a\.png cannot be opened: .*Permission denied\n.*permissions"):
        read(path)
