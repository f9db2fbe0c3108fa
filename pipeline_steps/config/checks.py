"""Reads a configuration and names every mistake in it, before anything runs."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipeline_steps.config import HUB, HUB_FILE, LINK, Models, PerceptualConfig, PipelineConfig
from pipeline_steps.config.explain import explain
from pipeline_steps.config.pipeline import changed
from pipeline_steps.config.runs import control_run
from pipeline_steps.errors import UserError, first_line
from pipeline_steps.home import HOME, find
from pipeline_steps.inputs.prompts import OWN, prompts_of

if TYPE_CHECKING:
    import yaml

PRESETS = Path("config/presets")
DEEPEST = 20
"""How deep settings are looked into: an anchor of YAML can hold itself."""


def preset_files(raw: dict[str, Any], above: tuple[Path, ...] = ()) -> list[Path]:
    """Return where the presets lie that a configuration names, each after those it names itself.

    A preset of one's own may name the package's of the same name, to begin with what that says.

    Args:
        raw: what the configuration says itself, or a preset.
        above: the presets through which this one was named.

    Raises:
        UserError: there is no such preset, or it names itself.
    """
    names = raw.get("presets") or []
    found: dict[Path, None] = {}
    for name in names if isinstance(names, list) else [names]:
        file = find(PRESETS / f"{name}.yaml")
        if above[-1:] == (file,) and (HOME / file).is_file():
            file = HOME / file
        if file in above:
            circle = ", which names ".join(map(str, [*above[above.index(file) :], file]))
            raise UserError(f"presets: {circle}; leave one of them out")
        if not file.is_file():
            there = {path.stem for folder in (PRESETS, HOME / PRESETS) for path in folder.glob("*.yaml")}
            raise UserError(f"presets: no such preset: {name!r} (there are: {', '.join(sorted(there))})")
        found |= dict.fromkeys([*preset_files(read_settings(file), (*above, file)), file])
    return list(found)


def read_settings(file: Path) -> dict[str, Any]:
    """Return what a configuration or a preset says itself.

    Raises:
        UserError: it cannot be read, or holds no settings.
    """
    import yaml

    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: is not UTF-8; save it as UTF-8") from error
    except yaml.MarkedYAMLError as error:
        raise UserError(f"{file}: {_where(error)}") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{file}: cannot be read as YAML ({first_line(error)})") from error
    if not isinstance(found, dict):
        raise UserError(f"{file}: holds no settings; write one 'name: value' a line")
    if wrong := "; ".join(_unreadable(found)):
        raise UserError(f"{file}: {wrong}")
    return found


def _where(error: "yaml.MarkedYAMLError") -> str:
    """Say where YAML cannot be read: where a bracket or quote opens, if that is what is not closed."""
    opens = re.search("flow|quoted", error.context or "")
    mark = error.context_mark if opens else error.problem_mark
    line = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = str(error.problem or error.context).replace(r"'\t'", "tab")
    mend = (
        "close the bracket or quote that opens there"
        if opens
        else "indent with spaces, each line as its neighbours, and write 'name: value'"
    )
    return f"{line}cannot be read as YAML ({problem}); {mend}"


def over_presets(raw: dict[str, Any], arguments: Iterable[str] = ()) -> dict[str, Any]:
    """Lay a configuration over the presets it names: the later ones win over the earlier, it over all.

    Args:
        raw: the configuration, which stays as it is.
        arguments: of ``--config``, the last word; a section is JSON, or YAML on one line.

    Raises:
        UserError: there is no such preset, or it cannot be read.
    """
    raw = changed(raw, _sections(arguments))
    whole: dict[str, Any] = {}
    for layer in [*map(read_settings, preset_files(raw)), raw]:
        whole = changed(whole, layer)
    return {key: _from_home(value) for key, value in whole.items()}


def _from_home(value: Any, depth: int = 0) -> Any:
    """Return a setting with the paths in it that begin with "~/" written out, as a shell would."""
    if isinstance(value, dict) and depth < DEEPEST:
        return {key: _from_home(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list) and depth < DEEPEST:
        return [_from_home(inner, depth + 1) for inner in value]
    return str(Path(value).expanduser()) if isinstance(value, str) and value.startswith("~/") else value


def doubts(raw: dict[str, Any]) -> Iterator[str]:
    """Name what of the presets is allowed, and hardly meant.

    Args:
        raw: the configuration, laid over its presets and found right.
    """
    alone = {name: over_presets({"presets": [name]}) for name in raw.get("presets", ())}
    for section, setting, key in (("models", "base", "path"), ("train", "perceptual", "extractor")):
        both = [name for name in alone if key in alone[name].get(section, {}).get(setting, {})]
        if len(both) > 1:
            yield f"presets: {' and '.join(both)} say {section}.{setting} each; the last one counts"
    of_real_pictures = any("oracle" in settings.get("models", {}) for settings in alone.values())
    if of_real_pictures and "perceptual" not in raw.get("train", {}):
        yield (
            f"presets: [{', '.join(alone)}] names no training, and that of the drawn world is taken; name "
            "paper or authors as well, e.g. [sd14, authors] or [authors, zimage]"
        )


def _sections(arguments: Iterable[str]) -> dict[str, Any]:
    """Return the sections and lists among ``key=value`` with their types: Snakemake makes them texts."""
    import yaml

    found: dict[str, Any] = {}
    for key, _, value in (argument.partition("=") for argument in arguments):
        if value.lstrip().startswith(("{", "[")):
            for read, wrong in ((json.loads, ValueError), (yaml.safe_load, yaml.YAMLError)):
                with suppress(wrong):
                    found = changed(found, {key: read(value)})
                    break
    return found


def load_config(raw: dict[str, Any], files: Iterable[Path] = (), there: bool = True) -> PipelineConfig:
    """Validate a configuration, files and folders included.

    Types are taken at their word: "5" and true are no numbers.

    Args:
        raw: as read from YAML or JSON.
        files: where it was read from; a key that stands twice in one of them is an error.
        there: look for the files and folders that it names.

    Raises:
        UserError: one message with every mistake, each naming its key.
    """
    mistakes = [*_twice(files), *_unreadable(raw)]
    if not mistakes:
        try:
            config = PipelineConfig.model_validate_json(json.dumps(raw), strict=True)
        except ValidationError as error:
            mistakes = [explain(mistake) for mistake in error.errors()]
        else:
            mistakes = _mistakes(config, there)
            mistakes += list(_mistakes_of_runs(config, mistakes, there))
    if mistakes:
        text = "configuration: " + "; ".join(mistakes)
        raise UserError("".join(c if c.isprintable() else "\ufffd" for c in text))
    return config


def _twice(files: Iterable[Path]) -> Iterator[str]:
    """Name the keys that stand twice in a YAML file: YAML would take the last one in silence."""
    import yaml

    def search(node: yaml.Node | None, path: str, seen: frozenset[int]) -> Iterator[str]:
        if not isinstance(node, yaml.MappingNode) or id(node) in seen:
            return
        keys = [key.value for key, _ in node.value]
        for key in sorted({str(key) for key in keys if keys.count(key) > 1}):
            yield f"{path}{key}: stands twice in {file}; leave one out"
        for key, value in node.value:
            yield from search(value, f"{path}{key.value}.", seen | {id(node)})

    for file in files:
        try:
            yield from search(yaml.compose(file.read_text(encoding="utf-8")), "", frozenset())
        except (OSError, ValueError, yaml.YAMLError):
            continue  # whoever read it has complained already


def _unreadable(value: Any, key: str = "", depth: int = 0) -> Iterator[str]:
    """Name what YAML makes of words that should have stood in quotes, and what JSON cannot carry."""
    name = key or "(top level)"
    if depth > DEEPEST:
        yield f"{name[:60]}…: is nested without an end"
    elif isinstance(value, dict):
        for inner, what in value.items():
            if not isinstance(inner, str):
                yield f"{name}: the key {inner!r} is no text; put it in quotes"
            else:
                yield from _unreadable(what, f"{key}.{inner}".lstrip("."), depth + 1)
    elif isinstance(value, list | tuple):
        for number, what in enumerate(value):
            yield from _unreadable(what, f"{key}.{number}", depth + 1)
    elif isinstance(value, int) and abs(value) >= 2**63:
        yield f"{name}: is too large a number"
    elif isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
        yield f"{name}: holds characters that are no text"
    elif not isinstance(value, str | int | float | None):
        yield f"{name}: {value!r} was read as a {type(value).__name__}; put it in quotes"


def _mistakes(config: PipelineConfig, there: bool) -> list[str]:
    found = [*_contradictions(config), *_address(config), *_prompts(config)]
    return found + list(_missing(config)) if there else found


def _mistakes_of_runs(config: PipelineConfig, known: list[str], there: bool) -> Iterator[str]:
    """Name what a run's own settings make wrong, beside what is known to be wrong without them."""
    for name in config.runs:
        try:
            found = _mistakes(config.of_run(name), there)
        except ValidationError as error:
            found = [explain(mistake) for mistake in error.errors()]
        yield from (f"runs.{name}.{mistake}" for mistake in found if mistake not in known)


