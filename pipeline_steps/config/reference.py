"""The settings for others to read: a JSON schema for editors and Snakemake, a page for people.

``python -m pipeline_steps.config.reference``, whenever a setting or its sentence has changed.
"""

import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pipeline_steps.config import PipelineConfig, Section
from pipeline_steps.config.base import inside

SCHEMA_FILE = Path("workflow/schemas/config.schema.yaml")
PAGE = Path("docs/settings.md")
HEAD = """# Every setting

`train.batch_size: 1` means, in `config/config.yaml`:

```yaml
train:
  batch_size: 1
```

The defaults are those of the embedded models; presets change them. This page is written from the classes in
`pipeline_steps/config` by `python -m pipeline_steps.config.reference`.
"""
BOUNDS = {
    "ge": "≥",
    "gt": ">",
    "le": "≤",
    "lt": "<",
    "multiple_of": "a multiple of",
    "min_length": "length ≥",
}


def json_schema() -> str:
    """Return the JSON schema of the configuration as text (JSON is YAML)."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **PipelineConfig.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def page() -> str:
    """Return a table of all settings for each section, in the order of their classes."""
    return "\n".join([HEAD, *_section(PipelineConfig, None, "", {})])


def _section(
    section: type[Section], defaults: Any, path: str, known: dict[type[Section], str]
) -> Iterator[str]:
    """Yield a heading and a table, then those of the sections inside; of a class met before, a row."""
    known[section] = path.rstrip(".")
    rows, further = [], []
    for name, field in section.model_fields.items():
        default = getattr(defaults, name, field.default)
        inner = inside(field.annotation)
        if inner and inner not in known:
            named = typing.get_origin(field.annotation) is dict
            known[inner] = f"{path}{name}" + ".<name>" * named
            further.append((inner, default, f"{known[inner]}."))
        else:
            rows.append(_row(f"{path}{name}", field, default, known[inner] if inner else None))
    if path:
        yield f"## `{path.rstrip('.')}`\n\n{' '.join((section.__doc__ or '').split())}\n"
    if rows:
        yield "| setting | default | values | what it is |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    for inner, default, below in further:
        yield from _section(inner, default, below, known)


def _row(key: str, field: FieldInfo, default: Any, like: str | None) -> str:
    shown = "needed" if default is PydanticUndefined else f"`{json.dumps(default, default=_plain)}`"
    values = f"as `{like}`" if like else ", ".join([_values(field.annotation), *_bounds(field.metadata)])
    about = " ".join((field.description or "").split()).replace("<", "&lt;")
    cells = (f"`{key}`", shown, values, about)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _plain(default: Any) -> Any:
    """Return what stands for a default in JSON: of a section what it says itself, of a path its text."""
    return (
        default.model_dump(mode="json", exclude_unset=True) if isinstance(default, Section) else str(default)
    )


def _values(annotation: Any) -> str:
    """Name a type as people do."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin is typing.Annotated:
        return ", ".join([_values(inner[0]), *_bounds(inner[1:])])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_values, inner))
    if origin is tuple:
        return f"a list of {_values(inner[0])}"
    if origin is dict:
        return f"names to {_values(inner[1])}"
    plain = {int: "whole number", float: "number", bool: "true, false", str: "text", Path: "path"}
    return plain.get(annotation, "null" if annotation is types.NoneType else "anything")


def _bounds(metadata: typing.Iterable[Any]) -> Iterator[str]:
    for mark in metadata:
        for name, sign in BOUNDS.items():
            if (bound := getattr(mark, name, None)) is not None:
                yield f"{sign} {bound}"
        yield from _bounds(getattr(mark, "metadata", ()))


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json_schema(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
