"""What other programs write as TIFF: axes, pixel sizes, colours, and files that cannot be one image."""

import numpy as np
import pytest
import tifffile

from uvea.errors import ImageError, ShapeError
from uvea.images import Image, read, write

STACK = np.arange(4 * 5 * 6 * 7, dtype=np.uint16).reshape(4, 5, 6, 7)
COLOUR = np.arange(32 * 48 * 3, dtype=np.uint8).reshape(32, 48, 3)


def test_an_imagej_hyperstack_gives_axes_spacing_and_unit(tmp_path):
    """Resolution is pixels per unit, spacing is in units; channels come first here."""
    path = tmp_path / "a.tif"
    metadata = {"axes": "ZCYX", "unit": "micron", "spacing": 2.5}
    tifffile.imwrite(path, STACK, imagej=True, resolution=(4, 5), metadata=metadata)
    image = read(path)
    np.testing.assert_array_equal(image.array, STACK.swapaxes(0, 1))
    assert (image.axes, image.unit) == ("zyx", "um")
    assert image.spacing == pytest.approx((2.5, 0.2, 0.25))


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("um", ((2.5, 0.2, 0.25), "um")),
        ("\\u00B5m", ((2.5, 0.2, 0.25), "um")),
        ("mm", ((2.5, 0.2, 0.25), "mm")),
        ("nm", ((0.0025, 0.0002, 0.00025), "um")),
        ("cm", ((25.0, 2.0, 2.5), "mm")),
        ("pixel", ((2.5, 0.2, 0.25), "px")),
        ("furlong", ((2.5, 0.2, 0.25), "px")),
    ],
)
def test_imagej_units_become_ours(unit, expected, tmp_path):
    """Micrometres or millimetres; an unknown unit keeps the proportions only."""
    path = tmp_path / "a.tif"
    metadata = {"axes": "ZYX", "unit": unit, "spacing": 2.5}
    tifffile.imwrite(path, STACK[0], imagej=True, resolution=(4, 5), metadata=metadata)
    image = read(path)
    assert image.unit == expected[1]
    assert image.spacing == pytest.approx(expected[0])


