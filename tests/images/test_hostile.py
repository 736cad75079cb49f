"""Image files are hostile until read: nothing that a file says is believed before it is checked.

Every file here is built in the test, byte by byte where no writer would make it.
"""

import gzip
import struct
import subprocess
import sys
import tracemalloc
import zlib

import imagecodecs
import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image as Pillow

from uvea.errors import ImageError, OutputError
from uvea.images import Image, check_inside, read, write

GRAY = (np.arange(6 * 7) % 251).astype(np.uint8).reshape(6, 7)
VOLUME = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
SUFFIXES = [".png", ".jpg", ".bmp", ".tif", ".ome.tif", ".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".npy"]


def peak_of(act):
    """The most that Python and numpy held while something was done, in bytes."""
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def chunk(kind, data):
    """A part of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def ifd(tags, *, following=0, big=False):
    """A TIFF directory of (tag, type, count, value)."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)


def page(**changes):
    """The tags of one gray strip of 6×7 pixels at byte 8."""
    tags = {256: 7, 257: 6, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 6, 279: 42}
    tags |= {int(tag.removeprefix("t")): value for tag, value in changes.items()}
    return [(tag, 4, 1, value) for tag, value in tags.items()]


def tiff(*directories):
    """A classic TIFF with its pixels in front and directories behind."""
    return b"II*\0" + struct.pack("<I", 8 + 42) + GRAY.tobytes() + b"".join(directories)


# --- limits


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_more_pixels_than_allowed_are_refused_with_size_limit_and_option(suffix, tmp_path):
    """One error says all three; the same number as the limit is allowed."""
    path = tmp_path / f"a{suffix}"
    write(path, Image(array=np.zeros((1, 20, 30), np.uint8), axes="yx"))
    assert read(path, max_pixels=600).shape == (20, 30)
    with pytest.raises(ImageError, match=r"declares .*, 600 pixels .*limit is 599\n.*--max-pixels 600"):
        read(path, max_pixels=599)


@pytest.mark.parametrize("limit", ["5", 0, -1, 2.5, True])
def test_a_limit_that_is_none_is_not_a_fault_of_the_file(limit, tmp_path):
    """The message has the value."""
    write(tmp_path / "a.png", Image(array=GRAY[None], axes="yx"))
    with pytest.raises(ImageError, match=f"^max_pixels is {limit!r}\n"):
        read(tmp_path / "a.png", max_pixels=limit)
    for whole in (np.int64(42), 1e9):
        assert read(tmp_path / "a.png", max_pixels=whole).shape == (6, 7)


def test_channels_and_slices_count_as_pixels(tmp_path):
    """They take memory just as well."""
    write(tmp_path / "a.tif", Image(array=np.zeros((2, 3, 4, 5), np.uint8), axes="zyx"))
    with pytest.raises(ImageError, match="120 pixels with all channels"):
        read(tmp_path / "a.tif", max_pixels=119)


def test_images_of_whole_slides_and_volumes_are_within_the_usual_limit():
    """16,384 × 16,384 in colour, and 1,024 × 1,024 × 1,024, without an option."""
    from uvea.images.format import MAX_PIXELS

    assert MAX_PIXELS > 3 * 16_384**2
    assert MAX_PIXELS > 1_024**3


# --- PNG


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP", b"abcd"])
@pytest.mark.parametrize("bits", [8, 16])
def test_swelling_text_and_profiles_of_a_png_are_never_unpacked(kind, bits, tmp_path):
    """64 MB of zeros in 64 kB: the pixels are read, the rest is not looked at."""
    import imagecodecs

    colour = np.dstack([GRAY] * 3).astype(f"uint{bits}")
    content = imagecodecs.png_encode(colour)
    bomb = {b"iTXt": b"k\0\1\0\0\0"}.get(kind, b"k\0\0") + zlib.compress(bytes(2**26))
    (tmp_path / "a.png").write_bytes(content[:33] + chunk(kind, bomb) * 3 + content[33:])
    images = []
    assert peak_of(lambda: images.append(read(tmp_path / "a.png"))) < 2**21
    np.testing.assert_array_equal(images[0].array[0], GRAY)


def test_pixels_of_a_png_that_go_on_are_cut_off(tmp_path):
    """A small image with 64 MB of pixels behind its last row."""
    header = struct.pack(">IIBBBBB", 7, 6, 8, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(2**26))), chunk(b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert peak_of(lambda: read(tmp_path / "a.png")) < 2**22


@pytest.mark.parametrize("place", [8, 33])
def test_a_png_says_its_size_once(place, tmp_path):
    """The first says 7×6 pixels, another one 60,000×60,000, before it or after it; or no part comes first."""
    headers = [chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)) for size in ((7, 6), (60_000, 60_000))]
    rest = chunk(b"IDAT", zlib.compress(bytes(48))) + chunk(b"IEND", b"")
    whole = b"\x89PNG\r\n\x1a\n" + headers[0] + rest
    for hostile in (
        whole[:place] + headers[1] + whole[place:],
        whole[:place] + chunk(b"gAMA", bytes(4)) + headers[1] + rest,
    ):
        (tmp_path / "a.png").write_bytes(hostile)
        with pytest.raises(ImageError):
            assert peak_of(lambda: read(tmp_path / "a.png")) < 2**22


