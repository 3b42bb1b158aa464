"""Kinds of picture files, made by rule: suffixes, modes, profiles, sizes; and what a folder leaves out."""

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, features

from convert.errors import InputError
from parity_tests.tests.cases import drawn_picture
from toonport.photo import opening
from toonport.photo.files import SUFFIXES, left_out, name_photos, picture_files
from toonport.photo.opening import picture_size
from toonport.photo.picture import read_picture, read_picture_as_reference, read_picture_as_torchvision
from toonport.train.config import RunConfig
from toonport.train.data import Batches, normalized

Image.init()
HEIF = {".heic", ".heics", ".heif", ".heifs", ".hif"}
# What Pillow knows but does not draw by itself: documents, drawings and films, and formats it only recognises.
NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "HEIF", "IPTC", "MPEG", "PALM", "PDF", "WMF"}
BY_PILLOW = {suffix for suffix, kind in Image.registered_extensions().items() if kind not in NO_PICTURES} - HEIF
SAVED = sorted(
    suffix
    for suffix in BY_PILLOW
    if Image.registered_extensions()[suffix] in Image.SAVE.keys() - {"BLP", "ICO", "ICNS", "MSP", "XBM"}
)


def _smooth(height=40, width=60):
    return cv2.GaussianBlur(drawn_picture("kinds", height, width), (0, 0), 4)


def test_the_one_list_holds_what_pillow_and_opencv_read():
    assert set(SUFFIXES) - HEIF - {".hdr", ".sr"} == BY_PILLOW
    assert len(SUFFIXES) == len(set(SUFFIXES))


@pytest.mark.parametrize("suffix", SAVED)
def test_a_file_of_every_suffix_is_read(tmp_path, suffix):
    wanted, path = _smooth(), tmp_path / f"a{suffix.upper()}"
    Image.fromarray(wanted).save(path, Image.registered_extensions()[suffix])
    assert picture_files(tmp_path) == [path]
    assert np.abs(read_picture(path).astype(int) - wanted).mean() < 4  # JPEG, AVIF and palettes lose something
    assert picture_size(path, "a") == (60, 40)


def test_radiance_pictures_are_read_with_the_curve_of_srgb(tmp_path):
    levels = _smooth()
    light = np.where(levels / 255 <= 0.04045, levels / 255 / 12.92, ((levels / 255 + 0.055) / 1.055) ** 2.4)
    cv2.imwrite(str(tmp_path / "a.hdr"), light[..., ::-1].astype(np.float32))
    assert np.abs(read_picture(tmp_path / "a.hdr").astype(int) - levels).max() <= 2
    with pytest.raises(InputError, match="too many pixels"):
        read_picture(b"#?RADIANCE\n\n-Y 60000 +X 60000\n" + bytes(100), "bomb.hdr")


def test_heic_is_read_where_pillow_heif_is_installed_and_said_else(monkeypatch, tmp_path):
    cut = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"heic", 0, b"mif1", b"heic") + bytes(400)
    with monkeypatch.context() as without:
        without.setattr(opening, "_heif_registered", lambda: False)
        without.setattr(Image, "OPEN", {kind: how for kind, how in Image.OPEN.items() if kind != "HEIF"})
        without.setattr(Image, "ID", [kind for kind in Image.ID if kind != "HEIF"])
        with pytest.raises(InputError, match=r"a: HEIC pictures need pillow-heif; pip install 'toonport\[heif\]'"):
            read_picture(cut, "a")
    pillow_heif = pytest.importorskip("pillow_heif")
    with pytest.raises(InputError, match="not a picture"):
        read_picture(cut, "a")
    exif = Image.Exif()
    exif[0x0112] = 6
    pillow_heif.encode("RGB", (60, 40), _smooth().tobytes(), tmp_path / "a.heic", quality=90, exif=exif.tobytes())
    turned = read_picture(tmp_path / "a.heic")
    assert np.abs(turned.astype(int) - np.rot90(_smooth(), -1)).mean() < 4


