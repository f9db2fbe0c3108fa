"""Pictures as pages hold them: encoded anew, so that nothing but the pixels is left."""

import base64
import io
from typing import Any, Literal, NamedTuple

from PIL import Image

from pipeline_steps.artifacts import Row, decode_picture

Format = Literal["PNG", "JPEG", "WEBP"]
OPTIONS: dict[Format, dict[str, Any]] = {"PNG": {}, "JPEG": {"subsampling": 0}, "WEBP": {"method": 4}}
"""What Pillow is told beside the quality."""


class Encoded(NamedTuple):
    """A picture's bytes and their media type."""

    data: bytes
    media_type: str

    @property
    def uri(self) -> str:
        """The picture as text that can stand in a page."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode()}"


def encode(picture: Image.Image, form: Format = "WEBP", quality: int = 82) -> Encoded:
    """Encode a picture in RGB; a PNG keeps every pixel, whatever the quality."""
    buffer, bare = io.BytesIO(), picture.convert("RGB")
    bare.info.clear()  # Pillow would write comments and colour profiles on
    bare.save(buffer, form, quality=quality, **OPTIONS[form])
    return Encoded(buffer.getvalue(), f"image/{form.lower()}")


def thumbnail(cell: Row, side: int, form: Format = "WEBP", quality: int = 82) -> str:
    """Return a cell's picture as text for a page, made smaller where it is larger than ``side`` pixels."""
    picture = decode_picture(cell).convert("RGB")
    if max(picture.size) > side:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return encode(picture, form, quality).uri