def test_ome_axes_and_units_per_axis(tmp_path):
    """Each axis may have its own unit; the result has that of x."""
    path = tmp_path / "a.ome.tif"
    sizes = {"PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.25, "PhysicalSizeZ": 0.001}
    metadata = {"axes": "CZYX", **sizes, "PhysicalSizeZUnit": "mm"}
    tifffile.imwrite(path, STACK, metadata=metadata)
    image = read(path)
    np.testing.assert_array_equal(image.array, STACK)
    assert image.unit == "um"
    assert image.spacing == pytest.approx((1.0, 0.25, 0.25))


def test_a_distance_of_slices_that_no_file_says_is_not_made_up(tmp_path):
    """Proportions in the plane are kept, in pixels; a mask does not say a size either."""
    sizes = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 200, "PhysicalSizeYUnit": "nm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK[0], metadata={"axes": "ZYX", **sizes})
    image = read(tmp_path / "a.ome.tif")
    assert (image.spacing, image.unit, image.depth_unknown) == (pytest.approx((1.0, 2.0, 1.0)), "px", True)
    write(tmp_path / "mask.ome.tif", image)
    assert read(tmp_path / "mask.ome.tif").unit == "px"
    tifffile.imwrite(tmp_path / "b.tif", STACK[0], resolution=(20000, 20000), resolutionunit=3, metadata=None)
    assert (read(tmp_path / "b.tif").unit, read(tmp_path / "b.tif").depth_unknown) == ("px", True)
    tifffile.imwrite(tmp_path / "c.ome.tif", STACK[0, 0], metadata={"axes": "YX", **sizes})
    assert (read(tmp_path / "c.ome.tif").unit, read(tmp_path / "c.ome.tif").depth_unknown) == ("um", False)
    for axes in ("tyx", "cyx"):  # frames and channels are no distance apart
        image = read(tmp_path / "b.tif", axes=axes)
        assert (image.spacing[-2:], image.unit, image.depth_unknown) == (pytest.approx((0.5, 0.5)), "um", False)


def test_imagej_leaves_out_a_distance_of_one_unit(tmp_path):
    """One centimetre, where it counts in centimetres."""
    metadata = {"axes": "ZYX", "unit": "cm"}
    tifffile.imwrite(tmp_path / "a.tif", STACK[0], imagej=True, resolution=(4, 5), metadata=metadata)
    image = read(tmp_path / "a.tif")
    assert (image.spacing, image.unit, image.depth_unknown) == (pytest.approx((10.0, 2.0, 2.5)), "mm", False)


def test_pages_without_metadata_are_slices(tmp_path):
    """The commonest stack of all: pages, and nothing said about them."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK[0], metadata=None)
    image = read(path)
    assert image.axes == "zyx"
    np.testing.assert_array_equal(image.array[0], STACK[0])
    tifffile.imwrite(path, STACK[0])  # tifffile's own description, with a shape but no axes
    assert read(path).axes == "zyx"
    assert read(path, axes="cyx").array.shape == (5, 6, 7)


def test_frames_are_a_time_series_and_not_a_volume(tmp_path):
    """Axes tyx, unless the user says that the frames are slices."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK[0], imagej=True, metadata={"axes": "TYX"})
    assert read(path).axes == "tyx"
    assert read(path, axes="zyx").axes == "zyx"


def test_time_and_slices_are_refused_with_the_file(tmp_path):
    """Four dimensions are more than a network here takes."""
    path = tmp_path / "film.tif"
    tifffile.imwrite(path, STACK, imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(ShapeError, match=r"film\.tif: .*time \(4\) and slices \(5\)\n.*one file per time point"):
        read(path)


def test_axes_that_nobody_knows_must_be_named(tmp_path):
    """Two axes without a meaning cannot both be slices."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK)
    with pytest.raises(ShapeError, match=r"does not say what its 4 axes \(4×5×6×7\) are\n.*--axes czyx"):
        read(path)
    np.testing.assert_array_equal(read(path, axes="czyx").array, STACK)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "deflate", "lzw", "packbits", "zstd", "lzma"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_storage_does_not_matter(planar, compression, tile, byteorder, tmp_path):
    """Planar or interleaved, compressed, tiled, either byte order: the same native array, channel first."""
    path = tmp_path / "a.tif"
    array = COLOUR.astype(np.uint16) * 200
    stored = array if planar == "contig" else np.moveaxis(array, -1, 0)
    options = dict(planarconfig=planar, compression=compression, tile=tile, byteorder=byteorder, metadata=None)
    tifffile.imwrite(path, stored, photometric="rgb", **options)
    image = read(path)
    np.testing.assert_array_equal(image.array, np.moveaxis(array, -1, 0))
    assert image.array.dtype == np.uint16
    assert image.array.dtype.isnative
    assert image.array.flags.writeable


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint32", "int32", "float16", "float32", "float64"])
def test_every_type_is_kept(dtype, tmp_path):
    """8 to 64 bit, also big-endian."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, COLOUR[..., 0].astype(dtype), byteorder=">", metadata=None)
    image = read(path)
    assert image.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image.array[0], COLOUR[..., 0].astype(dtype))


def test_complex_values_are_refused(tmp_path):
    """Half of them would be lost."""
    tifffile.imwrite(tmp_path / "a.tif", COLOUR[..., 0].astype(np.complex64))
    with pytest.raises(ImageError, match=r"complex64.*\n.*magnitude"):
        read(tmp_path / "a.tif")


def test_opaque_alpha_is_dropped_and_real_alpha_kept(tmp_path):
    """Screenshots have an alpha that says nothing."""
    path = tmp_path / "a.tif"
    alpha = np.dstack([COLOUR, np.full(COLOUR.shape[:2], 255, np.uint8)])
    tifffile.imwrite(path, alpha, photometric="rgb", extrasamples=["unassalpha"], metadata=None)
    np.testing.assert_array_equal(read(path).array, np.moveaxis(COLOUR, -1, 0))
    alpha[0, 0, 3] = 0
    tifffile.imwrite(path, alpha, photometric="rgb", extrasamples=["unassalpha"], metadata=None)
    assert read(path).channels == 4


def test_a_palette_becomes_colours_or_gray(tmp_path):
    """A gray palette gives one channel with the gray values."""
    path = tmp_path / "a.tif"
    index = np.array([[0, 1], [2, 1]], np.uint8)
    colours = np.zeros((3, 256), np.uint16)
    colours[:, 1], colours[:, 2] = (255 << 8, 0, 7 << 8), (1 << 8, 2 << 8, 3 << 8)
    tifffile.imwrite(path, index, photometric="palette", colormap=colours, metadata=None)
    assert read(path).array[:, 0, 1].tolist() == [255, 0, 7]
    assert read(path).array[:, 1, 0].tolist() == [1, 2, 3]
    colours[:] = np.arange(256)[::-1] * 257
    tifffile.imwrite(path, index, photometric="palette", colormap=colours, metadata=None)
    assert read(path).array.tolist() == [[[255, 254], [253, 254]]]


def test_white_as_zero_is_turned_around(tmp_path):
    """As every viewer shows it."""
    tifffile.imwrite(tmp_path / "a.tif", COLOUR[..., 0], photometric="miniswhite", metadata=None)
    np.testing.assert_array_equal(read(tmp_path / "a.tif").array[0], 255 - COLOUR[..., 0])


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("a.tif", (9, 11), {}),
        ("a.tif", (3, 9, 11), {"compression": "zlib"}),
        ("a.tif", (3, 16, 16), {"tile": (16, 16), "metadata": None}),
        ("a.tif", (9, 11), {"software": "mine"}),
        ("a.ome.tif", (3, 9, 11), {"metadata": {"axes": "ZYX"}}),
        ("a.ome.tif", (9, 11), {"software": "mine"}),
    ],
)
def test_masks_that_numpy_users_save_are_not_turned_around(name, shape, options, tmp_path):
    """tifffile stores True as 1, and says that 0 is white."""
    mask = np.indices(shape).sum(axis=0) % 5 == 0
    tifffile.imwrite(tmp_path / name, mask, **options)
    image = read(tmp_path / name)
    np.testing.assert_array_equal(image.array[0], mask)
    write(tmp_path / f"again_{name}", image)
    np.testing.assert_array_equal(read(tmp_path / f"again_{name}").array[0], mask)


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [
        ((20000, 10000), 3, ((1.0, 0.5), "um")),  # pixels per cm
        ((50000, 50000), 2, ((0.508, 0.508), "um")),
        ((25, 50), 3, ((0.2, 0.4), "mm")),
        ((72, 72), 2, None),
        ((300, 300), 2, None),
        ((118.11, 118.11), 3, None),  # 300 dpi again
        ((1, 1), 3, None),
        ((50000, 50000), 1, None),
    ],
)
def test_resolution_tags_count_unless_they_are_for_printing(resolution, unit, expected, tmp_path):
    """Image editors fill in 72 or 300 dpi; that is no size of a cell."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, COLOUR[..., 0], resolution=resolution, resolutionunit=unit, metadata=None)
    image = read(path)
    expected_spacing, expected_unit = expected or ((1.0, 1.0), "px")
    assert image.unit == expected_unit
    assert image.spacing == pytest.approx(expected_spacing, rel=1e-4)


def test_several_images_in_one_file_are_named(tmp_path):
    """Which of them is meant cannot be guessed."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(STACK[0], metadata=None)
        writer.write(COLOUR, photometric="rgb", metadata=None)
    with pytest.raises(ImageError, match=r"holds 2 images: .*5×6×7.*32×48×3.*\n.*file of its own"):
        read(path)