def _swapped_profile():
    """The profile of sRGB with red and blue exchanged, under another name."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for row in range(struct.unpack(">I", content[128:132])[0]):
        place = 132 + 12 * row
        name = bytes(content[place : place + 4])
        content[place : place + 4] = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(name, name)
    return bytes(content).replace("sRGB".encode("utf-16-be"), "Swap".encode("utf-16-be"))


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("PNG", "RGB"),
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("JPEG", "RGB"),
        ("TIFF", "RGB"),
        ("WEBP", "RGBA"),
        ("AVIF", "RGB"),
    ],
)
def test_colours_of_a_profile_become_srgb(kind, mode):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("Pillow was built without AVIF")
    plain, buffer, with_profile = Image.fromarray(_smooth()).convert(mode), io.BytesIO(), io.BytesIO()
    if mode == "RGBA":
        plain.putalpha(Image.fromarray(np.tri(40, 60, dtype=np.uint8) * 255))
    plain.save(buffer, kind)
    plain.save(with_profile, kind, icc_profile=_swapped_profile())
    wanted = read_picture(buffer.getvalue())
    found = read_picture(with_profile.getvalue())
    assert np.abs(found.astype(int) - wanted[..., ::-1]).max() <= 6
    np.testing.assert_array_equal(read_picture_as_torchvision(with_profile.getvalue()), np.asarray(_rgb(buffer)))


def _rgb(buffer):
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


@pytest.mark.parametrize("profile", [b"no profile", ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()])
@pytest.mark.parametrize("mode", ["RGB", "L", "LA"])
def test_a_profile_that_does_not_fit_counts_for_nothing(profile, mode):
    buffer, plain = io.BytesIO(), io.BytesIO()
    Image.fromarray(_smooth()).convert(mode).save(buffer, "PNG", icc_profile=profile)
    Image.fromarray(_smooth()).convert(mode).save(plain, "PNG")
    np.testing.assert_array_equal(read_picture(buffer.getvalue()), read_picture(plain.getvalue()))


LARGE = [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "P"), ("PNG", "1"), ("PNG", "LA"),
         ("PNG", "RGBA"), ("PNG", "I;16"), ("WEBP", "RGBA"), ("TIFF", "F"), ("JPEG2000", "RGB"),
         ("AVIF", "RGB")]  # fmt: skip


@pytest.mark.parametrize(("kind", "mode"), LARGE)
def test_too_large_a_picture_is_read_at_half_its_sides(monkeypatch, kind, mode):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture, buffer = Image.fromarray(_smooth(48, 80)), io.BytesIO()
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L"), np.uint16) * 257)
    picture = picture if mode == "I;16" else picture.convert(mode)
    picture.save(buffer, kind, exif=exif)
    whole = read_picture(buffer.getvalue())
    monkeypatch.setattr(opening, "WHOLE_PIXELS", 48 * 80 - 1)
    half = read_picture(buffer.getvalue())
    assert tuple(2 * length for length in half.shape[:2]) == whole.shape[:2]
    wanted = cv2.resize(whole, half.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(half.astype(int) - wanted).mean() < 4
    monkeypatch.setattr(opening, "MOST_PIXELS", 48 * 80 - 1)
    with pytest.raises(InputError, match="too many pixels"):
        read_picture(buffer.getvalue())


def _strange(name):
    """A picture that torchvision's reading shows otherwise than drawing does."""
    rgb, buffer, exif = Image.fromarray(_smooth(32, 32)), io.BytesIO(), Image.Exif()
    exif[0x0112] = 3
    hidden = np.dstack([np.asarray(rgb), np.tri(32, dtype=np.uint8) * 255])
    palette = rgb.quantize(8)
    pictures = {
        "turned": lambda: rgb.save(buffer, "JPEG", exif=exif),
        "cut out": lambda: Image.fromarray(hidden).save(buffer, "PNG"),
        "palette": lambda: palette.save(buffer, "PNG", transparency=int(np.asarray(palette)[0, 0])),
        "deep": lambda: Image.fromarray(np.asarray(rgb.convert("L"), np.uint16) * 257).save(buffer, "PNG"),
        "profile": lambda: rgb.save(buffer, "PNG", icc_profile=_swapped_profile()),
        "grey cut out": lambda: Image.fromarray(hidden).convert("LA").save(buffer, "PNG"),
        "webp cut out": lambda: Image.fromarray(hidden).save(buffer, "WEBP", lossless=True, exact=True),
    }
    pictures[name]()
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["turned", "cut out", "palette", "deep", "profile", "grey cut out", "webp cut out"])
def test_training_reads_as_drawing_does_or_as_torchvision(tmp_path, name):
    for domain in "AB":
        (tmp_path / f"train{domain}").mkdir()
        (tmp_path / f"train{domain}" / "a.png").write_bytes(_strange(name))
    drawn, torchvision = read_picture(_strange(name)), np.asarray(_rgb(io.BytesIO(_strange(name))))
    assert np.abs(drawn.astype(int) - torchvision).max() > 8
    for as_reference, wanted in ((False, drawn), (True, torchvision)):
        config = RunConfig(
            family="cyclegan", data=str(tmp_path), out="", size=32, margin=0, flip=False, as_reference=as_reference
        )
        batches = Batches(config)
        square = normalized(np.asarray(Image.fromarray(wanted).resize((32, 32), Image.Resampling.BILINEAR)))
        np.testing.assert_array_equal(batches.sample(0, 0), square)
        np.testing.assert_array_equal(batches.columns(1, 1), [square])
        batches.close()


