"""Picture files: every kind, depth and way up is read alike by every program, and what is none is refused."""

import io
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from convert.errors import InputError
from parity_tests.tests.cases import drawn_picture
from toonport.commands.export import given_pictures
from toonport.photo.batch import Task
from toonport.photo.compose import to_input
from toonport.photo.files import picture_files
from toonport.photo.folder import PictureFolder
from toonport.photo.picture import encode, network_picture, read_picture, read_picture_as_reference, write_picture
from toonport.photo.preprocessor import load_photo


def _saved(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def test_every_kind_of_picture_becomes_eight_bit_rgb():
    rgb = Image.fromarray(drawn_picture("kinds", 20, 30))
    grey16 = Image.fromarray(np.full((20, 30), 40000, np.uint16))
    palette = rgb.convert("P")
    palette.info["transparency"] = palette.getpixel((0, 0))
    kinds = [rgb, rgb.convert("L"), rgb.convert("1"), rgb.convert("LA"), grey16, palette]
    for one in kinds:
        found = read_picture(_saved(one))
        assert found.shape == (20, 30, 3)
        assert found.dtype == np.uint8
    assert read_picture(_saved(rgb.convert("CMYK"), "JPEG")).shape == (20, 30, 3)
    assert (read_picture(_saved(grey16)) == 156).all()  # 40000 / 65535 * 255
    assert (read_picture(_saved(Image.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF")) == 128).all()


def test_transparency_lies_on_white_but_the_reference_sees_the_hidden_colour(tmp_path):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:, :2] = (200, 0, 0, 255)
    path = tmp_path / "a.png"
    write_picture(path, pixels)
    found = read_picture(path)
    assert (found[:, :2] == (200, 0, 0)).all()
    assert (found[:, 2:] == 255).all()
    assert (read_picture_as_reference(path)[:, 2:] == 0).all()


@pytest.mark.quick
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_obeyed(orientation):
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = 255
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # PIL's transpositions that store it turned
    stored = Image.fromarray(upright)
    if orientation in undo:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = read_picture(_saved(stored, "PNG", exif=exif))
    np.testing.assert_array_equal(found, upright)


@pytest.mark.quick
def test_what_is_no_picture_is_refused_in_one_line(tmp_path):
    good = _saved(Image.fromarray(drawn_picture("bad", 40, 40)), "PNG")
    for content in (b"", b"not a picture", good[: len(good) // 2], good[:40]):
        with pytest.raises(InputError, match="not a picture"):
            read_picture(content, "x.png")
    with pytest.raises(InputError, match="no such file"):
        read_picture(tmp_path / "none.png")
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    with pytest.raises(InputError, match=r"too many pixels|not a picture"):
        read_picture(good[:16] + header + good[29:], "bomb.png")
    with pytest.raises(InputError, match=r"\.png"):
        encode(np.zeros((2, 2, 3), np.uint8), ".gif")


@pytest.mark.quick
def test_five_programs_read_a_picture_alike(tmp_path):
    """EXIF data, depth and transparency mean the same to cartoonize, train, evaluate, compare and export."""
    side, upright = 32, Image.fromarray(drawn_picture("alike", 32, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    alpha = Image.fromarray(np.dstack([np.asarray(upright.convert("L")), np.tri(32, dtype=np.uint8) * 255]), "LA")
    kinds = {
        "turned": (upright.transpose(Image.Transpose.ROTATE_90), {"exif": exif}),
        "deep": (Image.fromarray(np.asarray(upright.convert("L"), np.uint16) * 257), {}),
        "seen_through": (alpha, {}),
    }
    for domain in "AB":
        (tmp_path / f"train{domain}").mkdir()
    for name, (picture, options) in kinds.items():
        path = tmp_path / "trainA" / f"{name}.png"
        picture.save(path, **options)
        wanted = read_picture(path)
        if name == "turned":
            np.testing.assert_array_equal(wanted, np.asarray(upright))
        else:
            assert wanted.std() > 0
        np.testing.assert_array_equal(load_photo(Task(str(path), "")), wanted)
        np.testing.assert_array_equal(PictureFolder(path.parent).read(name), wanted)
        np.testing.assert_array_equal(network_picture(path, side), to_input(wanted))


@pytest.mark.quick
def test_one_list_of_suffixes_serves_every_folder(tmp_path):
    for name in ("a.tiff", "b.PGM", "in/c.webp", ".hidden.png", ".cache/d.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name, "PPM")
    wanted = [tmp_path / name for name in ("a.tiff", "b.PGM", "in/c.webp")]
    assert picture_files(tmp_path) == wanted
    assert list(PictureFolder(tmp_path).files.values()) == wanted
    assert given_pictures([str(tmp_path)]) == wanted


def test_threads_that_read_pictures_leave_python_s_warnings_alone():
    before, content = list(warnings.filters), _saved(Image.fromarray(drawn_picture("threads", 30, 40)), "JPEG")
    with ThreadPoolExecutor(8) as pool:
        assert len({found.tobytes() for found in pool.map(read_picture, [content] * 200)}) == 1
    assert list(warnings.filters) == before


def test_a_picture_for_a_network_keeps_its_shape_in_steps(tmp_path):
    path = tmp_path / "wide.png"
    Image.fromarray(np.zeros((30, 50, 3), np.uint8)).save(path)
    assert network_picture(path, 32, 16).shape == (1, 3, 32, 48)
    assert network_picture(path, 32, 1).shape == (1, 3, 32, 53)
    assert network_picture(path, (48, 32), 16).shape == (1, 3, 48, 32)
    assert network_picture(path, 32).shape == (1, 3, 32, 32)
