"""Pictures as cameras store them: upright whatever their orientation."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from mentorgym.agents.toolbox.shards import Samples, write_shard
from mentorgym.envs.caption.inference import read_picture
from mentorgym.pictures import read_rgb, upright_size

ORIENTATION = 0x0112

STORED = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, -1),
}
"""What is stored of upright pixels, by the orientation's number: where the 0th row and the 0th column are (EXIF)."""


@pytest.fixture
def upright() -> np.ndarray:
    """A picture without any symmetry."""
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:4, :9], pixels[12:, 20:], pixels[5:8, 3:5] = (250, 20, 10), (10, 240, 30), (20, 30, 230)
    return pixels


def save(pixels: np.ndarray, orientation: int, file, kind: str) -> None:
    image = Image.fromarray(np.ascontiguousarray(STORED[orientation](pixels)))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(file, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_a_picture_is_upright_whatever_its_orientation(tmp_path, upright, orientation, kind):
    path = tmp_path / f"picture.{kind.lower()}"
    save(upright, orientation, path, kind)
    np.testing.assert_array_equal(read_rgb(path), upright)
    np.testing.assert_array_equal(np.asarray(ImageOps.exif_transpose(Image.open(path))), upright)
    assert upright_size(path) == upright.shape[:2]
    assert read_rgb(path, (8, 12)).shape == (8, 12, 3)


@pytest.mark.parametrize("orientation", STORED)
def test_a_resized_jpeg_is_upright_too(tmp_path, orientation):
    pixels = np.zeros((320, 480, 3), np.uint8)
    pixels[:160, :240], pixels[160:, 240:] = (250, 20, 10), (20, 30, 230)
    save(pixels, orientation, tmp_path / "picture.jpg", "JPEG")
    small = read_rgb(tmp_path / "picture.jpg", (40, 60))
    np.testing.assert_allclose(small[5:15, 5:25].reshape(-1, 3).mean(0), (250, 20, 10), atol=6)
    np.testing.assert_allclose(small[25:35, 35:55].reshape(-1, 3).mean(0), (20, 30, 230), atol=6)
    np.testing.assert_allclose(small[5:15, 35:55].reshape(-1, 3).mean(0), 0, atol=6)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_changes_nothing(tmp_path, upright, value):
    exif = Image.Exif()
    exif[ORIENTATION] = value
    Image.fromarray(upright).save(tmp_path / "picture.png", exif=exif)
    np.testing.assert_array_equal(read_rgb(tmp_path / "picture.png"), upright)


def test_damaged_exif_data_do_not_cost_the_picture(tmp_path, upright):
    path = tmp_path / "picture.png"
    Image.fromarray(upright).save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x03\0\0")
    np.testing.assert_array_equal(read_rgb(path), upright)


def test_the_pictures_of_users_are_upright_wherever_they_are_read(tmp_path, upright):
    file = io.BytesIO()
    save(upright, 8, file, "PNG")
    (tmp_path / "picture.png").write_bytes(file.getvalue())
    np.testing.assert_array_equal(read_picture(tmp_path / "picture.png"), upright)
    write_shard(tmp_path / "0.tar", [("0", file.getvalue(), {"caption": "a street"})])
    np.testing.assert_array_equal(Samples(tmp_path).picture(0), upright)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(40), b"GIF89a" + bytes(9)])
def test_what_is_no_picture_is_refused(tmp_path, content):
    (tmp_path / "picture.png").write_bytes(content)
    for read in (read_rgb, upright_size):
        with pytest.raises(ValueError, match="."):
            read(tmp_path / "picture.png")
