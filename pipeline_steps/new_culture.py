"""A new culture, or any group: its entry in the configuration and a folder to fill."""

import json
import re
from pathlib import Path

import yaml
from pydantic import ValidationError

from pipeline_steps import artifacts
from pipeline_steps.cli import LOG, run_step
from pipeline_steps.config import PipelineConfig
from pipeline_steps.config.checks import preset_files, read_settings
from pipeline_steps.config.explain import explain
from pipeline_steps.errors import UserError

README = """\
# Pictures of {name}

1. Put the pictures into `pictures/`: JPEG, PNG, WebP, AVIF, TIFF; any size from the training resolution up.
2. Write one line per picture into `metadata.csv`. The first two columns are needed, the others are not:

   | column | what |
   |---|---|
   | file_name | e.g. `pictures/market.jpg` |
   | text | one hand-written sentence, e.g. "a market at dawn{suffix}" |
   | split | `train` or `test`; empty: drawn |
   | category, era | e.g. "food and drink", "traditional" or "modern" |
   | contributor | who brought it (a name or a number) |
   | source, author, licence | where it is from, who made it, under which terms |
   | consent | e.g. "given in writing"; "refused" leaves the picture out |

   Any further column is kept beside them. Put a caption that holds commas in quotes, or what follows a comma
   is taken for the next column: `pictures/market.jpg,"a market at dawn{suffix}"`.
3. `withdrawn.txt` lists, one file name a line, what people ask you to take out.

Faces and private data: whether they may be here is your decision, and that of the people shown.
"""
HEADER = "file_name,text,split,category,era,contributor,source,author,licence,consent\n"
WITHDRAWN = "# One file name or image id a line; these pictures are left out from the next run on.\n"


def new_culture(
    name: str, suffix: str, folder: Path | None = None, config: Path = Path("config/config.yaml")
) -> None:
    """Add an entry to the configuration, comments kept, and write an annotated folder skeleton.

    Args:
        name: lower-case letters, digits, _ and -; it becomes a folder of the results.
        suffix: appended to prompts, e.g. ", in Wales".
        folder: where the pictures will lie; by default data/<name>. What is there stays.
        config: the configuration to add to.

    Raises:
        UserError: the name is taken or not allowed, or the configuration cannot be added to.
    """
    folder = folder or Path("data") / name
    entry = {
        "suffix": suffix,
        "images": folder.as_posix(),
        "withdrawn": (folder / "withdrawn.txt").as_posix(),
    }
    try:
        PipelineConfig.model_validate({"cultures": {name: entry}})
    except ValidationError as error:
        raise UserError("; ".join(map(explain, error.errors()))) from error
    text = _with_entry(config, name, entry)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    skeleton = {
        "README.md": README.format(name=name, suffix=suffix),
        "metadata.csv": HEADER,
        "withdrawn.txt": WITHDRAWN,
    }
    for file, contents in skeleton.items():
        captions_there = file == "metadata.csv" and any(folder.glob("metadata.*"))
        if not (folder / file).exists() and not captions_there:
            artifacts.write_text(folder / file, contents)
    artifacts.write_text(config, text)
    LOG.info("added '%s' to %s; now fill %s (its README.md says how)", name, config, folder)


def _with_entry(config: Path, name: str, entry: dict[str, str]) -> str:
    """Return the configuration's text with the entry after the last culture."""
    if not config.exists():
        raise UserError(
            f"{config}: no such file; go into your project's folder, or make one with: python -m "
            "pipeline_steps.new_project FOLDER"
        )
    before, text = read_settings(config), config.read_text(encoding="utf-8")
    cultures = before.get("cultures") or {}
    if name in cultures:
        raise UserError(f"{config}: cultures.{name} is there already; choose another name")
    for preset in preset_files(before):
        if name in (read_settings(preset).get("cultures") or {}):
            raise UserError(
                f"{preset}: cultures.{name} is there already; choose another name, or take '{preset.stem}' "
                f"out of 'presets' in {config}"
            )
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if re.match(r"cultures:\s*(#.*)?$", line)), None)
    if start is None and "cultures" not in before:
        lines, start = [*lines, "", "cultures:"], len(lines) + 1
    if start is not None:
        at, indent = _end_of_block(lines, start)
        key = name if yaml.safe_load(name) == name else json.dumps(name)
        added = [f"{indent}{key}:"] + [
            f"{indent}{indent}{setting}: {json.dumps(value, ensure_ascii=False)}"
            for setting, value in entry.items()
        ]
        text = "\n".join([*lines[:at], *added, *lines[at:]]) + "\n"
    if start is None or yaml.safe_load(text) != before | {"cultures": {**cultures, name: entry}}:
        raise UserError(f"{config}: 'cultures' is not written one entry a line; add '{name}' by hand")
    return text


def _end_of_block(lines: list[str], start: int) -> tuple[int, str]:
    """Return the line after the last entry below ``start``, and the entries' indentation."""
    end, indent = start + 1, "  "
    for i, line in enumerate(lines[start + 1 :], start + 1):
        body = line.lstrip()
        if body and not body.startswith("#"):
            if not line.startswith(" "):
                break
            if end == start + 1:
                indent = line[: len(line) - len(body)]
            end = i + 1
    return end, indent


if __name__ == "__main__":
    run_step(new_culture)