def test_a_declared_page_that_is_not_there_is_missed(tmp_path):
    """An aborted recording, or one file of a set: zeros in place of pixels would be trained on."""
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, STACK[0], metadata={"axes": "ZYX"})
    path.write_bytes(
        path.read_bytes().replace(b'SizeZ="5"', b'SizeZ="7"').replace(b'PlaneCount="5"', b'PlaneCount="7"')
    )
    with pytest.raises(ImageError, match=r"declares 7 pages, and page 6 is not there"):
        read(path)


@pytest.mark.parametrize("ome", [True, False])
def test_pyramid_levels_are_left_aside(ome, tmp_path):
    """Only the full resolution is the image."""
    path = tmp_path / ("a.ome.tif" if ome else "a.tif")
    with tifffile.TiffWriter(path, ome=ome) as writer:
        writer.write(COLOUR, photometric="rgb", subifds=2, metadata={"axes": "YXS"} if ome else None, tile=(16, 16))
        writer.write(COLOUR[::2, ::2], photometric="rgb", subfiletype=1, metadata=None, tile=(16, 16))
        writer.write(COLOUR[::4, ::4], photometric="rgb", subfiletype=1, metadata=None, tile=(16, 16))
    np.testing.assert_array_equal(read(path).array, np.moveaxis(COLOUR, -1, 0))


def test_a_stack_cut_between_pages_is_not_a_shorter_stack(tmp_path):
    """Without a look at the chain of pages this would read as three good slices of five."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK[0].repeat(40, axis=1), metadata=None, compression="deflate")
    with tifffile.TiffFile(path) as file:
        end = file.pages[3].offset
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(ImageError, match="page 4 is at byte"):
        read(path)


def test_pages_that_follow_in_a_circle_are_refused(tmp_path):
    """A reader that follows them would never end."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, COLOUR[..., 0], metadata=None)
    content = bytearray(path.read_bytes())
    first = int.from_bytes(content[4:8], "little")
    entries = int.from_bytes(content[first : first + 2], "little")
    content[first + 2 + 12 * entries : first + 6 + 12 * entries] = content[4:8]
    path.write_bytes(content)
    with pytest.raises(ImageError, match="in a circle"):
        read(path)


def test_other_programs_read_what_is_written(tmp_path):
    """ImageJ's description, and colours that viewers show as such."""
    image = Image(array=STACK, axes="zyx", spacing=(2.0, 0.5, 0.25), unit="um")
    write(tmp_path / "a.tif", image)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_imagej
        assert file.series[0].axes == "ZCYX"
        assert (file.imagej_metadata["spacing"], file.imagej_metadata["unit"]) == (2.0, "um")
    write(tmp_path / "b.tif", Image(array=np.moveaxis(COLOUR, -1, 0), axes="yx"))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), COLOUR)