def _contradictions(config: PipelineConfig) -> Iterator[str]:
    """Name settings that are right one by one and wrong together."""
    known = ", ".join(sorted(config.cultures))
    study = config.study
    named = {
        "survey.cultures": config.survey.cultures,
        "survey.rounds": tuple(config.survey.rounds),
        "study.length_cultures": study.length_cultures,
        "evaluation.fig7_cultures": config.evaluation.fig7_cultures,
    }
    for name, prompts in config.evaluation.prompt_sets.items():
        named[f"evaluation.prompt_sets.{name}.cultures"] = prompts.cultures
        named[f"evaluation.prompt_sets.{name}.countries"] = tuple(prompts.countries)
    for key, cultures in named.items():
        for unknown in sorted(set(cultures) - config.cultures.keys()):
            yield f"{key}: no such culture: {unknown} (there are: {known})"
    for culture in sorted(set(config.survey.rounds) - set(config.survey.cultures or config.cultures)):
        if culture in config.cultures:
            yield f"survey.rounds: {culture} is none of survey.cultures; name it there too"
    runs = ", ".join(sorted(config.runs)) or "none"
    for key in ("seeds", "controls", "lengths"):
        for unknown in sorted(set(getattr(study, key)) - config.runs.keys()):
            yield f"study.{key}: no such run: {unknown} (there are: {runs})"
    for name, control in study.controls.items():
        for unknown in sorted(set(control.seeds) - set(study.seeds)):
            yield f"study.controls.{name}.seeds: {unknown} is not in study.seeds"
        for taken in sorted({control_run(name, seed) for seed in control.seeds} & config.runs.keys()):
            yield f"runs: {taken} is what the study calls {name} with another seed; give the run another name"
    for name in sorted({name for pair in study.pairs for name in pair} - study.controls.keys()):
        yield f"study.pairs: {name} is not in study.controls"
    for variant in sorted(set(config.survey.variants) - config.survey.simulation.strengths.keys()):
        yield f"survey.simulation.strengths: name a strength for '{variant}', which survey.variants names"
    for key, perceptual in _distances(config).items():
        if perceptual.model is None and not hasattr(config.models, perceptual.extractor):
            yield f"{key}.model: '{perceptual.extractor}' has no entry in models; name its weights here"
    shares = {config.train.perceptual_share, config.train.contrast_share}
    if config.train.perceptual_clip is not None and None not in shares:
        yield (
            "train.perceptual_clip: clips nothing while both gradients are scaled to a share; set "
            "train.perceptual_share or train.contrast_share to null, or leave it out"
        )
    if config.data.aspect == "buckets":
        if config.train.batch_size > 1:
            yield (
                "train.batch_size: pictures of several sizes (data.aspect) are trained on one at a time; "
                "set 1 and raise train.accumulation"
            )
        for key, perceptual in _distances(config).items():
            if perceptual.extractor == "lpips":
                yield f"{key}.extractor: lpips needs pictures of one size (data.aspect: square)"
    if re.search(r"[{}]", str(config.results)):
        yield f"results: braces are Snakemake's wildcards; give a folder without (given: '{config.results}')"