def test_a_jpeg_with_thousands_of_scans_is_refused(tmp_path):
    """Each takes ten bytes and the time of a whole image."""
    Pillow.new("L", (64, 64)).save(tmp_path / "a.jpg", progressive=True)
    content = (tmp_path / "a.jpg").read_bytes()
    scan = content.rindex(b"\xff\xda")
    (tmp_path / "a.jpg").write_bytes(content[:scan] + content[scan:-2] * 2000 + content[-2:])
    with pytest.raises(ImageError, match=r"has \d{4} scans of its pixels"):
        read(tmp_path / "a.jpg")


def packed_png(kind):
    """A PNG of 7×6 pixels that swells to 256 MiB where its pixels, text or colour profile are unpacked."""
    swelling = zlib.compress(bytes(2**28), 9)
    before = {"text": chunk(b"zTXt", b"a\0\0" + swelling), "profile": chunk(b"iCCP", b"a\0\0" + swelling)}
    pixels = swelling if kind == "pixels" else zlib.compress(bytes(6 * 8))
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", 7, 6, 8, 0, 0, 0, 0)), before.get(kind, b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IDAT", pixels), chunk(b"IEND", b"")])


def packed_tiff(compression):
    """A TIFF of 7×6 pixels whose strip swells to 256 MiB."""
    encode = {8: lambda data: zlib.compress(data, 9), 50000: imagecodecs.zstd_encode, 34925: imagecodecs.lzma_encode}
    strip = encode[compression](bytes(2**28))
    tags = page(t259=compression, t273=8, t279=len(strip))
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + ifd(tags)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how large a process is")
def test_what_swells_takes_no_memory_of_the_process(tmp_path):
    """Measured from outside, as decoders in C take memory that Python does not count."""
    files = {f"{kind}.png": packed_png(kind) for kind in ("pixels", "text", "profile")}
    files |= {f"{number}.tif": packed_tiff(number) for number in (8, 50000, 34925)}
    for name, content in files.items():
        assert len(content) < 2**19
        (tmp_path / name).write_bytes(content)
    for name in ("a.png", "a.tif"):
        write(tmp_path / name, Image(array=GRAY[None], axes="yx"))
    code = """if True:
        import resource, sys
        from uvea.errors import UveaError
        from uvea.images import read
        before = 0
        for name in sys.argv[1:]:
            try:
                read(name)
            except UveaError:
                pass
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(name, peak - (before or peak))
            before = peak
    """
    names = ["a.png", "a.tif", *files]
    words = [sys.executable, "-c", code, *(str(tmp_path / name) for name in names)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100)
    grown = [int(line.split()[-1]) for line in done.stdout.splitlines()]
    assert len(grown) == len(names) and max(grown[2:]) < 100, done.stdout + done.stderr


# --- one-bit masks


@pytest.mark.parametrize("name", ["a.png", "b.tif", "c.bmp", "white_is_zero.tif", "fax.tif"])
def test_masks_of_one_bit_are_zero_and_one_in_every_format(name, tmp_path):
    """So a dataset may mix them; white is one, whatever the bit that says white."""
    mask = np.eye(9, 11, dtype=bool)
    path = tmp_path / name
    if name == "b.tif":
        tifffile.imwrite(path, mask, photometric="minisblack")
    elif name == "white_is_zero.tif":
        tifffile.imwrite(path, ~mask, photometric="miniswhite", software="a scanner", metadata=None)
    else:
        Pillow.fromarray(mask).save(path, **({"compression": "group4"} if name == "fax.tif" else {}))
    image = read(path)
    assert image.array.dtype == np.bool_
    np.testing.assert_array_equal(image.array[0].view(np.uint8), mask.view(np.uint8))


