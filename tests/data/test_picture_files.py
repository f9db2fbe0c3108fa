"""One odd picture: what becomes of it, and the line it earns."""

import io
import struct
import zlib

import numpy as np
import PIL
import pytest
from PIL import Image, ImageCms

from pipeline_steps import artifacts
from pipeline_steps.data.names import picture_id
from pipeline_steps.data.picture_files import UnusableError, cut
from pipeline_steps.errors import UserError
from tests.data.corpus import JPEG, PNG, SIDE, drawn, encoded, run


def broken_png() -> bytes:
    return PNG[:60] + bytes([PNG[60] ^ 255]) + PNG[61:]


def bomb() -> bytes:
    """A PNG that claims 50000 × 50000 pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50000, 50000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")


def frames(kind: str) -> bytes:
    return encoded(drawn(1), kind, save_all=True, append_images=[drawn(2), drawn(3)])


def floats(scale: float) -> bytes:
    grey = np.asarray(drawn(1).convert("L"), dtype=np.float32)
    return encoded(Image.fromarray(grey / 255 * scale), "TIFF")


def glassy(mode: str) -> Image.Image:
    picture = drawn(1).convert("RGBA")
    alpha = Image.new("L", picture.size, 255)
    alpha.paste(0, (0, 0, 12, 12))
    picture.putalpha(alpha)
    return picture.convert(mode)


def palette_with_transparency() -> bytes:
    return encoded(drawn(1).quantize(16), transparency=3)


def profile(space: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()


KEPT_QUIETLY = {
    "odd.png": PNG,
    "odd.jpg": JPEG,
    "progressive.jpg": encoded(drawn(1), "JPEG", progressive=True),
    "odd.webp": encoded(drawn(1), "WEBP", quality=95),
    "odd.avif": encoded(drawn(1), "AVIF", quality=95),
    "odd.bmp": encoded(drawn(1), "BMP"),
    "odd.gif": encoded(drawn(1), "GIF"),
    "odd.tif": encoded(drawn(1), "TIFF"),
    "odd.jp2": encoded(drawn(1), "JPEG2000"),
    "odd.ppm": encoded(drawn(1), "PPM"),
    "grey.png": encoded(drawn(1, mode="L")),
    "palette.png": encoded(drawn(1).quantize(64)),
    "bilevel.png": encoded(drawn(1, mode="1")),
    "cmyk.jpg": encoded(drawn(1, mode="CMYK"), "JPEG"),
    "cmyk.tif": encoded(drawn(1, mode="CMYK"), "TIFF"),
    "lab.tif": encoded(
        ImageCms.profileToProfile(
            drawn(1), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        ),
        "TIFF",
    ),
    "opaque alpha.png": encoded(drawn(1, mode="RGBA")),
    "srgb profile.png": encoded(drawn(1), icc_profile=profile("sRGB")),
    "no ending": PNG,
    "with  spaces .png": PNG,
    "한복 사진.png": PNG,
    "दीवाली.png": PNG,
    "🏮🎎.png": PNG,
    "العربية.png": PNG,
    "deep/er/still.png": PNG,
    "quote'\"s.png": PNG,
    "percent%20 & ; $HOME `x`.png": PNG,
    "-rf.png": PNG,
    "x" * 240 + ".png": PNG,
}
if int(PIL.__version__.split(".")[0]) >= 13:  # earlier ones call it cut short
    KEPT_QUIETLY["ycbcr.tif"] = encoded(drawn(1, mode="YCbCr"), "TIFF")


@pytest.mark.parametrize("name", KEPT_QUIETLY)
def test_is_kept_without_a_word(corpus, tmp_path, name):
    corpus.add(name, KEPT_QUIETLY[name], split="train")
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert lines == []
    assert len(rows) == 3
    row = rows[picture_id(name)]
    shown = np.asarray(artifacts.decode_picture(row["image"]), dtype=float)
    expected = np.asarray(drawn(1).crop((4, 0, 44, 40)).resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    if name.startswith(("grey", "bilevel")):
        expected = (expected @ [0.299, 0.587, 0.114])[..., None]
    if not name.startswith("bilevel"):
        assert np.abs(shown - expected).mean() < 16, "these are other colours"
    assert (row["source_width"], row["source_height"], row["crop"]) == (48, 40, [4, 0, 44, 40])


KEPT_AND_NAMED = {
    "png named as.jpg": (PNG, "is PNG inside, whatever .jpg says; read as what it is"),
    "jpeg named as.txt.PNG": (JPEG, "is JPEG inside, whatever .PNG says; read as what it is"),
    "webp named as.jpeg": (encoded(drawn(1), "WEBP"), "is WEBP inside, whatever .jpeg says"),
    "16 bit.png": (
        encoded(Image.fromarray(np.asarray(drawn(1, mode="L")).astype(np.uint16) * 257)),
        "16-bit or floating-point grey; brought to 8 bits",
    ),
    "float.tif": (floats(1.0), "16-bit or floating-point grey; brought to 8 bits"),
    "rgba.png": (encoded(glassy("RGBA")), "had transparent parts; laid on white"),
    "grey alpha.png": (encoded(glassy("LA")), "had transparent parts; laid on white"),
    "rgba.webp": (encoded(glassy("RGBA"), "WEBP"), "had transparent parts; laid on white"),
    "palette.png": (palette_with_transparency(), "had transparent parts; laid on white"),
    "moving.gif": (frames("GIF"), "has 3 frames or pages; the first is used"),
    "moving.webp": (frames("WEBP"), "has 3 frames or pages; the first is used"),
    "moving.png": (frames("PNG"), "has 3 frames or pages; the first is used"),
    "pages.tif": (frames("TIFF"), "has 3 frames or pages; the first is used"),
    "profile is rubbish.png": (
        encoded(drawn(1), icc_profile=b"rubbish"),
        "its colour profile cannot be used",
    ),
    "profile of another mode.png": (
        encoded(drawn(1), icc_profile=profile("LAB")),
        "its colour profile cannot be used; read as sRGB",
    ),
    "wide.png": (encoded(drawn(1, (160, 40))), "160×40: the centre crop keeps 25% of it; crop it by hand"),
    "tall.png": (encoded(drawn(1, (40, 160))), "40×160: the centre crop keeps 25% of it; crop it by hand"),
    "small.png": (
        encoded(drawn(1, (20, 30))),
        "20×30 is smaller than 32 pixels and is enlarged; find a larger one",
    ),
}


@pytest.mark.parametrize("name", KEPT_AND_NAMED)
def test_is_kept_and_named(corpus, tmp_path, name):
    data, line = KEPT_AND_NAMED[name]
    corpus.add(name, data, split="train")
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert picture_id(name) in rows
    assert len(lines) == 1
    assert lines[0].startswith(f"{name}: {line}")


LEFT_OUT = {
    "empty.png": (b"", "is empty (0 bytes); fetch it again"),
    "cut short.jpg": (JPEG[: len(JPEG) // 2], "damaged or cut short (image file is truncated"),
    "cut short.png": (PNG[: len(PNG) // 2], "damaged or cut short ("),
    "header only.jpg": (JPEG[:20], "is no picture that can be read; export it as JPEG or PNG"),
    "bad checksum.png": (broken_png(), "damaged"),
    "bomb.png": (bomb(), "50000×50000 pixels are more than data.max_megapixels (120); make it smaller"),
    "page.jpg": (
        b"\n<!DOCTYPE html><html>gone</html>",
        "is a web page, not a picture; download the picture itself",
    ),
    "drawing.svg": (b'<?xml version="1.0"?><svg/>', "is an SVG drawing; export it as PNG"),
    "paper.pdf": (b"%PDF-1.7 x", "is a PDF; export its picture as PNG"),
    "print.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is PostScript; export it as PNG"),
    "many.zip": (b"PK\x03\x04xxxx", "is a ZIP archive; unpack it"),
    "film.mp4": (b"\0\0\0\x18ftypisom\0\0\0\0", "is a video; export one frame as PNG"),
    "film.webm": (b"\x1a\x45\xdf\xa3xxxx", "is a video; export one frame as PNG"),
    "pointer.jpg": (
        b"version https://git-lfs.github.com/spec/v1\n",
        "is a Git LFS pointer; run 'git lfs pull'",
    ),
    "text.jpg": (b"not a picture", "is no picture that can be read; export it as JPEG or PNG"),
    "noise.jpg": (bytes(range(256)) * 4, "is no picture that can be read; export it as JPEG or PNG"),
    "tiny.png": (encoded(drawn(1, (15, 400))), "15×400 pixels show nothing; find a larger one"),
    "dot.png": (encoded(drawn(1, (1, 1))), "1×1 pixels show nothing; find a larger one"),
    "white.png": (encoded(Image.new("RGB", (40, 40), "white")), "is one flat colour; replace it"),
    "glass.png": (encoded(Image.new("RGBA", (40, 40))), "is one flat colour; replace it"),
    "height map.tif": (floats(5000.0), "holds numbers without a known range"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_is_left_out_and_named(corpus, tmp_path, name):
    data, line = LEFT_OUT[name]
    corpus.add(name, data)
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert sorted(rows) == ["good_test", "good_train"]
    assert [found for found in lines if found.startswith(f"{name}: {line}")], lines


def test_heic_is_read_where_its_plugin_is_installed_and_named_where_not(corpus, tmp_path):
    corpus.add("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    corpus.write()
    _, lines = run(corpus.folder, tmp_path)
    try:
        import pillow_heif
    except ImportError:
        assert lines == ["phone.heic: is HEIC; run: python -m pip install pillow-heif; or export it as JPEG"]
        return
    pillow_heif.register_heif_opener()
    corpus.add("phone.heic", encoded(drawn(1), "HEIF"), row=False)
    rows, _ = run(corpus.folder, tmp_path)
    assert "phone" in rows


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(orientation):
    upright = drawn(3, (80, 48))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the Transpose that EXIF orientation undoes
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = cut(encoded(stored, "JPEG", quality=98, exif=exif), [(SIDE, SIDE)], 1)
    assert (found.width, found.height) == (80, 48)
    wanted = np.asarray(
        upright.crop((16, 0, 64, 48)).resize((SIDE, SIDE), Image.Resampling.LANCZOS), dtype=float
    )
    assert np.abs(np.asarray(found.picture) - wanted).mean() < 4


def test_large_jpeg_decoded_small_equals_one_decoded_whole():
    picture = drawn(5, (2000, 1500))
    data = encoded(picture, "JPEG", quality=95)
    whole = Image.open(io.BytesIO(data)).crop((250, 0, 1750, 1500)).resize((64, 64), Image.Resampling.LANCZOS)
    difference = np.abs(np.asarray(cut(data, [(64, 64)], 10).picture, dtype=float) - np.asarray(whole))
    assert difference.max() <= 6
    assert difference.mean() < 1


def test_transparent_parts_become_white():
    picture = np.asarray(cut(encoded(glassy("RGBA").crop((0, 0, 40, 40))), [(40, 40)], 1).picture)
    assert (picture[2:10, 2:10] == 255).all()


def test_colour_profile_is_applied():
    """A grey ramp stored with gamma 1 must come out brighter, as the sRGB curve says."""
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    linear = linear_profile()
    found = np.asarray(
        cut(encoded(Image.fromarray(np.dstack([ramp] * 3)), icc_profile=linear), [(64, 64)], 1).picture
    )
    light = ramp / 255.0
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(found[..., 1] - expected).max() < 3


def linear_profile() -> bytes:
    """The sRGB profile with its tone curves replaced by straight lines (written by hand: ICC.1 §10.6)."""
    data = bytearray(profile("sRGB"))
    count = struct.unpack(">I", data[128:132])[0]
    for index in range(count):
        at = 132 + 12 * index
        if data[at : at + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            offset = struct.unpack(">I", data[at + 4 : at + 8])[0]
            data[offset : offset + 12] = b"curv" + bytes(8)
            data[at + 8 : at + 12] = struct.pack(">I", 12)
        if data[at : at + 4] == b"desc":
            offset, size = struct.unpack(">II", data[at + 4 : at + 12])
            data[offset : offset + size] = data[offset : offset + size].replace(
                "sRGB".encode("utf-16-be"), "flat".encode("utf-16-be")
            )
    return bytes(data)


def test_place_and_camera_are_not_carried_on(corpus, tmp_path):
    exif = Image.Exif()
    exif[0x0110] = "SECRET CAMERA"
    exif.get_ifd(0x8825)[1] = "N"
    corpus.add("odd.jpg", encoded(drawn(1), "JPEG", exif=exif, comment=b"SECRET COMMENT"), split="train")
    corpus.write()
    rows, _ = run(corpus.folder, tmp_path)
    assert b"SECRET" not in rows["odd"]["image"]["bytes"]
    assert b"eXIf" not in rows["odd"]["image"]["bytes"]


def test_unusable_bytes_never_escape_as_another_error():
    """Random damage to real files ends in a picture or in one clear line."""
    random = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000"):
        whole = np.frombuffer(encoded(drawn(2), kind), dtype=np.uint8)
        for _ in range(25):
            damaged = whole.copy()
            at = random.integers(0, len(damaged), 4)
            damaged[at] = random.integers(0, 256, 4)
            try:
                found = cut(damaged[: random.integers(1, len(damaged) + 1)].tobytes(), [(SIDE, SIDE)], 1)
            except UnusableError as error:
                assert "\n" not in str(error)
            else:
                assert found.picture.size == (SIDE, SIDE)
                assert found.picture.mode == "RGB"


def test_large_files_and_small_pictures_obey_the_settings(corpus, tmp_path):
    corpus.add("large.png", encoded(drawn(1, (400, 400))), split="train")
    corpus.write()
    _, lines = run(corpus.folder, tmp_path, max_megabytes=0.01, allow_upscale=False)
    size = (corpus.folder / "large.png").stat().st_size / 1e6
    assert lines == [f"large.png: {size:.3g} MB are more than data.max_megabytes (0.01); make it smaller"]
    with pytest.raises(
        UserError, match=r"no usable picture; first: good_test\.png: 48×40 is smaller than 64 pixels"
    ):
        run(corpus.folder, tmp_path, resolution=64, allow_upscale=False, max_megapixels=0.1)
