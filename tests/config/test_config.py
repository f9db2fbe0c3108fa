"""Wrong configurations end before any job, in one message that names the key; right ones are taken."""

import difflib
import json
import math
import os
import random
import subprocess
import sys
import types
import typing
from collections import Counter
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from annotated_types import Ge, Gt, Le, Lt, MinLen, MultipleOf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from snakemake.utils import update_config

from pipeline_steps import config as module
from pipeline_steps.config import Culture, PipelineConfig, Section
from pipeline_steps.config import reference as config_reference
from pipeline_steps.config.checks import doubts, load_config, over_presets, preset_files
from pipeline_steps.errors import UserError
from tests import ROOT

CULTURE = {"suffix": ", in korea", "images": "resources/mini/ccub/korea"}


def whole(**changes):
    """The smallest right configuration, changed."""
    return {"cultures": {"korea": dict(CULTURE)}} | changes


def refused(raw, files=()):
    """Return the message with which a configuration is refused."""
    with pytest.raises(UserError) as error:
        load_config(raw, files)
    message = str(error.value)
    assert "\n" not in message and "Traceback" not in message
    return message


@pytest.mark.parametrize(
    ("file", "write"),
    [
        (config_reference.SCHEMA_FILE, config_reference.json_schema),
        (config_reference.PAGE, config_reference.page),
    ],
)
def test_the_reference_is_that_of_the_classes(file, write):
    stored = (ROOT / file).read_text(encoding="utf-8").splitlines()
    found = difflib.unified_diff(
        stored, write().splitlines(), str(file), "pipeline_steps/config.py", lineterm=""
    )
    diff = "\n".join(found)
    assert not diff, f"{diff}\n\nmend it with:  python -m pipeline_steps.config.reference"


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"train": {"tensorboard": False}}, "train.tensorboard: is called watch.tensorboard now"),
        ({"score": {"batch_size": 2}}, "score.batch_size: is called features.batch_size now"),
        ({"survey": {"resamples": 200}}, "survey.resamples: intervals are jackknives now; leave it out"),
        (
            {"runs": {"long": {"train": {"checkpoint_every": 9}}}},
            "runs.long.train.checkpoint_every: is called watch.checkpoint_every now",
        ),
    ],
)
def test_a_setting_of_an_earlier_version_is_answered_with_what_became_of_it(settings, line):
    assert line in refused(whole(**settings))


@pytest.mark.parametrize(
    ("text", "said", "right"),
    [
        ("train: {updates: 1.0e3}", "a whole number must stand here", "1000"),
        ("data: {resolution: 512px}", "a whole number must stand here", "512"),
        ("data: {test_share: 20%}", "a number must stand here", "0.2"),
        ("train: {learning_rate: '1e-5'}", "a number must stand here", "1.0e-05"),
        ("sample: {offload: 'yes'}", "true or false must stand here", "true"),
        ("survey: {cultures: korea}", "a list must stand here", "[korea]"),
        ("presets: 'sd14'", "a list must stand here", "[sd14]"),
        ("container: 5", "a text must stand here", '"5"'),
    ],
)
def test_what_is_to_be_written_in_the_place_of_another_kind_is_right(text, said, right):
    """What the message proposes is taken."""
    raw = yaml.safe_load(text)
    message = refused(whole() | raw)
    assert said in message and message.endswith(f": {right}")
    (key, value), path = next(iter(raw.items())), []
    while isinstance(value, dict):
        path, (key, value) = [*path, key], next(iter(value.items()))
    mended: dict = {}
    put(mended, (*path, key), yaml.safe_load(right))
    load_config(whole() | mended)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train.batch_size: 1", "indented below the one before: train: / batch_size: …"),
        (
            "train:\nbatch_size: 1",
            "train: settings must stand here (given: nothing); write them on the lines",
        ),
        ("train:\nupdates: 1", "updates: no such setting; indent it below its section (train)"),
        ("train: {batchsize: 1}", "train.batchsize: no such setting; is batch_size meant?"),
        ("Train: {batch_size: 1}", "Train: no such setting; is train meant?"),
        ("preset: [sd14]", "preset: no such setting; is presets meant?"),
        ("cultures: wales", "cultures: settings must stand here"),
        ("cultures: {wales: {sufix: x}}", "cultures.wales.sufix: no such setting; is suffix meant?"),
        (
            "evaluation: {coco: null}",
            "evaluation.coco: a text must stand here (given: nothing); leave the line",
        ),
        ("survey: {wording: 5}", "survey.wording: a text must stand here"),
    ],
)
def test_the_setting_that_is_meant_is_named(text, said):
    assert said in refused(whole() | yaml.safe_load(text))