def test_a_palette_of_black_and_white_holds_colours_and_no_bits(tmp_path):
    """Its entries say 0 and 255, and these are the values, in PNG and TIFF alike."""
    index = np.eye(9, 11, dtype=np.uint8)
    picture = Pillow.fromarray(index, mode="P")
    picture.putpalette([0, 0, 0, 255, 255, 255])
    picture.save(tmp_path / "a.png", bits=1)
    colours = np.zeros((3, 256), np.uint16)
    colours[:, 1] = 65535
    tifffile.imwrite(tmp_path / "a.tif", index, photometric="palette", colormap=colours)
    for name in ("a.png", "a.tif"):
        np.testing.assert_array_equal(read(tmp_path / name).array[0], index * 255)


# --- TIFF


def test_a_plain_tiff_built_by_hand_is_read(tmp_path):
    """What the hostile ones below differ from."""
    (tmp_path / "a.tif").write_bytes(tiff(ifd(page())))
    np.testing.assert_array_equal(read(tmp_path / "a.tif").array[0], GRAY)


FIRST = 8 + 42
HOSTILE_TIFFS = {
    "a width of minus one": (  # found by fuzzing: pages were counted backwards, for ever
        tiff(ifd([(256, 6, 1, 255), *page()[1:], (270, 2, 16, 8)])).replace(GRAY.tobytes()[:16], b'{"shape":[7,9]}\0'),
        "sizes that are no whole numbers",
    ),
    "zeros that were left out, and a compression that could be strong": (  # found by fuzzing: 1.3 GiB of zeros
        tiff(ifd(page(t256=2**26, t257=20, t278=20, t259=34925, t279=0))),
        "holds at most|more than|too large|declares",
    ),
    "a page that follows itself": (tiff(ifd(page(), following=FIRST)), "leads in a circle"),
    "a directory below a page that is the page": (
        tiff(ifd([*page(), (330, 4, 1, FIRST)])),
        "a directory below a page leads in a circle",
    ),
    "a directory below a page that is nowhere": (tiff(ifd([*page(), (330, 4, 1, 10**6)])), "is at byte 1000000"),
    "65,535 tags": (tiff(struct.pack("<H", 65535) + ifd(page())[2:]), "has 65535 tags, more than there is room"),
    "a billion offsets of strips": (tiff(ifd([*page()[:5], (273, 4, 10**9, 8), *page()[6:]])), "tags beyond the end"),
    "more strips than it has": (tiff(ifd(page(t278=1, t259=8))), "declares 6 strips or tiles and has 1"),
    "rows without end": (tiff(ifd(page(t257=2**31))), "declares"),
    "no rows": (tiff(ifd(page(t257=0))), r"\n"),
    "many samples": (tiff(ifd(page(t277=2**16 - 1))), r"\n"),
    "a tile of 2**31": (
        tiff(ifd([*page(), (322, 4, 1, 2**31), (323, 4, 1, 2**31), (324, 4, 1, 8), (325, 4, 1, 9)])),
        r"\n",
    ),
    "an unknown compression": (tiff(ifd(page(t259=34887))), "is compressed as LERC, which is not read here"),
    "strips left out for zeros": (
        tiff(ifd(page(t256=40000, t257=40000, t278=40000, t273=0, t279=0))),
        "more than the file",
    ),
}


@pytest.mark.parametrize("name", HOSTILE_TIFFS)
def test_a_tiff_that_leads_its_reader_astray_is_refused(name, tmp_path):
    """At once, and without memory of the size that it speaks of."""
    content, message = HOSTILE_TIFFS[name]
    (tmp_path / "a.tif").write_bytes(content)

    def attempt():
        with pytest.raises(ImageError, match=message):
            read(tmp_path / "a.tif")

    assert peak_of(attempt) < 2**24


