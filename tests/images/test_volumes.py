"""Where volumes lie in space: NIfTI, NRRD and MetaImage must agree, and nothing may be lost on the way."""

from dataclasses import replace

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uvea.errors import ImageError
from uvea.images import Image, read, write
from uvea.images.image import shear_degrees

VOLUME = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)  # (x, y, z), as nibabel has it


def rotation(seed):
    """A random rotation matrix."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]


def affine(matrix, offset=(-91.5, 126.25, -72.125)):
    """A 4×4 matrix from its parts."""
    whole = np.eye(4)
    whole[:3, :3], whole[:3, 3] = matrix, offset
    return whole


SIZES = np.diag([0.7, 0.9, 3.3])
SHEAR = np.array([[1, 0.1, 0], [0, 1, 0.05], [0, 0, 1]])
AFFINES = {
    "plain": affine(SIZES),
    "flipped": affine(SIZES * [-1, 1, 1]),
    "swapped": affine(SIZES[[2, 0, 1]]),
    "oblique": affine(rotation(3) @ SIZES),
    "mirrored": affine(-rotation(4) @ SIZES),
    "sheared": affine(rotation(5) @ SHEAR @ SIZES),
}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("name", AFFINES)
def test_the_affine_survives_reading_and_writing_a_mask(name, suffix, tmp_path):
    """To 1e-6, in nibabel's own words, for any orientation."""
    file = nibabel.Nifti1Image(VOLUME, AFFINES[name])
    nibabel.save(file, tmp_path / f"image{suffix}")
    image = read(tmp_path / f"image{suffix}")
    np.testing.assert_array_equal(image.array, VOLUME.T[None])
    write(tmp_path / f"mask{suffix}", image.with_array((image.array > 50).astype(np.uint8)))
    mask = nibabel.load(tmp_path / f"mask{suffix}")
    before = nibabel.load(tmp_path / f"image{suffix}").affine
    np.testing.assert_allclose(mask.affine, before, rtol=1e-6, atol=1e-6)
    assert mask.shape == VOLUME.shape
    assert mask.get_data_dtype() == np.uint8


@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (4, 1), (0, 1), (0, 0)])
def test_a_mask_lies_on_its_image_for_whoever_prefers_the_other_form(codes, tmp_path):
    """sform and qform may differ, as after a registration; ITK looks at their codes, and without any at neither."""
    file = nibabel.Nifti1Image(VOLUME, None)
    file.set_sform(AFFINES["plain"], codes[0])
    file.set_qform(AFFINES["oblique"], codes[1])
    nibabel.save(file, tmp_path / "image.nii.gz")
    image = read(tmp_path / "image.nii.gz")
    write(tmp_path / "mask.nii.gz", image.with_array((image.array > 50).astype(np.uint8)))
    both = [SimpleITK.ReadImage(str(tmp_path / f"{name}.nii.gz")) for name in ("image", "mask")]
    for fact in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(both[1], fact)() == getattr(both[0], fact)()
    headers = [nibabel.load(tmp_path / f"{name}.nii.gz").header for name in ("image", "mask")]
    for form in ("get_sform", "get_qform"):
        np.testing.assert_array_equal(getattr(headers[1], form)(), getattr(headers[0], form)())
    assert (int(headers[1]["sform_code"]), int(headers[1]["qform_code"])) == codes


