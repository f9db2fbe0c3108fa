"""Pictures as pages hold them: encoded anew, so that nothing but the pixels is left."""

import base64
import io
import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from PIL import Image
from PIL.PngImagePlugin import PngInfo

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


def encode(picture: Image.Image, form: Format = "WEBP", quality: int = 75) -> Encoded:
    """Encode a picture in RGB; a PNG keeps every pixel, whatever the quality."""
    buffer, bare = io.BytesIO(), picture.convert("RGB")
    bare.info.clear()  # Pillow would write comments and colour profiles on
    bare.save(buffer, form, quality=quality, **OPTIONS[form])
    return Encoded(buffer.getvalue(), f"image/{form.lower()}")


def drawn_png(picture: Image.Image, settings: Mapping[str, Any]) -> bytes:
    """Encode a picture that a model drew as a PNG that says how.

    Args:
        picture: the picture.
        settings: "prompt", and whatever else it was drawn with. They stand in the text chunk "scoft" as
            JSON and, for people and programs that show it, in "parameters": the prompt, and a line of the
            others.
    """
    others = ", ".join(f"{name}: {value}" for name, value in settings.items() if name != "prompt")
    note, buffer = PngInfo(), io.BytesIO()
    note.add_itxt("parameters", f"{settings['prompt']}\n{others}")
    note.add_itxt("scoft", json.dumps(dict(settings), sort_keys=True, ensure_ascii=False))
    picture.convert("RGB").save(buffer, "PNG", pnginfo=note)
    return buffer.getvalue()


def thumbnail(cell: Row, side: int, form: Format = "WEBP", quality: int = 75) -> str:
    """Return a cell's picture as text for a page, made smaller where it is larger than ``side`` pixels."""
    picture = decode_picture(cell).convert("RGB")
    if max(picture.size) > side:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return encode(picture, form, quality).uri