def test_a_path_may_begin_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    korea = CULTURE | {"images": "~/Pictures", "suffix": "~ , in korea"}
    raw = {"results": "~/scoft", "cultures": {"korea": korea}, "survey": {"wording": ["~/a.yaml", "b~/c"]}}
    found = over_presets(raw)
    assert found["results"] == "/home/ann/scoft"
    assert found["cultures"]["korea"] == CULTURE | {"images": "/home/ann/Pictures", "suffix": "~ , in korea"}
    assert found["survey"]["wording"] == ["/home/ann/a.yaml", "b~/c"]
    raw["survey"]["wording"] = raw  # an anchor of YAML that holds itself
    with pytest.raises(UserError, match="nested without an end"):
        load_config(over_presets(raw))


@pytest.mark.parametrize(
    ("presets", "said"),
    [
        ("sd14", ["presets: [sd14] names no training", "paper or authors as well"]),
        ("sd14 sdxl authors", ["presets: sd14 and sdxl say models.base each"]),
        ("sd14 paper authors", ["presets: paper and authors say train.perceptual each"]),
        ("sd14 authors", []),
        ("authors zimage", []),
        ("drawn", []),
        ("drawn_flow", []),
    ],
)
def test_presets_that_are_hardly_meant_are_named(presets, said):
    found = " ".join(doubts(over_presets({"presets": presets.split()})))
    assert all(words in found for words in said) and bool(found) == bool(said)


def test_every_setting_has_a_sentence_and_a_default():
    def walk(section, path):
        for name, field in section.model_fields.items():
            assert field.description, f"{path}{name}: no docstring"
            if (
                section not in (module.Culture, module.ModelRef, module.BaseRef, module.PromptSet)
                and name != "cultures"
            ):
                assert not field.is_required(), f"{path}{name}: no default"
            for inner in sections(field.annotation):
                walk(inner, f"{path}{name}.")

    walk(PipelineConfig, "")


def test_the_shipped_configurations_are_right():
    base = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    assert base["presets"] == ["drawn"]
    base |= yaml.safe_load((ROOT / "config/presets/drawn.yaml").read_text())
    load_config(base)
    for preset in sorted((ROOT / "config/presets").glob("*.yaml")):
        whole = deepcopy(base)
        update_config(whole, over_presets(yaml.safe_load(preset.read_text())))
        PipelineConfig.model_validate_json(json.dumps(whole), strict=True)


def test_a_preset_comes_after_those_it_names_itself():
    names = [path.stem for path in preset_files({"presets": ["sd15", "authors", "sd14"]})]
    assert names == ["real", "sd15", "authors", "sd14"]
    assert preset_files({"presets": "sd14"}) == preset_files({"presets": ["sd14"]}), "one alone"
    with pytest.raises(UserError, match=r"presets: no such preset: 'sd16' .*sd15"):
        preset_files({"presets": ["sd16"]})


def test_a_preset_may_begin_with_the_packages_of_its_name_and_a_circle_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("config/presets")
    folder.mkdir(parents=True)
    (folder / "paper.yaml").write_text("presets: [paper]\nseed: 7\n")
    assert preset_files({"presets": ["paper"]})[-2:] == [ROOT / folder / "paper.yaml", folder / "paper.yaml"]
    assert over_presets({"presets": "paper"})["seed"] == 7
    (folder / "one.yaml").write_text("presets: [other]\n")
    (folder / "other.yaml").write_text("presets: [one]\n")
    for name, others in (("one", f"{folder}/other.yaml, which names "), ("mine", "")):
        (folder / "mine.yaml").write_text("presets: [mine]\n")
        with pytest.raises(UserError) as error:
            preset_files({"presets": name})
        file = f"{folder}/{name}.yaml"
        assert str(error.value) == f"presets: {file}, which names {others}{file}; leave one of them out"