def _address(config: PipelineConfig) -> Iterator[str]:
    """Name an address that nothing here can reach."""
    if config.watch.checkpoints:
        import fsspec

        try:
            fsspec.url_to_fs(config.watch.checkpoints)
        except (ImportError, ValueError) as error:
            yield f"watch.checkpoints: {error} (given: '{config.watch.checkpoints}')"


def _distances(config: PipelineConfig) -> dict[str, PerceptualConfig]:
    """Return every perceptual distance that is configured, by its key."""
    fig7 = config.evaluation.fig7_extractors.items()
    return {
        "train.perceptual": config.train.perceptual,
        **{f"evaluation.fig7_extractors.{name}": perceptual for name, perceptual in fig7},
    }


def _missing(config: PipelineConfig) -> Iterator[str]:
    """Name files and folders that are not there."""
    wanted: dict[str, tuple[str, Path | None]] = {
        "evaluation.prompts": ("file", config.evaluation.prompts),
        "evaluation.coco": ("folder", config.evaluation.coco),
        "evaluation.generic_prompts": ("file", config.evaluation.generic_prompts),
        "cache.generic_captions": ("file", config.cache.generic_captions),
        "survey.translations": ("file", config.survey.translations),
        "survey.codes": ("file", config.survey.codes),
        **{
            "survey.wording" + f".{number}" * bool(number): ("file", path)
            for number, path in enumerate(config.survey.wordings)
        },
    }
    for name, prompts in config.evaluation.prompt_sets.items():
        if not HUB_FILE.fullmatch(str(prompts.path)):
            wanted[f"evaluation.prompt_sets.{name}.path"] = ("file", prompts.path)
    for name, culture in config.cultures.items():
        wanted |= {
            f"cultures.{name}.images": (
                "folder or file",
                None if str(culture.images).startswith(HUB) else culture.images,
            ),
            f"cultures.{name}.prompts": ("file", culture.prompts),
            f"cultures.{name}.withdrawn": ("file", culture.withdrawn),
        }
        own = culture.own_list
        lists = {
            find(path).resolve()
            for path in (culture.withdrawn, own)
            if path and _is_there(find(path), "file")
        }
        if culture.withdrawn and len(lists) > 1:
            yield (
                f"cultures.{name}.withdrawn: is {culture.withdrawn}, and the pictures' folder has a list of "
                f"its own, {own}; put all lines into that one, and leave the setting out"
            )
    models = {f"models.{role}": getattr(config.models, role) for role in Models.model_fields}
    models |= {f"{key}.model": perceptual.model for key, perceptual in _distances(config).items()}
    for key, ref in models.items():
        if ref is not None and _is_local(ref.path):
            wanted[f"{key}.path"] = ("folder or file", Path(ref.path))
    for key, (kind, path) in wanted.items():
        if path is not None and not _is_there(find(path), kind):
            yield f"{key}: no such {kind}: {path}"