def test_pages_that_lie_over_each_other_are_refused(tmp_path):
    """Each of 300 tags and six bytes after the one before: minutes of reading in a small file."""
    step, tags = 6, 300
    content = bytearray(b"II*\0" + struct.pack("<I", 8) + bytes(step * 1000 + 12 * tags))
    for place in range(8, len(content) - 12 * tags - step, step):
        struct.pack_into("<H", content, place, tags)
        struct.pack_into("<I", content, place + 2 + 12 * tags, place + step)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(ImageError, match="more than there is room for|leads in a circle|tags beyond the end"):
        read(tmp_path / "a.tif")


def test_a_jpeg_inside_of_a_tiff_that_is_larger_than_its_strip_is_refused(tmp_path):
    """The codec would make room for what the inner header says."""
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 64, 3), np.uint8), compression="jpeg", metadata=None)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    frame = content.index(b"\xff\xc0")
    struct.pack_into(">HH", content, frame + 5, 65000, 65000)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(ImageError, match="65000×65000, larger than a strip"):
        read(tmp_path / "a.tif")


def test_jpeg2000_inside_of_a_tiff_is_read_and_checked(tmp_path):
    """Slide scanners write it."""
    tifffile.imwrite(tmp_path / "a.tif", GRAY.repeat(8, 0).repeat(8, 1), compression="jpeg2000", metadata=None)
    assert read(tmp_path / "a.tif").shape == (48, 56)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    struct.pack_into(">II", content, content.index(b"\xff\x4f\xff\x51") + 8, 2**31, 2**31)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(ImageError, match="larger than a strip"):
        read(tmp_path / "a.tif")


def ome(tmp_path, old, new):
    """An OME-TIFF whose metadata were changed."""
    path = tmp_path / "images" / "a.ome.tif"
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(path, GRAY[None].repeat(5, 0), ome=True, metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path) as file:
        xml = file.ome_metadata
    assert old in xml
    tifffile.imwrite(path, GRAY[None].repeat(5, 0), description=xml.replace(old, new), metadata=None)
    return path


@pytest.mark.parametrize("name", ["../secret.tif", "/etc/passwd", "..\\secret.tif", "link.tif"])
def test_ome_metadata_may_not_name_files_elsewhere(name, tmp_path):
    """tifffile would open them."""
    tifffile.imwrite(tmp_path / "secret.tif", GRAY)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "link.tif").symlink_to(tmp_path / "secret.tif")
    data = f'<TiffData IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:x</UUID></TiffData><TiffData '
    path = ome(tmp_path, "<TiffData ", data)
    with pytest.raises(ImageError, match=r"pixels are outside of its folder, in .*\n.*one folder"):
        read(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('SizeZ="5"', 'SizeZ="3000000000"', "speak of .*3000000000.* planes"),
        ('SizeZ="5"', 'SizeZ="-3"', "speak of .* planes"),
        ('SizeX="', 'SizeX="4294967296', "speak of planes of 4294967296"),  # found by fuzzing: 7 GiB
        ('PlaneCount="5"', 'PlaneCount="999999999"', "speak of 999999999 planes"),
        ("<OME", '<!DOCTYPE x [<!ENTITY a "aaaa">]><OME', "define words of their own"),
    ],
)
def test_ome_metadata_that_count_beyond_reason_are_refused(old, new, message, tmp_path):
    """Lists of a billion planes, and words that multiply."""
    path = ome(tmp_path, old, new)

    def attempt():
        with pytest.raises(ImageError, match=message):
            read(path)

    assert peak_of(attempt) < 2**24


# --- NIfTI


