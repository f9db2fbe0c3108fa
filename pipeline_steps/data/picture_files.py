"""From the bytes of a picture file to an sRGB picture of a training size, and what was odd on the way.

Only the bytes count: a name's ending says nothing about what is inside.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, cast

from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from pipeline_steps.data.duplicates import SIDE
from pipeline_steps.errors import first_line

READABLE = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "HEIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM")
"""Formats that are opened. EPS and the like would run other programs, so they are not."""
LEAST_SIDE = 16
"""Pictures with a shorter side below this show nothing."""
WIDE = 3
"""From this ratio of the sides on, a centre crop loses two thirds of the picture."""
SRGB = ImageCms.createProfile("sRGB")
Image.MAX_IMAGE_PIXELS = None
"""Pillow's limit is one for all threads; each caller here has its own, in megapixels."""

_FOREIGN = (
    ((b"<svg", b"<?xml"), "an SVG drawing; export it as PNG"),
    ((b"<!doc", b"<html", b"<head", b"<body"), "a web page, not a picture; download the picture itself"),
    ((b"%pdf",), "a PDF; export its picture as PNG"),
    ((b"%!ps",), "PostScript; export it as PNG"),
    ((b"pk\x03\x04",), "a ZIP archive; unpack it"),
    ((b"version https://git-lfs",), "a Git LFS pointer; run 'git lfs pull'"),
    ((b"\x1a\x45\xdf\xa3".lower(),), "a video; export one frame as PNG"),
)
_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


class UnusableError(Exception):
    """This picture has to be left out; the message says why and how to mend it."""


@dataclass(frozen=True)
class Cut:
    """A training picture cut from its source.

    Attributes:
        picture: RGB, sRGB, of one of the sizes asked for, without any metadata.
        width: of the upright source in pixels.
        height: of the upright source in pixels.
        crop: left, top, right, bottom in upright source pixels.
        format: of the source, e.g. "JPEG".
        small: its central square, 16 × 16 pixels, whatever the training size: duplicates share it.
        oddities: one clause per thing that was decided for the user.
    """

    picture: Image.Image
    small: Image.Image
    width: int
    height: int
    crop: tuple[int, int, int, int]
    format: str
    oddities: list[str] = field(default_factory=list)


Size = tuple[int, int]
"""Width and height in pixels."""