def _prompts(config: PipelineConfig) -> Iterator[str]:
    """Name prompts that cannot be read, and those that draw too few pictures for a score."""
    given = {f"cultures.{name}.prompts": culture.prompts for name, culture in config.cultures.items()}
    given |= {
        "evaluation.prompts": config.evaluation.prompts,
        "evaluation.generic_prompts": config.evaluation.generic_prompts,
    }
    for key, path in given.items():
        if path is not None and _is_there(find(path), "file"):
            yield from _too_few(key, find(path), config.sample.images_per_prompt)
    listed = config.cache.generic_captions
    if listed and _is_there(find(listed), "file"):
        try:
            prompts_of(find(listed))
        except UserError as error:
            yield f"cache.generic_captions: {error}"
    for name, prompts in config.evaluation.prompt_sets.items():
        key, path = f"evaluation.prompt_sets.{name}", find(prompts.path)
        if HUB_FILE.fullmatch(str(prompts.path)) or not _is_there(path, "file"):
            continue
        each = prompts.images_per_prompt or config.sample.images_per_prompt
        for culture in prompts.cultures or config.cultures:
            if culture in config.cultures:
                spellings = prompts.spellings(culture, config.cultures[culture].name)
                yield from _too_few(key, path, each, prompts.named, spellings, prompts.most)


def _too_few(
    key: str,
    path: Path,
    each: int,
    columns: Mapping[str, str] = OWN,
    country: Sequence[str] = (),
    most: int | None = None,
) -> Iterator[str]:
    """Name prompts that cannot be read, or of which fewer than two pictures are drawn."""
    try:
        count = len(prompts_of(path, columns, country, most))
    except UserError as error:
        where = f"; say what it is called there under {key}.countries, or leave it out of {key}.cultures"
        yield f"{key}: {error}{where if 'no prompts of' in str(error) else ''}"
    else:
        if count * each < 2:
            yield f"{key}: {path} draws one picture, and scores need two; write more prompts"


def _is_there(path: Path, kind: str) -> bool:
    try:
        return path.is_file() if kind == "file" else path.is_dir() or (kind != "folder" and path.exists())
    except OSError:  # too long a name, or not ours to look at
        return False


def _is_local(path: str) -> bool:
    """Tell a folder from a link and from a hub id: a name or an owner and a name, and perhaps a commit."""
    if LINK.fullmatch(path):
        return False
    parts = Path(path.partition("@")[0]).parts
    return path.startswith((".", "/", "~", "@")) or len(parts) > 2 or _is_there(Path(parts[0]), "folder")
