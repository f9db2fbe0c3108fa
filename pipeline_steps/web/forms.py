"""Forms that a page without a script sends."""

from urllib.parse import parse_qs

from fastapi import HTTPException, Request


async def read_form(request: Request, most: int = 10) -> dict[str, list[str]]:
    """Read a form's fields.

    Args:
        request: that carries it.
        most: fields it may have.

    Raises:
        HTTPException: 422, it is none.
    """
    try:
        return parse_qs((await request.body()).decode(), max_num_fields=most)
    except (UnicodeDecodeError, ValueError):
        raise HTTPException(422, "no form of this page") from None
