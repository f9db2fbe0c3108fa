"""Says in one line what is wrong with a setting, and what to write in its place."""

import difflib
import re
from collections.abc import Sequence
from typing import Any

from pipeline_steps.config.base import Section, inside
from pipeline_steps.config.pipeline import PipelineConfig

WATCHING = ("tensorboard", "wandb", "sample_every", "sample_pictures", "checkpoint_every", "checkpoints_kept")
MOVED = {f"train.{name}": f"watch.{name}" for name in WATCHING} | {"score.batch_size": "features.batch_size"}
"""Settings of earlier versions, and what they are called now."""
GONE = {
    "score.bootstrap": "intervals are jackknives now; leave it out",
    "survey.resamples": "intervals are jackknives now; leave it out",
}
"""Settings of earlier versions that nothing takes the place of."""
WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a text",
    "tuple_type": "a list",
    "model_type": "settings",
    "dict_type": "settings",
}
"""What people call the kinds of settings, by pydantic's errors about another kind."""
UNION = ("lax-or-strict[", "function-after[")
"""What pydantic calls the members of a union in the place of keys; nobody wrote it."""


def explain(error: Any) -> str:
    """Return one of pydantic's errors as a line that names the key."""
    path = [part for part in error["loc"] if not str(part).startswith(UNION)]
    key = ".".join(map(str, path)) or "(top level)"
    if error["type"] == "string_pattern_mismatch" and key.endswith(".[key]"):
        return (
            f"{key.removesuffix('.[key]')}: a name has lower-case letters (a–z), digits, _ and -, a letter "
            "first; a culture's own 'name' may have any, e.g. name: Yorùbá"
        )
    if key == "cultures" and error["type"] in ("missing", "too_short"):
        return "cultures: there is none; add yours with python -m pipeline_steps.new_culture"
    if error["type"] == "extra_forbidden":
        return f"{key}: {_unknown(key, path)}"
    given = error["input"]
    shown = "" if error["type"] == "missing" else f" (given: {str(given)[:80]!r})"
    if given is None:
        shown = " (given: nothing)"
    if wanted := WANTED.get(error["type"]):
        return f"{key}: {wanted} must stand here{shown}; {_instead(wanted, given)}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {message[0].lower()}{message[1:]}{shown}"


def _unknown(key: str, path: Sequence[Any]) -> str:
    """Say what became of a setting, how it is written, or which one may be meant."""
    if old := next((old for old in MOVED if key.endswith(old)), None):
        return f"is called {MOVED[old]} now"
    if key in GONE:
        return GONE[key]
    names, name = _names(path[:-1]), str(path[-1])
    words = name.split(".")
    if len(words) > 1 and words[0] in names:
        lines = " / ".join(f"{word}:" for word in words[:-1])
        return (
            f"write each name on a line of its own, indented below the one before: {lines} / {words[-1]}: …"
        )
    if near := difflib.get_close_matches(name.lower(), names, 1):
        return f"no such setting; is {near[0]} meant?"
    homes = [] if path[:-1] else [home for home in names if name in _names([home])]
    return "no such setting" + (f"; indent it below its section ({', '.join(homes)})" if homes else "")


def _names(path: Sequence[Any]) -> Sequence[str]:
    """Return what can be set at a place of the configuration; nothing where that is not known."""
    section: type[Section] | None = PipelineConfig
    for part in path:
        # What is no setting is the name of a culture or the like, whose settings follow.
        if section and (field := section.model_fields.get(str(part))):
            section = inside(field.annotation)
    return list(section.model_fields) if section else []


def _instead(wanted: str, given: Any) -> str:
    """Say what to write where something of another kind was given."""
    text = str(given).strip()
    if wanted == "settings":
        return "write them on the lines below, 'name: value', each line indented by two spaces"
    if wanted == "a list":
        return f"write it in brackets: [{'…' if given is None else text[:80]}]"
    if wanted == "a text":
        return (
            "leave the line out where there is none" if given is None else f'put it in quotes: "{text[:80]}"'
        )
    if wanted == "true or false":
        told = {"yes": "true", "on": "true", "true": "true", "1": "true", "no": "false", "off": "false"}
        return f"write it without quotes: {told.get(text.lower(), 'true or false')}"
    if not (digits := re.match(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", text.lower())):
        return "write digits alone, without quotes"
    number = float(digits[0]) / (100 if wanted == "a number" and text.endswith("%") else 1)
    if number.is_integer() or wanted == "a whole number":
        return f"write digits alone, without quotes: {number:.0f}"
    shown = re.sub(r"^(-?\d+)e", r"\1.0e", str(number))  # YAML takes 1e-05 for a word
    return f"write digits alone, without quotes: {shown}"