def nifti(tmp_path, *, suffix=".nii", **changes):
    """A volume whose header was changed at these places."""
    path = tmp_path / f"a{suffix}"
    nibabel.save(nibabel.Nifti1Image(VOLUME, np.diag([2.0, 2, 2, 1])), tmp_path / "plain.nii")
    content = bytearray((tmp_path / "plain.nii").read_bytes())
    for place, (kind, *values) in changes.items():
        struct.pack_into(kind, content, int(place.removeprefix("at")), *values)
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    "changes",
    [
        {"at40": ("<8h", 3, -4, 5, 6, 1, 1, 1, 1)},
        {"at40": ("<8h", 3, 0, 5, 6, 1, 1, 1, 1)},
        {"at40": ("<8h", 3, 32767, 32767, 32767, 1, 1, 1, 1)},
        {"at40": ("<8h", 7, 32767, 32767, 32767, 32767, 32767, 32767, 32767)},
        {"at40": ("<h", -1)},
        {"at70": ("<h", 999)},
        {"at108": ("<f", -1.0)},
        {"at108": ("<f", float("nan"))},
        {"at108": ("<f", 1e30)},
        {"at254": ("<h", 1), "at280": ("<12f", *[0.0] * 12)},
        {"at254": ("<h", 1), "at280": ("<12f", *[float("nan")] * 12)},
        {"at254": ("<h", 1), "at280": ("<12f", 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0)},
        {"at254": ("<h", 1), "at280": ("<12f", float("inf"), *[0.0] * 11)},
        {"at112": ("<2f", 1.0, float("nan"))},
        {"at344": ("4s", b"ni1\0")},
        *({"at252": ("<2h", 1, 0), "at80": ("<3f", 2, size, 2)} for size in (0.0, -2.0, float("nan"), float("inf"))),
        {"at252": ("<2h", 0, 0), "at80": ("<3f", 2, 0, 2)},
    ],
)
def test_a_nifti_header_that_cannot_be_true_is_refused(changes, suffix, tmp_path):
    """Sizes below one and beyond the file, unknown types, offsets, and affines that flatten or say nothing."""
    path = nifti(tmp_path, suffix=suffix, **changes)

    def attempt():
        with pytest.raises(ImageError, match=r"a\.nii"):
            read(path)

    assert peak_of(attempt) < 2**24


@pytest.mark.parametrize("size", [7, 0, -1, 2**31 - 1, -(2**31)])
def test_extensions_of_a_nifti_are_not_believed(size, tmp_path):
    """A length of seven would read the whole stream; they are skipped, whatever they say."""
    path = nifti(tmp_path, suffix=".nii.gz", at348=("<4B", 1, 0, 0, 0), at108=("<f", 352.0))
    whole = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<f", whole, 108, 368.0)
    whole[352:352] = struct.pack("<ii", size, 4) + bytes(8)
    path.write_bytes(gzip.compress(whole))
    np.testing.assert_array_equal(read(path).array, VOLUME.T[None])


def test_a_gzip_that_swells_behind_its_pixels_is_refused(tmp_path):
    """256 MB of zeros in 256 kB; what is behind the image is followed for a while only."""
    path = nifti(tmp_path, suffix=".nii.gz")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(2**26)))

    def attempt():
        with pytest.raises(ImageError, match="goes on long after its last pixel"):
            read(path)

    assert peak_of(attempt) < 2**24


def test_scaled_volumes_are_scaled_as_nibabel_scales_them(tmp_path):
    """The pixels are read here, and the numbers are the same."""
    path = nifti(tmp_path, at112=("<2f", 0.3, -7.0))
    expected = nibabel.load(path).get_fdata(dtype=np.float32)
    np.testing.assert_array_equal(read(path).array[0], expected.T)


# --- NRRD and MetaImage


def nrrd(*lines, data=bytes(120)):
    """An attached or detached header."""
    return "\n".join(["NRRD0004", *lines, "", ""]).encode() + data