def test_a_folder_says_how_many_files_it_leaves_out_and_why(tmp_path):
    names = ("a.jpg", "b.AVIF", "in/c.dng", "d.txt", "e.txt", "f", "g.svg", "h.jxl", "i.mp4", ".j.jpg",
             ".ipynb_checkpoints/k.png", "__MACOSX/l.jpg", "out/m.png", "out/n.jsonl")  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in name_photos([str(tmp_path)], tmp_path / "out").values()] == ["a.jpg", "b.AVIF"]
    line = left_out(tmp_path, tmp_path / "out")
    assert line.startswith(f"{tmp_path}: 10 files left out: 7 of no kind of picture that is read (2 .txt, 1 ")
    assert line.endswith("2 more), 3 hidden")
    assert (
        left_out(tmp_path / "out")
        == f"{tmp_path / 'out'}: 1 file left out: 1 of no kind of picture that is read (1 .jsonl)"
    )
    assert left_out(tmp_path / "__MACOSX") == ""
    with pytest.raises(InputError, match=r"in: no pictures there \(.*1 file left out: .*\.dng\)\)"):
        name_photos([str(tmp_path / "in")])


def test_what_opencv_cannot_read_as_the_reference_is_said():
    buffer = io.BytesIO()
    Image.fromarray(_smooth()).save(buffer, "QOI")
    assert read_picture(buffer.getvalue()).shape == (40, 60, 3)
    with pytest.raises(InputError, match="not a picture that OpenCV reads"):
        read_picture_as_reference(buffer.getvalue(), "a.qoi")


DEEP = [(suffix, channels) for suffix in (".png", ".tiff", ".jp2") for channels in (1, 3, 4)]


@pytest.mark.parametrize(("suffix", "channels"), [*DEEP, (".pgm", 1), (".ppm", 3)])
def test_pictures_of_sixteen_bits_are_scaled_to_eight(suffix, channels, tmp_path):
    levels = np.linspace(0, 255, 32 * 40, dtype=np.uint8).reshape(32, 40)  # black to white
    wanted = np.dstack([levels, levels[::-1] if channels > 1 else levels, levels])
    alpha = np.full((32, 40), 255, np.uint8)
    kinds = {1: levels, 3: wanted[..., ::-1], 4: np.dstack([wanted[..., ::-1], alpha])}  # OpenCV writes BGR
    cv2.imwrite(str(tmp_path / f"a{suffix}"), kinds[channels].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_picture(tmp_path / f"a{suffix}"), wanted)
