"""What every section of the settings is made of."""

import typing
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
"""What stands in the name of a file or folder."""


def _each_once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = sorted({str(value) for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"named twice: {', '.join(twice)}")
    return values


EachOnce = AfterValidator(_each_once)
"""Marks a list in which nothing may stand twice."""


class Section(BaseModel):
    """Frozen, and strict about keys; a field's docstring is its description in the schema."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


def inside(annotation: Any) -> type[Section] | None:
    """Return the section that a setting holds, by its annotation, if it holds one."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for inner in typing.get_args(annotation) if (found := inside(inner))), None)