PLAIN = ("type: uint8", "dimension: 3", "sizes: 4 5 6", "encoding: raw")
META = ("ObjectType = Image", "NDims = 3", "DimSize = 4 5 6", "ElementType = MET_UCHAR")
OUTSIDE = ["/etc/passwd", "../secret.raw", "sub/../../secret.raw", "link.raw", "sub/link.raw", "..\\secret.raw"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("suffix", [".nhdr", ".nrrd", ".mhd", ".mha"])
def test_a_header_may_not_name_data_outside_of_its_folder(suffix, name, tmp_path):
    """Else any file could be made into pixels; links do not help."""
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.raw").write_bytes(bytes(120))
    for link in (folder / "link.raw", folder / "sub" / "link.raw"):
        link.symlink_to(tmp_path / "secret.raw")
    path = folder / f"a{suffix}"
    detached = [*META, f"ElementDataFile = {name}", ""] if "m" in suffix else None
    path.write_bytes("\n".join(detached).encode() if detached else nrrd(*PLAIN, f"data file: {name}", data=b""))
    with pytest.raises(ImageError, match=r"pixels are outside of its folder, in .*\n.*one folder"):
        read(path)


@pytest.mark.parametrize(
    "name", ["LIST", "LIST 2", "a%03d.raw 1 6 1", "%s.raw 1 2", "http://127.0.0.1/a.raw", "a\\x00b", "x" * 9000]
)
@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
def test_lists_patterns_and_addresses_of_data_are_refused(suffix, name, tmp_path):
    """One header, one file beside it."""
    path = tmp_path / f"a{suffix}"
    text = "\n".join([*META, f"ElementDataFile = {name}", ""]).encode()
    path.write_bytes(text if suffix == ".mhd" else nrrd(*PLAIN, f"data file: {name}", data=b"x.raw\n"))
    with pytest.raises(ImageError, match=rf"a\{suffix}"):
        read(path)


def test_data_beside_the_header_and_below_it_is_read(tmp_path):
    """The rule for names does not keep honest files out."""
    (tmp_path / "sub").mkdir()
    for place in ("a.raw", "sub/b.raw"):
        (tmp_path / place).write_bytes(bytes(range(120)))
        (tmp_path / "a.nhdr").write_bytes(nrrd(*PLAIN, f"data file: {place}", data=b""))
        (tmp_path / "a.mhd").write_text("\n".join([*META, f"ElementDataFile = {place}", ""]))
        for name in ("a.nhdr", "a.mhd"):
            assert read(tmp_path / name).array.reshape(-1).tolist() == list(range(120))


@pytest.mark.parametrize(
    "line",
    [
        "sizes: 4 -5 6",
        "sizes: 0 5 6",
        "sizes: 99999999999999999999 5 6",
        "sizes: 4 5",
        "dimension: 99",
        "spacings: nan nan 0",
        "spacings: -1 1 1",
        "spacings: 1 1 inf",
        "space directions: (1,0,0) (0,0,0) (0,0,1)",
        "space directions: (1,0,0) (1,0,0) (0,0,1)",
        "space directions: (nan,0,0) (0,1,0) (0,0,1)",
        "space directions: (1,0) (0,1,0) (0,0,1)",
        "space origin: (inf,0,0)",
        "kinds: complex domain domain",
        "kinds: list list domain",
        "type: block",
        "encoding: hex",
        "endian: sideways",
        "byte skip: 99999",
        "type: uint8\ntype: int16",
    ],
)
def test_a_nrrd_header_that_cannot_be_true_is_refused(line, tmp_path):
    """Whatever the line, one error with the name of the file."""
    key = line.partition(":")[0]
    kept = [plain for plain in PLAIN if plain.partition(":")[0] != key]
    (tmp_path / "a.nrrd").write_bytes(nrrd(*kept, line))
    with pytest.raises(ImageError, match=r"a\.nrrd"):
        read(tmp_path / "a.nrrd")


GEOMETRIES = [
    ["space: right-anterior-superior", "space directions: (0,-2,0) (0.6,0,0.8) (1.6,0,-1.2)", "space origin: (1,2,3)"],
    ["space: LAS", "space directions: (1,0,0) (0,2,0) (0,0,3)", "space origin: (-1, 2, -3)"],
    ["space dimension: 3", "space directions: (1,0.5,0) (0,2,0) (0,0,3)"],
    ["spacings: 0.5 2 nan", "kinds: domain domain domain"],
    ["spacings: 0.5 2 3"],
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("channels", [None, 0, 3])
def test_nrrd_geometry_is_that_of_simpleitk(geometry, channels, tmp_path):
    """Headers are read here; ITK says what they mean."""
    sizes, words = ["4", "5", "6"], {"space directions": "none", "spacings": "nan", "kinds": "vector"}
    lines = list(geometry)
    if channels is not None:
        sizes.insert(channels, "2")
        if not any(line.startswith("kinds") for line in lines):
            lines.append("kinds: domain domain domain")
        for place, line in enumerate(lines):
            key, _, value = line.partition(": ")
            if key in words:
                values = value.split(" ")
                values.insert(channels, words[key])
                lines[place] = f"{key}: {' '.join(values)}"
    header = ["type: uint8", f"dimension: {len(sizes)}", f"sizes: {' '.join(sizes)}", "encoding: raw", *lines]
    data = bytes(range(120)) + bytes(range(120)) if channels is not None else bytes(range(120))
    (tmp_path / "a.nrrd").write_bytes(nrrd(*header, data=data))
    ours, theirs = read(tmp_path / "a.nrrd"), SimpleITK.ReadImage(str(tmp_path / "a.nrrd"))
    pixels = SimpleITK.GetArrayFromImage(theirs)
    np.testing.assert_array_equal(ours.array, pixels[None] if channels is None else np.moveaxis(pixels, -1, 0))
    np.testing.assert_allclose(ours.spacing, theirs.GetSpacing()[::-1])
    np.testing.assert_allclose(ours.origin, theirs.GetOrigin()[::-1], atol=1e-12)
    direction = np.array(theirs.GetDirection()).reshape(3, 3)[::-1, ::-1]
    np.testing.assert_allclose(ours.direction, direction, atol=1e-12)


# --- NumPy


def npy(header, data=bytes(24)):
    """A NumPy file with this header."""
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode("latin-1") + data


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|O', 'fortran_order': False, 'shape': (2, 3), }",
        "{'descr': '|V8', 'fortran_order': False, 'shape': (2, 3), }",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 3), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -3), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 4), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 3), }",
        "{'descr': '<f4', 'fortran_order': __import__('os').system('true'), 'shape': (2, 3), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1" * 390 + "x), }",
        "(" * 30_000,
        "-" * 60_000 + "1",
    ],
)
def test_a_numpy_header_that_is_no_array_of_numbers_is_refused(header, tmp_path):
    """Objects, records, sizes below zero and beyond the file, and what would break a parser of Python."""
    (tmp_path / "a.npy").write_bytes(npy(header))
    with pytest.raises(ImageError, match=r"a\.npy"):
        read(tmp_path / "a.npy")