@pytest.mark.parametrize("unit", ["meter", "mm", "micron", "unknown"])
@pytest.mark.parametrize("version", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("pixels", [VOLUME, VOLUME[..., 0], VOLUME[..., :1], VOLUME[..., None]])
def test_a_mask_has_the_words_of_its_image(pixels, version, unit, tmp_path):
    """Version, units of space and time, axes and codes; so every program finds it where the image is."""
    file = version(pixels, AFFINES["oblique"] / [[1], [1], [1], [3]] * 3)
    file.header.set_xyzt_units(unit, "msec")
    nibabel.save(file, tmp_path / "image.nii")
    image = read(tmp_path / "image.nii")
    write(tmp_path / "mask.nii", image.with_array((image.array > 50).astype(np.uint8)))
    before, mask = (nibabel.load(tmp_path / name) for name in ("image.nii", "mask.nii"))
    assert mask.shape == before.shape[:3]
    np.testing.assert_array_equal(mask.affine, before.affine)
    for name in ("sizeof_hdr", "xyzt_units", "qform_code", "sform_code"):
        assert mask.header[name] == before.header[name]
    again = read(tmp_path / "mask.nii")
    assert (again.spacing, again.unit, again.plane) == (image.spacing, image.unit, image.plane)


@pytest.mark.parametrize("unit", ["meter", "mm"])
@pytest.mark.parametrize("version", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_a_mask_of_two_dimensions_is_as_thick_as_its_image(version, unit, tmp_path):
    """An image of rows and columns does not know how thick it is; a mask that was moved is as thick as a pixel."""
    file = version(VOLUME[..., 0], np.diag([-0.5, -0.5, 3, 1]))
    file.set_sform(file.affine, 2)
    file.header.set_xyzt_units(unit)
    nibabel.save(file, tmp_path / "image.nii")
    image = read(tmp_path / "image.nii")
    assert image.plane is None
    write(tmp_path / "mask.nii", image)
    write(tmp_path / "moved.nii", replace(image, origin=(1.0, 2.0)))
    before, mask, moved = (nibabel.load(tmp_path / f"{name}.nii") for name in ("image", "mask", "moved"))
    np.testing.assert_array_equal(mask.affine, before.affine)
    for name in ("sizeof_hdr", "xyzt_units", "qform_code", "sform_code"):
        assert mask.header[name] == before.header[name]
    np.testing.assert_allclose(moved.affine[:3, 3], (-2, -1, 0))


def test_the_shear_of_a_tilted_gantry_is_told_in_degrees(tmp_path):
    """2.5 mm to the back for each 5 mm up: arctan 0.5. Rotations have none."""
    tilted = affine([[0.5, 0, 0], [0, 0.5, 2.5], [0, 0, 5]])
    for name, matrix, degrees in (("a", tilted, 26.565), ("b", AFFINES["oblique"], 0.0)):
        nibabel.save(nibabel.Nifti1Image(VOLUME, matrix), tmp_path / f"{name}.nii")
        assert shear_degrees(read(tmp_path / f"{name}.nii").direction) == pytest.approx(degrees, abs=1e-3)


def test_an_image_that_was_moved_is_written_where_it_is(tmp_path):
    """The header of its file no longer holds."""
    nibabel.save(nibabel.Nifti1Image(VOLUME, AFFINES["oblique"]), tmp_path / "a.nii")
    moved = replace(read(tmp_path / "a.nii"), origin=(7.0, 8.0, 9.0))
    write(tmp_path / "b.nii", moved)
    np.testing.assert_allclose(nibabel.load(tmp_path / "b.nii").affine[:3, 3], (-9, -8, 7), rtol=1e-6)


def test_spacing_follows_array_axes(tmp_path):
    """(x, y, z) in the file is (z, y, x) here."""
    nibabel.save(nibabel.Nifti1Image(VOLUME, AFFINES["oblique"]), tmp_path / "a.nii")
    assert read(tmp_path / "a.nii").spacing == pytest.approx((3.3, 0.9, 0.7))


@pytest.mark.parametrize("name", ["plain", "flipped", "swapped", "oblique", "mirrored"])
def test_a_volume_has_the_same_geometry_in_every_format(name, tmp_path):
    """Converted by SimpleITK, not by us: NIfTI says right and front where the others say left and back."""
    file = nibabel.Nifti1Image(VOLUME, AFFINES[name])
    file.header.set_xyzt_units("mm")
    nibabel.save(file, tmp_path / "a.nii.gz")
    first = read(tmp_path / "a.nii.gz")
    converted = SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))
    assert first.origin == pytest.approx(converted.GetOrigin()[::-1], abs=1e-4)
    for suffix in (".nrrd", ".nhdr", ".mha", ".mhd"):
        SimpleITK.WriteImage(converted, str(tmp_path / f"a{suffix}"))
        other = read(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(other.array, first.array)
        assert (other.axes, other.unit) == (first.axes, first.unit)
        np.testing.assert_allclose(other.spacing, first.spacing, rtol=1e-5)
        np.testing.assert_allclose(other.origin, first.origin, atol=1e-4)
        np.testing.assert_allclose(other.direction, first.direction, atol=1e-5)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_itk_finds_what_we_write_where_we_say(suffix, tmp_path):
    """A point computed from our geometry is the point that ITK computes."""
    columns = rotation(7)
    direction = tuple(map(tuple, columns.tolist()))
    image = Image(
        array=VOLUME.T[None],
        axes="zyx",
        spacing=(3.0, 0.5, 0.25),
        unit="mm",
        origin=(5.0, 6.0, 7.0),
        direction=direction,
    )
    write(tmp_path / f"a{suffix}", image)
    itk = SimpleITK.ReadImage(str(tmp_path / f"a{suffix}"))
    index = np.array([2, 3, 1])  # z, y, x
    point = np.array(image.origin) + columns @ (index * image.spacing)
    found = itk.TransformIndexToPhysicalPoint(index[::-1].tolist())[::-1]
    np.testing.assert_allclose(found, point, atol=1e-4)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000),
    spacing=st.tuples(*[st.floats(1e-3, 1e3)] * 3),
    origin=st.tuples(*[st.floats(-1e4, 1e4)] * 3),
    suffix=st.sampled_from([".nii", ".nrrd", ".mha"]),
)
def test_any_geometry_survives(seed, spacing, origin, suffix, tmp_path):
    """To the precision of the file: NIfTI has 32-bit floats."""
    direction = tuple(map(tuple, rotation(seed).tolist()))
    image = Image(array=VOLUME.T[None], axes="zyx", spacing=spacing, unit="mm", origin=origin, direction=direction)
    write(tmp_path / f"a{suffix}", image, overwrite=True)
    again = read(tmp_path / f"a{suffix}")
    np.testing.assert_allclose(again.spacing, spacing, rtol=1e-6)
    np.testing.assert_allclose(again.origin, origin, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(again.direction, direction, atol=1e-6)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_one_slice_of_a_volume_is_an_image_that_goes_back_to_its_place(suffix, tmp_path):
    """2D for the network, and the mask lies where the slice lay."""
    nibabel.save(nibabel.Nifti1Image(VOLUME[:, :, :1], AFFINES["oblique"]), tmp_path / "a.nii.gz")
    itk = SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))
    SimpleITK.WriteImage(itk, str(tmp_path / f"a{suffix}"))
    image = read(tmp_path / f"a{suffix}")
    assert (image.axes, image.shape) == ("yx", (5, 4))
    assert image.spacing == pytest.approx((0.9, 0.7))
    write(tmp_path / f"mask{suffix}", image.with_array(image.array.astype(np.uint8)))
    mask = SimpleITK.ReadImage(str(tmp_path / f"mask{suffix}"))
    assert mask.GetSize() == itk.GetSize()
    np.testing.assert_allclose(mask.GetOrigin(), itk.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(mask.GetSpacing(), itk.GetSpacing(), atol=1e-5)
    np.testing.assert_allclose(mask.GetDirection(), itk.GetDirection(), atol=1e-5)


def test_scaled_integers_become_real_numbers_and_others_stay(tmp_path):
    """Slope 0.5 and intercept -3: value 10 means 2."""
    file = nibabel.Nifti1Image(VOLUME, np.eye(4))
    file.header.set_slope_inter(0.5, -3)
    # Write the header's scaling with the stored integers, as scanners do.
    content = file.header.binaryblock
    path = tmp_path / "a.nii"
    nibabel.save(nibabel.Nifti1Image(VOLUME, np.eye(4)), path)
    image = read(path)
    assert image.array.dtype == np.int16
    stored = bytearray(path.read_bytes())
    stored[112:120] = content[112:120]
    path.write_bytes(stored)
    image = read(path)
    assert image.array.dtype == np.float32
    assert image.array[0, 0, 0, 1] == VOLUME[1, 0, 0] * 0.5 - 3


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "int64", "uint64", "float32", "float64"])
def test_types_survive_in_either_byte_order(dtype, tmp_path):
    """Big-endian files come from old workstations; arrays are native."""
    array = VOLUME.astype(np.dtype(dtype).newbyteorder(">"))
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(array.dtype)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4), header), tmp_path / "a.nii")
    image = read(tmp_path / "a.nii")
    assert image.array.dtype == np.dtype(dtype)
    assert image.array.dtype.isnative
    np.testing.assert_array_equal(image.array[0], VOLUME.T.astype(dtype))