def buckets(side: int) -> list[Size]:
    """Return the sizes of at most side² pixels and sides of at most 1 : 2, in steps of an eighth of the side.

    At 512: 384 × 640, 448 × 576, 512 × 512, and the same lying.
    """
    step = max(8, side // 64 * 8)
    sizes = {(width, side * side // width // step * step) for width in range(step, 2 * side, step)}
    return sorted(size for size in sizes if max(size) <= 2 * min(size))


@dataclass(frozen=True)
class Decoded:
    """A whole picture decoded from its source.

    Attributes:
        picture: RGB, sRGB, upright; smaller than the source where a JPEG was decoded so.
        width: of the upright source in pixels.
        height: of the upright source in pixels.
        format: of the source, e.g. "JPEG".
        oddities: one clause per thing that was decided for the user.
    """

    picture: Image.Image
    width: int
    height: int
    format: str
    oddities: list[str] = field(default_factory=list)


def decode(data: bytes, max_megapixels: float, least: int | None = None) -> Decoded:
    """Decode, turn upright, convert to sRGB and lay on white.

    Args:
        data: the file's bytes.
        max_megapixels: larger pictures are not decoded.
        least: sides of this many pixels suffice: a JPEG is decoded at 1/2, 1/4 or 1/8 of its size, in part of
            the time, where both stay longer.

    Raises:
        UnusableError: the bytes are no readable picture, or one that shows nothing.
    """
    source = _open(data)
    width, height = source.size
    if width * height > max_megapixels * 1e6:
        raise UnusableError(
            f"{width}×{height} pixels are more than data.max_megapixels ({max_megapixels:g}); make it smaller"
        )
    oddities = []
    frames = getattr(source, "n_frames", 1)
    if source.format != "MPO" and frames > 1:
        oddities.append(f"has {frames} frames or pages; the first is used")
    if least:
        source.draft(None, (least, least))
    try:
        source.load()
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise UnusableError(f"damaged or cut short ({first_line(error)}); fetch it again") from error
    upright = _upright(source, oddities)
    if upright.size == source.size[::-1] != source.size:
        width, height = height, width
    if min(width, height) < LEAST_SIDE:
        raise UnusableError(f"{width}×{height} pixels show nothing; find a larger one")
    return Decoded(_to_srgb(upright, oddities), width, height, str(source.format), oddities)


def cut(data: bytes, sizes: Sequence[Size], max_megapixels: float) -> Cut:
    """Decode, turn upright, convert to sRGB, lay on white, centre-crop and resize (Lanczos).

    Args:
        data: the file's bytes.
        sizes: of the result; the one with the nearest ratio of sides is taken.
        max_megapixels: larger pictures are not decoded.

    Raises:
        UnusableError: the bytes are no readable picture, or one that shows nothing.
    """
    # Twice the side keeps Lanczos' quality.
    source = decode(data, max_megapixels, 2 * max(map(max, sizes)))
    rgb, width, height, oddities = source.picture, source.width, source.height, source.oddities
    size = nearest(width, height, sizes)
    crop = centre_crop(width, height, size)
    share = (crop[2] - crop[0]) * (crop[3] - crop[1]) / (width * height)
    if share * WIDE <= 1:
        oddities.append(f"{width}×{height}: the centre crop keeps {share:.0%} of it; crop it by hand")
    scale_x, scale_y = rgb.width / width, rgb.height / height
    box = (crop[0] * scale_x, crop[1] * scale_y, crop[2] * scale_x, crop[3] * scale_y)
    picture = rgb.resize(size, Image.Resampling.LANCZOS, box)
    picture.info.clear()  # colour profile, GPS position and comments end here
    if all(high - low <= 1 for low, high in cast("tuple[tuple[int, int], ...]", picture.getextrema())):
        raise UnusableError("is one flat colour; replace it")
    side, (left, top) = min(rgb.size), centre_crop(*rgb.size, (1, 1))[:2]
    small = rgb.resize((SIDE, SIDE), Image.Resampling.BOX, (left, top, left + side, top + side))
    return Cut(picture, small, width, height, crop, source.format, oddities)


def nearest(width: int, height: int, sizes: Sequence[Size]) -> Size:
    """Return the size with the nearest ratio of sides."""
    return min(sizes, key=lambda size: abs(math.log(size[0] * height / size[1] / width)))


def centre_crop(width: int, height: int, size: Size) -> tuple[int, int, int, int]:
    """Return the largest centred rectangle with the ratio of ``size`` as left, top, right, bottom."""
    scale = min(width / size[0], height / size[1])
    inner_width, inner_height = round(size[0] * scale), round(size[1] * scale)
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    return left, top, left + inner_width, top + inner_height


def misnamed(name: str, kind: str) -> str | None:
    """Return a clause where a file's ending names another format than its bytes have."""
    _register_heif()
    ending = PurePosixPath(name).suffix
    said = Image.registered_extensions().get(ending.lower())
    if said is None or said == kind or {said, kind} == {"JPEG", "MPO"}:
        return None
    return f"is {kind} inside, whatever {ending} says; read as what it is"


def picture_format(data: bytes) -> str:
    """Return the format's name, e.g. "JPEG", from the bytes.

    Raises:
        UnusableError: they are not a picture that can be read.
    """
    return str(_open(data).format)


def _open(data: bytes) -> Image.Image:
    if not data:
        raise UnusableError("is empty (0 bytes); fetch it again")
    Image.init()
    _register_heif()
    formats = [name for name in READABLE if name in Image.OPEN]
    try:
        return Image.open(io.BytesIO(data), formats=formats)
    except Exception as error:
        raise UnusableError(_what_it_is(data, error)) from error


def _register_heif() -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return
    register_heif_opener()


def _what_it_is(data: bytes, error: Exception) -> str:
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if data[4:8] == b"ftyp":
        if data[8:12] in _HEIC:
            return "is HEIC; run: python -m pip install pillow-heif; or export it as JPEG"
        if data[8:12] not in (b"avif", b"avis"):
            return "is a video; export one frame as PNG"
    for signs, what in _FOREIGN:
        if start.startswith(signs):
            return f"is {what}"
    if isinstance(error, UnidentifiedImageError):
        return "is no picture that can be read; export it as JPEG or PNG"
    return f"damaged ({first_line(error)}); fetch it again"


def _upright(source: Image.Image, oddities: list[str]) -> Image.Image:
    try:
        return ImageOps.exif_transpose(source)
    except Exception as error:
        oddities.append(f"its EXIF data cannot be read ({first_line(error)}); not turned")
        return source


def _to_srgb(image: Image.Image, oddities: list[str]) -> Image.Image:
    """Return an RGB picture in sRGB, transparency laid on white."""
    profile = image.info.get("icc_profile")
    image = _eight_bit(image, oddities)
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert("RGB")
    elif image.mode in ("P", "1", "PA", "RGBX"):
        image = image.convert("RGB")
    rgb = _apply_profile(image, profile, oddities)
    if alpha is not None and cast("tuple[int, int]", alpha.getextrema())[0] < 255:
        oddities.append("had transparent parts; laid on white")
        white = Image.new("RGB", rgb.size, "white")
        white.paste(rgb, mask=alpha)
        return white
    return rgb


def _eight_bit(image: Image.Image, oddities: list[str]) -> Image.Image:
    """Return 16-bit, 32-bit and floating-point grey as 8-bit grey; other modes as they are."""
    if not image.mode.startswith(("I", "F")):
        return image
    import numpy as np

    values = np.asarray(image).astype(np.float64)
    high = 1.0 if image.mode == "F" else 65535.0
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > high:
        raise UnusableError("holds numbers without a known range, not grey levels; export it as 8-bit PNG")
    oddities.append("16-bit or floating-point grey; brought to 8 bits")
    return Image.fromarray(np.rint(values * (255 / high)).astype(np.uint8))


def _apply_profile(image: Image.Image, profile: Any, oddities: list[str]) -> Image.Image:
    if profile:
        try:
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if image.mode == "RGB" and "sRGB" in ImageCms.getProfileDescription(own):
                return image
            return cast(Image.Image, ImageCms.profileToProfile(image, own, SRGB, outputMode="RGB"))
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            oddities.append("its colour profile cannot be used; read as sRGB")
    if image.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        return cast(Image.Image, ImageCms.profileToProfile(image, lab, SRGB, outputMode="RGB"))
    return image.convert("RGB")
