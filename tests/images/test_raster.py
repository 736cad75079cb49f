"""Colours, palettes, alpha and bit depths of PNG, JPEG and BMP."""

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Pillow

from uvea.errors import ImageError
from uvea.images import Image, read, write

INDEX = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)


def save(path, array, mode, **options):
    """Write an array through pillow in a given mode."""
    picture = Pillow.frombytes(mode, (array.shape[1], array.shape[0]), np.ascontiguousarray(array).tobytes())
    if palette := options.pop("palette", None):
        picture.putpalette(palette)
    picture.save(path, **options)


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_a_colour_palette_becomes_rgb(suffix, tmp_path):
    """The numbers in the file are places in a table, not intensities."""
    path = tmp_path / f"a{suffix}"
    save(path, INDEX, "P", palette=[10, 20, 30, 255, 0, 0, 1, 2, 3])
    image = read(path)
    assert image.array[:, 0].T.tolist() == [[10, 20, 30], [255, 0, 0], [1, 2, 3]]


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_a_gray_palette_becomes_one_channel_of_grays(suffix, tmp_path):
    """Many scanners write gray images this way."""
    path = tmp_path / f"a{suffix}"
    save(path, INDEX, "P", palette=[0, 0, 0, 128, 128, 128, 255, 255, 255])
    assert read(path).array.tolist() == [[[0, 128, 255], [255, 128, 0]]]


@pytest.mark.parametrize(("mode", "channels"), [("RGBA", 3), ("LA", 1)])
def test_opaque_alpha_is_dropped_and_real_alpha_kept(mode, channels, tmp_path):
    """A dataset of screenshots must not get a channel that is 255 everywhere."""
    path = tmp_path / "a.png"
    array = np.arange(2 * 3 * (channels + 1), dtype=np.uint8).reshape(2, 3, -1)
    array[..., -1] = 255
    save(path, array, mode)
    np.testing.assert_array_equal(read(path).array, np.moveaxis(array[..., :-1], -1, 0))
    array[0, 0, -1] = 0
    save(path, array, mode)
    np.testing.assert_array_equal(read(path).array, np.moveaxis(array, -1, 0))


def test_transparent_palettes_keep_their_alpha(tmp_path):
    """Colour 1 is see-through."""
    save(tmp_path / "a.png", INDEX, "P", palette=[10, 20, 30, 255, 0, 0, 1, 2, 3], transparency=1)
    image = read(tmp_path / "a.png")
    assert image.channels == 4
    assert image.array[3].tolist() == [[255, 0, 255], [255, 0, 255]]


def test_gray_rgb_stays_three_channels(tmp_path):
    """Whether a dataset is gray is not decided file by file."""
    save(tmp_path / "a.png", INDEX[..., None].repeat(3, -1), "RGB")
    assert read(tmp_path / "a.png").channels == 3


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_are_all_there(channels, tmp_path):
    """Also in colour, where pillow would give eight."""
    array = np.arange(4 * 5 * channels, dtype=np.uint16).reshape(4, 5, channels) * 999
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(array.squeeze()))
    image = read(tmp_path / "a.png")
    assert image.array.dtype == np.uint16
    np.testing.assert_array_equal(image.array, np.moveaxis(array, -1, 0))


def test_one_bit_images_are_bool(tmp_path):
    """So a mask of one bit is written back as one bit."""
    save(tmp_path / "a.png", np.packbits(np.eye(8, dtype=bool), axis=1)[:, :1].repeat(8, 1)[:, :8], "L")
    Pillow.fromarray(np.eye(8, dtype=bool)).save(tmp_path / "b.png")
    image = read(tmp_path / "b.png")
    assert image.array.dtype == np.bool_
    np.testing.assert_array_equal(image.array[0], np.eye(8, dtype=bool))


def test_a_large_image_is_no_bomb(tmp_path, recwarn):
    """Pillow refuses more than 179 megapixels; slides and mosaics are larger, and compress well."""
    write(tmp_path / "a.png", Image(array=np.zeros((1, 20000, 10000), bool), axes="yx"))
    assert read(tmp_path / "a.png").shape == (20000, 10000)
    assert not recwarn.list


def test_photographs_are_turned_as_their_camera_says(tmp_path):
    """EXIF orientation 6: the first row of the file is the right edge of the picture."""
    exif = Pillow.Exif()
    exif[0x0112] = 6
    Pillow.fromarray(np.zeros((8, 16), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    assert read(tmp_path / "a.jpg").shape == (16, 8)


def test_cmyk_photographs_become_rgb(tmp_path):
    """Four inks are no four channels."""
    Pillow.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    image = read(tmp_path / "a.jpg")
    assert image.channels == 3
    assert abs(image.array[:, 8, 8].astype(int) - (255, 0, 0)).max() < 10


def test_an_animation_is_refused(tmp_path):
    """Its first frame would be an arbitrary choice."""
    frames = [Pillow.fromarray(INDEX * n) for n in (10, 20, 30)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match=r"animation of 3 frames\n.*TIFF stack"):
        read(tmp_path / "a.png")


def test_a_changed_byte_in_the_pixels_is_noticed(tmp_path):
    """PNG has checksums; pillow does not look at those of the pixels."""
    rng = np.random.default_rng(0)
    write(tmp_path / "a.png", Image(array=rng.integers(0, 256, (1, 40, 40), np.uint8), axes="yx"))
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match="checksum"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("kept", [30, 0.5, -3])
def test_a_png_cut_short_is_told_in_plain_words(kept, tmp_path):
    """Wherever it was cut: in the head of a part, in its data or in its checksum."""
    noise = np.random.default_rng(0).integers(0, 255, (1, 20, 20), np.uint8)
    write(tmp_path / "a.png", Image(array=noise, axes="yx"))
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(ImageError, match=r"a\.png cannot be read as PNG: it ends before its last part\n"):
        read(tmp_path / "a.png")


def test_two_channels_that_look_like_alpha_are_refused(tmp_path):
    """They would come back as one."""
    with pytest.raises(ImageError, match=r"\n.*\.tif"):
        write(tmp_path / "a.png", Image(array=np.full((2, 3, 3), 255, np.uint8), axes="yx"))