def test_a_fourth_axis_is_channels(tmp_path):
    """The modalities of one patient in one file."""
    array = np.arange(4 * 5 * 6 * 3, dtype=np.float32).reshape(4, 5, 6, 3)
    nibabel.save(nibabel.Nifti1Image(array, AFFINES["oblique"]), tmp_path / "a.nii")
    image = read(tmp_path / "a.nii")
    np.testing.assert_array_equal(image.array, array.T)
    assert (image.axes, image.spacing) == ("zyx", pytest.approx((3.3, 0.9, 0.7)))


def test_units_of_nifti_become_ours(tmp_path):
    """Metres are turned into millimetres; no unit means millimetres, as everybody assumes."""
    for unit, scale, ours in (("meter", 1000, "mm"), ("micron", 1, "um"), ("mm", 1, "mm"), ("unknown", 1, "mm")):
        file = nibabel.Nifti1Image(VOLUME, np.diag([0.5, 0.5, 2, 1]))
        file.header.set_xyzt_units(unit)
        nibabel.save(file, tmp_path / "a.nii")
        image = read(tmp_path / "a.nii")
        assert (image.unit, image.spacing) == (ours, pytest.approx((2 * scale, 0.5 * scale, 0.5 * scale)))


def test_rgb_volumes_have_three_channels(tmp_path):
    """NIfTI stores colours as records."""
    colours = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colours["G"], colours["B"] = 7, 9
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), tmp_path / "a.nii")
    image = read(tmp_path / "a.nii")
    assert image.array.shape == (3, 6, 5, 4)
    assert image.array[:, 0, 0, 0].tolist() == [0, 7, 9]


