"""Pictures as cells of a table."""

import io
from typing import Any, cast

import pyarrow as pa
from PIL import Image

from pipeline_steps.artifacts.origin import Row

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""A picture as Hugging Face ``datasets`` stores it: encoded bytes and a file name."""


def encode_picture(picture: Image.Image, name: str) -> dict[str, Any]:
    """Return a picture cell holding a PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": name}


def decode_picture(cell: Row) -> Image.Image:
    """Return a picture cell's picture, loaded, in the mode it was stored."""
    picture = Image.open(io.BytesIO(cell["bytes"]))
    picture.load()
    return picture


def picture_size(cell: Row) -> tuple[int, int]:
    """Return a picture's width and height without decoding it."""
    with Image.open(io.BytesIO(cell["bytes"])) as picture:
        return picture.size


def is_blank(picture: Image.Image) -> bool:
    """Whether a picture is of one colour, as a safety checker or a decode of NaN leaves it."""
    bands = cast("tuple[tuple[int, int], ...]", picture.convert("RGB").getextrema())
    return all(low == high for low, high in bands)