@pytest.mark.parametrize(
    "text, line",
    [
        ("a: [", "line 1, column 5: cannot be read as YAML"),
        ("- a\n", "holds no settings"),
        ("a: 2026-01-01\n", "a: datetime.date"),
        ("a: [1\nb: 2\n", "line 1, column 4: cannot be read as YAML .*close the bracket or quote that opens"),
        ("a: 1\nb: 'x\nc: 2\n", "line 2, column 4: cannot be read as YAML .*close the bracket or quote"),
        ("a:\n\tb: 1\n", "line 2, column 1: cannot be read as YAML .*tab.*indent with spaces"),
        ("é: 1".encode("utf-16"), "is not UTF-8; save it as UTF-8"),
    ],
)
def test_a_preset_that_is_none_is_named(tmp_path, monkeypatch, text, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config/presets").mkdir(parents=True)
    file = tmp_path / "config/presets/mine.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=rf"config/presets/mine.yaml: {line}"):
        over_presets({"presets": "mine"})


# --- drawn at random --------------------------------------------------------------------------


def sections(annotation):
    """The setting classes inside a field's type."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [found for inner in typing.get_args(annotation) for found in sections(inner)]


def leaves(section=PipelineConfig, path=()):
    """Every setting that holds no further section, as (path, field)."""
    for name, field in section.model_fields.items():
        if name == "cultures" and section is PipelineConfig:
            yield from leaves(module.Culture, ("cultures", "korea"))
        elif inner := sections(field.annotation):
            named = typing.get_origin(field.annotation) is dict  # sections by names of the user's
            yield from leaves(inner[0], (*path, name, "some") if named else (*path, name))
        else:
            yield (*path, name), field


LEAVES = dict(leaves())


def kinds(annotation):
    """The plain types a setting may have; a literal counts as its words."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return kinds(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [kind for inner in typing.get_args(annotation) for kind in kinds(inner)]
    if origin is typing.Literal:
        return [str]
    return [origin or annotation]


def bounds(field):
    """The limits of a setting."""
    found = list(field.metadata)
    for inner in typing.get_args(field.annotation):  # Annotated inside Optional
        found += getattr(inner, "__metadata__", ())
    for info in [item for item in found if hasattr(item, "metadata")]:
        found += info.metadata
    return found


def outside(field):
    """Values of the right type beyond the limits."""
    for limit in bounds(field):
        match limit:
            case Ge(ge=low):
                yield low - 1
            case Gt(gt=low):
                yield low
            case Le(le=high):
                yield high + 1
            case Lt(lt=high):
                yield high
            case MultipleOf(multiple_of=step):
                yield 10 * step + 1
            case MinLen() if list not in kinds(field.annotation):
                yield [] if tuple in kinds(field.annotation) or dict in kinds(field.annotation) else ""
    if float in kinds(field.annotation):
        yield from (math.nan, math.inf, -math.inf)
    if typing.get_origin(field.annotation) is typing.Literal:
        yield "no such choice"


def of_another_type(field):
    """Values of every type that the setting does not take."""
    taken = kinds(field.annotation)
    others = {
        str: ["5", "yes", "1e-4", "\x00\u202e"] if not {str, Path} & set(taken) else [],
        bool: [True] if bool not in taken else [],
        int: [3] if not {int, float} & set(taken) else [],
        float: [2.5] if float not in taken else [],
        list: [[1, [2]]] if tuple not in taken else ["ab", 7],
        dict: [{"a": 1}] if dict not in taken else [[["a", 1]]],
        type(None): [None] if type(None) not in taken else [],
    }
    return [value for values in others.values() for value in values]


def put(raw, path, value):
    for part in path[:-1]:
        raw = raw.setdefault(part, {})
    raw[path[-1]] = value


@st.composite
def mistakes(draw):
    """One mistake: what was done, where, and the part of the key the message must name."""
    path = draw(st.sampled_from(sorted(LEAVES)))
    field = LEAVES[path]
    far = list(outside(field))
    what = draw(st.sampled_from(["type", "unknown", "key"] + ["range"] * 2 * bool(far)))
    if what == "range":
        return what, path, draw(st.sampled_from(far)), path
    if what == "type":
        return what, path, draw(st.sampled_from(of_another_type(field))), path
    if what == "unknown":
        name = draw(st.text(min_size=1, max_size=12).filter(lambda text: text not in path))
        wrong = (*path[:-1], path[-1] + name) if draw(st.booleans()) else (*path, name)
        return what, wrong, draw(st.sampled_from([1, "x", None, {}])), wrong[: len(path) - 1]
    return what, (*path[:-1], draw(st.sampled_from([1, 2.5, None, True, False]))), 1, path[:-1]


SEEN: Counter[str] = Counter()


@settings(max_examples=1200, suppress_health_check=list(HealthCheck))
@given(st.lists(mistakes(), min_size=1, max_size=3, unique_by=lambda mistake: mistake[1]))
def test_wrong_configurations_are_refused_and_the_key_is_named(drawn):
    raw = whole()
    for _, path, value, _ in drawn:
        try:
            put(raw, path, value)
        except (AttributeError, TypeError):
            return  # two mistakes in one place
    message = refused(raw)
    named = [mistake for mistake in drawn if ".".join(map(str, mistake[3])) in message]
    assert named, message
    SEEN.update(["configurations", *(mistake[0] for mistake in drawn)])


def test_a_thousand_were_drawn_of_every_kind():
    if SEEN:
        assert SEEN["configurations"] >= 1000
        assert min(SEEN[what] for what in ("type", "range", "unknown", "key")) >= 50


def inside(field, rng):
    """A value within the limits; None where none can be told."""
    kind, low, high, step = kinds(field.annotation)[0], -1000.0, 1000.0, 1
    if typing.get_origin(field.annotation) is typing.Literal:
        return rng.choice(typing.get_args(field.annotation))
    for limit in bounds(field):
        match limit:
            case Ge(ge=value):
                low = value
            case Gt(gt=value):
                low = value + (1e-9 if kind is float else 1)
            case Le(le=value):
                high = value
            case Lt(lt=value):
                high = value - (1e-9 if kind is float else 1)
            case MultipleOf(multiple_of=value):
                step = value
    if kind is bool:
        return rng.random() < 0.5
    if kind is int:
        return rng.choice([low, max(low, min(high, low + 5 * step)), high]) // step * step
    if kind is float:
        return rng.choice([low, high, (low + high) / 2])
    return None


@settings(max_examples=200)
@given(st.integers(0, 2**32))
def test_right_configurations_are_taken(seed):
    rng = random.Random(seed)
    raw = whole()
    for path in rng.sample(sorted(LEAVES), 12):
        value = inside(LEAVES[path], rng)
        if value is not None and path[-1] not in ("country", "warmup", "extractor"):
            put(
                raw,
                path,
                int(value) if isinstance(value, float) and int in kinds(LEAVES[path].annotation) else value,
            )
    train = raw.get("train", {})
    if all(train.get(f"weight_{part}", 1) == 0 for part in ("ldm", "m", "p", "c")):
        train["weight_ldm"] = 1.0
    if "perceptual_clip" in train:
        train["contrast_share"] = None  # a gradient that has a share is not clipped
    if raw.get("data", {}).get("aspect") == "buckets":
        raw.setdefault("train", {})["batch_size"] = 1
    for key in raw.get("models", {}):
        raw["models"][key].setdefault("path", "resources/mini/clip")
    if "vae" in raw.get("models", {}).get("base", {}):
        raw["models"]["base"]["vae"].setdefault("path", "resources/mini/base/vae")
    if control := raw.get("study", {}).get("controls", {}).pop("some", None):
        raw["study"]["controls"]["other"] = {"variant": control.get("variant", "dpo")}
        raw["runs"] = {"other": {}}
    some = raw.get("evaluation", {}).get("fig7_extractors", {}).get("some", {})
    for perceptual in (raw.get("train", {}).get("perceptual", {}), some):
        if "model" in perceptual:
            perceptual["model"].setdefault("path", "resources/mini/clip")
    for prompts in raw.get("evaluation", {}).get("prompt_sets", {}).values():
        prompts.setdefault("path", "resources/prompts/mini_generic.txt")
        prompts["images_per_prompt"] = 2
    assert holds(load_config(raw).model_dump(mode="json"), raw)


def holds(taken, given) -> bool:
    """Whether every value that was given was taken as it is."""
    if isinstance(given, dict):
        return all(holds(taken[key], value) for key, value in given.items())
    return taken == (list(given) if isinstance(given, tuple) else given)


# --- by name ----------------------------------------------------------------------------------

MISSING = {
    "cultures.korea.images": {"cultures": {"korea": CULTURE | {"images": "nowhere"}}},
    "cultures.korea.prompts": {"cultures": {"korea": CULTURE | {"prompts": "resources"}}},
    "cultures.korea.withdrawn": {"cultures": {"korea": CULTURE | {"withdrawn": "no\0where"}}},
    "survey.wording": {"survey": {"wording": "n" * 300}},
    "evaluation.coco": {"evaluation": {"coco": "README.md"}},
    "evaluation.generic_prompts": {"evaluation": {"generic_prompts": "nowhere.txt"}},
    "cache.generic_captions": {"cache": {"generic_captions": "nowhere.txt"}},
    "models.base.path": {"models": {"base": {"path": "resources/mini/bass"}}},
    "train.perceptual.model.path": {"train": {"perceptual": {"model": {"path": "./clip"}}}},
    "runs.x.train.perceptual.model.path": {
        "runs": {"x": {"train": {"perceptual": {"model": {"path": "./clip"}}}}}
    },
}
CONTRADICTIONS = {
    "survey.cultures: no such culture: wales": {"survey": {"cultures": ["wales"]}},
    "train.perceptual_clip: clips nothing": {"train": {"perceptual_clip": 1.0}},
    "survey.rounds: korea is none of survey.cultures": {
        "cultures": {"korea": CULTURE, "wales": CULTURE},
        "survey": {"cultures": ["wales"], "rounds": {"korea": "0123abcd"}},
    },
    "survey.cultures: named twice: korea": {"survey": {"cultures": ["korea", "korea"]}},
    "survey.variants: named twice: sd": {"survey": {"variants": ["sd", "sd"]}},
    "score.variants: named twice": {"score": {"variants": ["sd", "sd"]}},
    "report.include: named twice": {"report": {"include": ["fig6", "fig6"]}},
    "survey.simulation.strengths: name a strength for 'ldm'": {"survey": {"variants": ["sd", "ldm"]}},
    "survey.simulation.strengths: no such variant": {"survey": {"simulation": {"strengths": {"best": 1.0}}}},
    "evaluation.fig7_cultures: no such culture: china": {"evaluation": {"fig7_cultures": ["china"]}},
    "study.length_cultures: no such culture: wales": {"study": {"length_cultures": ["wales"]}},
    "study.lengths: no such run: half (there are: none)": {"study": {"lengths": ["half"]}},
    "study.controls: no such run: none_such (there are: none)": {"study": {"controls": {"none_such": {}}}},
    "study.pairs: y is not in study.controls": {
        "runs": {"x": {}, "y": {}},
        "study": {"controls": {"x": {}}, "pairs": [["x", "y"]]},
    },
    "study.controls.x.seeds: y is not in study.seeds": {
        "runs": {"x": {}, "y": {}},
        "study": {"controls": {"x": {"seeds": ["y"]}}},
    },
    "runs: x_y is what the study calls x with another seed": {
        "runs": {"x": {}, "y": {}, "x_y": {}},
        "study": {"seeds": ["y"], "controls": {"x": {"seeds": ["y"]}}},
    },
    "train.perceptual.model: 'lpips' has no entry": {"train": {"perceptual": {"extractor": "lpips"}}},
    "runs.x.train.perceptual.model: 'lpips' has no entry": {
        "runs": {"x": {"train": {"perceptual": {"extractor": "lpips"}}}}
    },
    "runs.x.train.batch_size: pictures of several sizes": {
        "data": {"aspect": "buckets"},
        "train": {"batch_size": 1},
        "runs": {"x": {"train": {"batch_size": 2}}},
    },
    "train: warmup (300) must be smaller than updates (300)": {"train": {"warmup": 300, "updates": 300}},
    "train: all loss weights are 0": {
        "train": dict.fromkeys(["weight_ldm", "weight_m", "weight_p", "weight_c"], 0)
    },
    "cultures.korea: country: only a table of links": {"cultures": {"korea": CULTURE | {"country": "KR"}}},
    "cultures.korea.suffix: must be one line": {"cultures": {"korea": CULTURE | {"suffix": " ,\n"}}},
    "cultures.korea.suffix: would be joined to the last word of a prompt; write ', in Korea'": {
        "cultures": {"korea": CULTURE | {"suffix": "in Korea"}}
    },
    "results: braces are Snakemake's wildcards": {"results": "results/{x}"},
    "cultures: the key False is no text; put it in quotes": {"cultures": {False: CULTURE}},
    "cultures.korea.suffix: datetime.date(2020, 1, 2) was read as a date": {
        "cultures": {"korea": CULTURE | {"suffix": yaml.safe_load("2020-01-02")}}
    },
    "train.learning_rate: a number must stand here (given: '1e-4'); write digits alone": {
        "train": yaml.safe_load("learning_rate: 1e-4")
    },
    "seed: is too large a number": {"seed": 2**80},
}


@pytest.mark.parametrize("suffix", ["in Wales", "в Уэльсе", "في مصر", "भारत में", "한국에서", "2nd", "Ελλάδα"])
def test_a_suffix_is_parted_from_the_prompt_where_its_script_parts_words(suffix):
    with pytest.raises(ValidationError, match=f"write ', {suffix}'"):
        Culture(suffix=suffix, images="pictures")
    for mark in (", ", " ", "، ", "–"):
        assert Culture(suffix=mark + suffix, images="pictures").suffix == mark + suffix


@pytest.mark.parametrize(
    "suffix", ["在韩国", "の日本", "ニッポンの", "ｶﾝｺｸ", "ในไทย", "ໃນລາວ", "နိုင်ငံ", "、日本", "（日本）"]
)
def test_a_suffix_in_a_script_without_spaces_stays_as_it_is(suffix):
    assert Culture(suffix=suffix, images="pictures").suffix == suffix


@pytest.mark.parametrize(
    ("words", "raw"), (MISSING | CONTRADICTIONS).items(), ids=lambda value: str(value)[:40]
)
def test_contradictions_and_missing_files_are_named(words, raw):
    assert words in refused(whole() | raw)


NAMES = [
    "a b",
    "$(touch x)",
    "..",
    "a/b",
    "Korea",
    "",
    "-x",
    "k" * 65,
    "한국",
    "a\nb",
    "{x}",
    *module.RESERVED,
]


def test_a_run_does_not_repeat_what_is_wrong_without_it():
    message = refused(whole(survey={"wording": "nowhere"}, runs={"x": {"seed": 2}}))
    assert message.count("no such file: nowhere") == 1


@pytest.mark.parametrize("name", NAMES)
def test_names_that_no_culture_can_have(name):
    shown = "".join(c if c.isprintable() else "\ufffd" for c in name)
    why = ": no culture can be called" if name in module.RESERVED else f".{shown}: a name has lower-case"
    assert refused(whole(cultures={name: CULTURE})).startswith(f"configuration: cultures{why}")


def test_everything_wrong_is_told_at_once():
    message = refused(whole(seed=-1, thread=2, train={"updates": 0}))
    assert all(key in message for key in ("seed: ", "thread: no such setting", "train.updates: "))


def test_a_key_that_stands_twice(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(
        "seed: 1\ncultures: {korea: {suffix: a, images: .}}\ntrain:\n  updates: 5\n  updates: 6\n"
    )
    assert "train.updates: stands twice in" in refused(whole(), [file])
    file.write_text("seed: &a [*a]\n")
    load_config(whole(), [file])


def test_a_configuration_that_holds_itself():
    raw = whole()
    raw["train"] = raw
    assert "is nested without an end" in refused(raw)


WRONG = {
    "results=5": "results: ",
    "cultures={'$(touch x)': {suffix: a, images: resources}}": "cultures.$(touch x): a name has",
    "survey={wording: nowhere}": "survey.wording: no such file: nowhere",
}
BROKEN = {
    "presets: [drawn": "config/config.yaml: line 1, column 10: cannot be read as YAML",
    "presets: [drawn]\nresults: 2020-01-02\n": "config/config.yaml: results: datetime.date(2020, 1, 2) was",
}


@pytest.mark.parametrize(("text", "words"), BROKEN.items())
def test_a_configuration_that_cannot_be_read_is_named_with_the_line(text, words, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--snakefile", str(ROOT / "Snakefile")],
        cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode != 0
    assert words in done.stdout + done.stderr and "Traceback" not in done.stdout + done.stderr


def test_presets_are_doubted_once_by_the_real_snakemake(tmp_path):
    (tmp_path / "wales").mkdir()
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text(
        "presets: [sd14]\ncultures: {wales: {suffix: ', x', images: wales}}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--snakefile", str(ROOT / "Snakefile")],
        cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0 and (done.stdout + done.stderr).count("names no training") == 1


@pytest.mark.parametrize(("setting", "words"), WRONG.items())
def test_the_real_snakemake_says_it_before_any_job(setting, words, tmp_path):
    for name in ("resources", "workflow", "config", "Snakefile"):
        (tmp_path / name).symlink_to(ROOT / name)
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--config", setting],
        cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode != 0
    assert words in done.stdout + done.stderr and "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "x").exists() and not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    "text, said",
    [
        ("caffè\n".encode("latin-1"), "line 1 is not UTF-8; save the file as UTF-8"),
        (b"a jar\na jar\n", "the prompt 'a jar' stands there twice; leave one out"),
        (b"# nothing\n", "no prompts; write one a line"),
        (b"\xef\xbb\xbfa jar\n", "draws one picture, and scores need two; write more prompts"),
    ],
)
@pytest.mark.parametrize("key", ["cultures.korea.prompts", "evaluation.prompts"])
def test_prompts_that_cannot_be_scored_are_named_before_anything_runs(tmp_path, key, text, said):
    path = tmp_path / "p.txt"
    path.write_bytes(text)
    raw = {"cultures": {"korea": CULTURE}, "sample": {"images_per_prompt": 1}}
    if key.startswith("cultures"):
        raw["cultures"] = {"korea": CULTURE | {"prompts": str(path)}}
    else:
        raw["evaluation"] = {"prompts": str(path)}
    with pytest.raises(UserError) as error:
        load_config(raw)
    assert f"{key}: {path}" in str(error.value)
    assert said in str(error.value)


# --- further sets of prompts ------------------------------------------------------------------


def test_a_set_of_prompts_is_read_before_the_first_job(tmp_path):
    path = tmp_path / "set.csv"
    path.write_text("prompt,country\na gate,Korea\na tower,Wales\n")

    def sets(**settings):
        return whole(evaluation={"prompt_sets": {"own": {"path": str(path)} | settings}})

    assert load_config(sets(cultures=["korea"])).evaluation.prompt_sets["own"].names_countries
    line = refused(sets(cultures=["korea"], countries={"korea": "South Korea"}))
    assert "evaluation.prompt_sets.own:" in line and "no prompts of 'South Korea'" in line
    assert "under evaluation.prompt_sets.own.countries" in line
    assert "no such culture: wales" in refused(sets(cultures=["wales"]))
    assert "draws one picture" in refused(sets(cultures=["korea"], images_per_prompt=1))
    assert "no such file" in refused(sets(path="nowhere.csv"))
    assert "no column 'land'" in refused(sets(columns={"prompt": "prompt", "country": "land"}))
    hub = "hub:mair-lab/CulturalFrames/culturalframes_human_annotations.json"
    load_config(sets(path=hub, format="culturalframes"))


@pytest.mark.parametrize("name", ["train_prompts", "samples", "fig6", "fig7_x", "second"])
def test_a_set_of_prompts_has_a_name_of_its_own(tmp_path, name):
    (tmp_path / "p.txt").write_text("a gate\na tower\n")
    line = refused(
        whole(
            runs={"second": {"seed": 2}},
            evaluation={"prompt_sets": {name: {"path": str(tmp_path / "p.txt")}}},
        )
    )
    assert f"no set can be called '{name}'" in line


def test_two_lists_of_withdrawn_pictures_are_refused(tmp_path):
    """The folder's own would not be read, and a collection writes that one."""
    (tmp_path / "withdrawn.txt").write_text("a.jpg\n")
    (tmp_path / "other.txt").write_text("b.jpg\n")
    culture = CULTURE | {"images": str(tmp_path)}
    for listed in (None, str(tmp_path / "withdrawn.txt")):
        assert load_config({"cultures": {"korea": culture | {"withdrawn": listed}}})
    message = refused({"cultures": {"korea": culture | {"withdrawn": str(tmp_path / "other.txt")}}})
    assert "cultures.korea.withdrawn: is" in message and "has a list of its own" in message