# --- only the named decoders


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_postscript_under_another_name_reaches_no_decoder(suffix, tmp_path):
    """Pillow alone would start Ghostscript for it."""
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n%%EOF\n")
    with pytest.raises(ImageError, match=rf"a\{suffix} cannot be read"):
        read(path)


@pytest.mark.parametrize("name", ["a.eps", "a.ps", "a.gif", "a.svg", "a.npz", "a.pkl", "http://127.0.0.1/a.png"])
def test_other_kinds_and_addresses_are_no_images(name, tmp_path):
    """An address is a file that does not exist."""
    with pytest.raises(ImageError):
        read(tmp_path / name if "://" not in name else name)


def test_what_is_no_ordinary_file_is_never_opened(tmp_path):
    """A pipe would wait for ever, and a device may have no end."""
    import os

    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes with names")
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match="is no ordinary file"):
        read(tmp_path / "a.png")
    (tmp_path / "a.raw").symlink_to("/dev/zero")
    (tmp_path / "a.mhd").write_text("\n".join([*META, "ElementDataFile = a.raw", ""]))
    with pytest.raises(ImageError, match=r"a\.raw"):
        read(tmp_path / "a.mhd")


# --- outputs


def test_a_link_in_the_folder_of_outputs_is_not_followed_out_of_it(tmp_path):
    """A folder that someone else prepared cannot make us write elsewhere."""
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (out / "inside").mkdir()
    (out / "sub").symlink_to(tmp_path / "elsewhere")
    (out / "fine").symlink_to(out / "inside")
    check_inside(out, [out / "a.png", out / "new" / "b.png", out / "fine" / "c.png"])
    with pytest.raises(OutputError, match=r"sub/a\.png would be written to .*elsewhere.*\n.*remove the link"):
        check_inside(out, [out / "b.png", out / "sub" / "a.png"])
    (tmp_path / "linked").symlink_to(out)
    check_inside(tmp_path / "linked", [tmp_path / "linked" / "a.png"])


def test_a_link_under_the_name_of_an_output_is_replaced(tmp_path):
    """What it leads to stays as it is."""
    (tmp_path / "precious.png").write_bytes(b"precious")
    (tmp_path / "a.png").symlink_to(tmp_path / "precious.png")
    write(tmp_path / "a.png", Image(array=GRAY[None], axes="yx"), overwrite=True)
    assert (tmp_path / "precious.png").read_bytes() == b"precious"
    assert not (tmp_path / "a.png").is_symlink()