def test_complex_volumes_are_refused(tmp_path):
    """In every family."""
    nibabel.save(nibabel.Nifti1Image(VOLUME.astype(np.complex64), np.eye(4)), tmp_path / "a.nii")
    np.save(tmp_path / "a.npy", VOLUME.astype(np.complex64))
    itk = SimpleITK.GetImageFromArray(VOLUME.astype(np.complex64))
    SimpleITK.WriteImage(itk, str(tmp_path / "a.nrrd"))
    for name in ("a.nii", "a.npy", "a.nrrd"):
        with pytest.raises(ImageError, match=name):
            read(tmp_path / name)


def test_nrrd_in_scanner_words(tmp_path):
    """Right-anterior-superior is turned, units are read, a list of channels in front is channels."""
    header = (
        b"NRRD0004\ntype: uint8\ndimension: 4\nspace: right-anterior-superior\nsizes: 2 3 4 5\n"
        b"space directions: none (0.5,0,0) (0,0.25,0) (0,0,2)\nkinds: list domain domain domain\nencoding: raw\n"
        b'space origin: (1,2,3)\nspace units: "um" "um" "um"\n\n'
    )
    values = np.arange(120, dtype=np.uint8)
    (tmp_path / "a.nrrd").write_bytes(header + values.tobytes())
    image = read(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(image.array, np.moveaxis(values.reshape(5, 4, 3, 2), -1, 0))
    assert (image.spacing, image.unit, image.origin) == ((2.0, 0.25, 0.5), "um", (3.0, -2.0, -1.0))
    np.testing.assert_array_equal(image.direction, np.diag([1.0, -1.0, -1.0]))


@pytest.mark.parametrize(("suffix", "data"), [(".mhd", ".zraw"), (".nhdr", ".raw.gz")])
def test_a_header_without_its_data_names_the_data(suffix, data, tmp_path):
    """People copy the header and forget the rest."""
    write(tmp_path / f"a{suffix}", Image(array=VOLUME.T[None], axes="zyx"))
    (tmp_path / f"a{data}").unlink()
    with pytest.raises(ImageError, match=rf"pixels are in a{data}, which is not there\n.*copy a{data}"):
        read(tmp_path / f"a{suffix}")


@pytest.mark.parametrize(("suffix", "data"), [(".mhd", ".zraw"), (".nhdr", ".raw.gz")])
def test_data_of_another_image_is_not_overwritten(suffix, data, tmp_path):
    """The second file of a pair is as safe as the first."""
    from uvea.errors import OutputError

    (tmp_path / f"a{data}").write_bytes(b"precious")
    with pytest.raises(OutputError, match=rf"a{data} exists already"):
        write(tmp_path / f"a{suffix}", Image(array=VOLUME.T[None], axes="zyx"))
    assert [file.name for file in tmp_path.iterdir()] == [f"a{data}"]


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_truncated_data_beside_a_good_header_is_refused(suffix, tmp_path, capfd):
    """The header is whole, so only the data can tell."""
    noise = np.random.default_rng(0).integers(0, 255, (1, 9, 20, 20), np.uint8)
    write(tmp_path / f"a{suffix}", Image(array=noise, axes="zyx"))
    (data,) = (file for file in tmp_path.iterdir() if file.suffix != suffix)
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    with pytest.raises(ImageError, match=rf"a\{suffix}"):
        read(tmp_path / f"a{suffix}")
    assert capfd.readouterr() == ("", "")


def test_a_truncated_nrrd_is_told_in_plain_words(tmp_path, capfd):
    """How many bytes there should be, and how many there are."""
    noise = np.random.default_rng(0).integers(0, 255, (1, 9, 20, 20), np.uint8)
    write(tmp_path / "a.nrrd", Image(array=noise, axes="zyx"))
    (tmp_path / "a.nrrd").write_bytes((tmp_path / "a.nrrd").read_bytes()[:-200])
    with pytest.raises(
        ImageError, match=r"a\.nrrd cannot be read as NRRD: expected 3600 bytes of pixels but found \d+ that"
    ):
        read(tmp_path / "a.nrrd")
    assert capfd.readouterr() == ("", "")


def test_damage_inside_a_compressed_metaimage_is_noticed(tmp_path, capfd):
    """SimpleITK would return the pixels it has got so far, and print a line."""
    noise = np.random.default_rng(0).integers(0, 255, (1, 9, 20, 20), np.uint8)
    write(tmp_path / "a.mha", Image(array=noise, axes="zyx"))
    content = bytearray((tmp_path / "a.mha").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.mha").write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.mha cannot be read"):
        read(tmp_path / "a.mha")
    assert capfd.readouterr() == ("", "")


def test_a_percent_sign_in_the_name_of_a_detached_metaimage(tmp_path):
    """ITK takes it for a numbered series, so it is not written; it is read all the same."""
    image = Image(array=VOLUME.T[None], axes="zyx")
    with pytest.raises(ImageError, match=r"takes % for a number\n.*\.mha"):
        write(tmp_path / "50% a.mhd", image)
    write(tmp_path / "a.mhd", image)
    header = (tmp_path / "a.mhd").read_text().replace("a.zraw", "50% a.zraw")
    (tmp_path / "b.mhd").write_text(header)
    with pytest.raises(ImageError, match=r"several files: 50% a\.zraw\n"):
        read(tmp_path / "b.mhd")
    (tmp_path / "a.zraw").rename(tmp_path / "50% a.zraw")
    np.testing.assert_array_equal(read(tmp_path / "b.mhd").array, image.array)


@pytest.mark.parametrize("line", [b"TransformMatrix = 0 0 0 0 1 0 0 0 1", b"ElementSpacing = 0 1 1"])
def test_an_impossible_geometry_is_refused(line, tmp_path):
    """No pixel size, or a flat direction, would spread through everything after."""
    write(tmp_path / "a.mha", Image(array=VOLUME.T[None], axes="zyx"))
    lines = (tmp_path / "a.mha").read_bytes().split(b"\n", 20)
    key = line.split(b" ")[0]
    (tmp_path / "a.mha").write_bytes(b"\n".join(line if old.startswith(key) else old for old in lines))
    with pytest.raises(ImageError, match=r"a\.mha cannot be read"):
        read(tmp_path / "a.mha")


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64", ">i4"])
def test_metaimages_are_read_as_simpleitk_reads_them(dtype, packed, tmp_path):
    """Values, channels and byte order; also without the size of the compressed data, which SimpleITK needs."""
    array = np.arange(4 * 5 * 6 * 2).reshape(4, 5, 6, 2).astype(np.dtype(dtype).newbyteorder("="))
    path = tmp_path / "a.mha"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array, isVector=True), str(path), useCompression=packed)
    content = path.read_bytes()
    if dtype == ">i4" and not packed:
        content = content[: -array.nbytes].replace(b"MSB = False", b"MSB = True") + array.astype(">i4").tobytes()
    lines = [line for line in content.split(b"\n", 20) if not line.startswith(b"CompressedDataSize")]
    path.write_bytes(b"\n".join(lines))
    np.testing.assert_array_equal(read(path).array, np.moveaxis(array, -1, 0))


@pytest.mark.data
def test_every_hippocampus_keeps_its_affine(data_root, tmp_path):
    """Real scans with mixed types and scales."""
    for path in sorted((data_root / "msd_hippocampus" / "images").iterdir())[:5]:
        image = read(path)
        write(tmp_path / path.name, image.with_array((image.array > 9).astype(np.uint8)))
        before, after = nibabel.load(path), nibabel.load(tmp_path / path.name)
        np.testing.assert_allclose(after.affine, before.affine, atol=1e-6)
        assert after.shape == before.shape
