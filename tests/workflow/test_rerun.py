"""A setting reruns what reads it, and nothing else: every setting, against a table written by hand."""

import os
import shutil
from pathlib import Path

import pytest
import yaml
from snakemake.api import SnakemakeApi
from snakemake.iocontainers import Wildcards
from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings

from pipeline_steps.config import VARIANTS
from tests import ROOT
from tests.config.test_config import LEAVES

LOOKING = {"features"}
JUDGE = {"judge"}
OF_SET = {"sample", "breakdown"}
"""What reads a set of prompts."""
TRAIN = {f"train {variant}" for variant in ("ldm", "scoft_mp", "scoft_mpc", "dpo", "mapo")}
M = P = {"train scoft_mp", "train scoft_mpc"}
C, DPO, MAPO = {"train scoft_mpc"}, {"train dpo"}, {"train mapo"}
"""The trainings with each loss."""
BASE = {"synthesize", "cache", "cache_negatives", "sample", "reconstruct"} | TRAIN
S = {"targets"}  # they lie where the first run with the same distance is
DRAWN_VIEWS = {"ingest", "caption", "synthesize", "targets", "train_prompts", "coco", "sample"} | TRAIN
SURVEY_SEEDS = {
    "judge",
    "survey_pages",
    "survey_simulate",
    "survey_aggregate",
    "survey_power",
    "survey_people",
}
EVERYWHERE = {"report"}
"""The page shows the whole configuration."""

# Setting, another value for it, and the rules that read it. Of rules without outputs (plan, models,
# withdraw_report, purge_negatives) nothing is asked: they run whenever they are called.
TABLE = [
    ("seed", 2, DRAWN_VIEWS | SURVEY_SEEDS | {"kid_power"}),
    ("threads", 2, set()),
    ("shards", 3, set()),
    ("container", "scoft.sif", set()),
    ("cultures.korea.name", "Corea", {"survey_html", "survey_report", "data_report", "agreement"} | OF_SET),
    (
        "cultures.korea.suffix",
        ", there",
        {"ingest", "data_card", "data_report", "synthesize", "sample", "export", "hub"} | TRAIN,
    ),
    ("cultures.korea.images", "resources/mini/ccub/india", {"ingest", "fetch_data_set"}),
    ("cultures.links.country", "KP", {"download"}),
    ("cultures.korea.withdrawn", "list.txt", {"ingest"}),
    ("cultures.links.withdrawn", "list.txt", {"download", "ingest"}),
    ("cultures.korea.prompts", "list.txt", OF_SET),
    ("models.base.path", "resources/mini/clip", BASE | {"data_report", "hub"}),  # it is in files' names
    ("models.base.dtype", "bfloat16", BASE),
    ("models.base.variant", "fp16", BASE),
    ("models.base.vae", {"path": "resources/mini/clip"}, BASE),
    ("models.base.vae_slicing", True, BASE),
    ("models.controlnet.path", "resources/mini/clip", {"synthesize"}),
    ("models.controlnet.dtype", "bfloat16", {"synthesize"}),
    ("models.controlnet.variant", "fp16", {"synthesize"}),
    ("models.captioner.path", "resources/mini/clip", {"caption"}),
    ("models.captioner.dtype", "bfloat16", {"caption"}),
    ("models.captioner.variant", "fp16", {"caption"}),
    ("models.depth.path", "resources/mini/clip", {"depth"}),
    ("models.depth.dtype", "bfloat16", {"depth"}),
    ("models.depth.variant", "fp16", {"depth"}),
    # DreamSim and DINO are extractors of Fig. 7 as well
    ("models.dreamsim.path", "resources/mini/clip", LOOKING | {"filter"} | S | C),
    ("models.dreamsim.dtype", "bfloat16", LOOKING | {"filter"} | S | C),
    ("models.dreamsim.variant", "fp16", LOOKING | {"filter"} | S | C),
    ("models.clip.path", "resources/mini/dino", LOOKING | S | P),
    ("models.clip.dtype", "bfloat16", LOOKING | S | P),
    ("models.clip.variant", "fp16", LOOKING | S | P),
    ("models.dino.path", "resources/mini/clip", LOOKING | S | C),
    ("models.dino.dtype", "bfloat16", LOOKING | S | C),
    ("models.dino.variant", "fp16", LOOKING | S | C),
    ("models.inception.path", "resources/mini/clip", LOOKING),
    ("models.inception.dtype", "bfloat16", LOOKING),
    ("models.inception.variant", "fp16", LOOKING),
    # In the drawn world the oracle judges.
    ("models.oracle.path", "resources/mini/clip", LOOKING | JUDGE),
    ("models.oracle.dtype", "bfloat16", LOOKING | JUDGE),
    ("models.oracle.variant", "fp16", LOOKING | JUDGE),
    ("models.judge", {"path": "resources/mini/clip"}, JUDGE),
    ("data.caption_column", "caption", {"download", "ingest"}),
    ("data.resolution", 128, {"ingest", "coco"}),
    ("data.aspect", "buckets", {"ingest"}),
    ("data.test_share", 0.5, {"ingest"}),
    ("data.allow_upscale", False, {"ingest"}),
    ("data.require_consent", True, {"download", "ingest"}),
    ("data.allowed_hosts", ["x.org"], {"download"}),
    ("data.duplicate_difference", 1.0, {"ingest"}),
    ("data.max_megapixels", 50.0, {"ingest", "coco"}),
    ("data.max_megabytes", 50.0, {"ingest", "download"}),
    ("caption.captions_per_image", 2, {"caption"}),
    ("caption.top_p", 0.5, {"caption"}),
    ("caption.max_new_tokens", 9, {"caption"}),
    ("caption.batch_size", 2, {"caption"}),
    ("depth.batch_size", 2, {"depth"}),
    ("negatives.structure", "noise", {"synthesize"}),
    ("negatives.strength", 0.5, {"synthesize"}),
    ("negatives.per_positive", 2, {"synthesize"}),
    ("negatives.steps", 9, {"synthesize"}),
    ("negatives.guidance_scale", 3.0, {"synthesize"}),
    ("negatives.controlnet_scale", 0.5, {"synthesize"}),
    ("negatives.batch_size", 2, {"synthesize"}),
    ("negatives.offload", True, set()),
    ("filter.min_distance", 0.5, {"filter"}),
    ("filter.batch_size", 2, {"filter"}),
    ("cache.batch_size", 2, {"cache", "cache_negatives", "reconstruct"}),
    ("cache.held_out", 2, {"cache"}),
    ("cache.generic_captions", "list.txt", {"cache"}),
    ("targets.batch_size", 2, {"targets"}),
    ("train.updates", 200, TRAIN),
    ("train.batch_size", 2, TRAIN),
    ("train.accumulation", 2, TRAIN),
    ("train.optimiser", "adamw_8bit", TRAIN),
    ("train.learning_rate", 0.1, TRAIN),
    ("train.schedule", "linear", TRAIN),
    ("train.warmup", 1, TRAIN),
    ("train.weight_decay", 0.5, TRAIN),
    ("train.max_gradient_norm", 2.0, TRAIN),
    ("train.lora_rank", 4, TRAIN),
    ("train.lora_alpha", 3.0, TRAIN),
    ("train.lora_targets", ["to_q"], TRAIN),
    ("train.flip", True, TRAIN),
    ("train.weight_ldm", 0.5, TRAIN - DPO - MAPO),
    ("train.weight_m", 0.5, M),
    ("train.weight_p", 0.5, P),
    ("train.weight_c", 0.5, C),
    ("train.memorisation_captions", "all", M),
    ("train.contrast", "difference", P),
    ("train.contrast_lambda", 0.1, C),
    ("train.contrast_margin", 0.1, C),
    ("train.perceptual_every", 2, P),
    ("train.perceptual_share", 0.1, P),
    ("train.perceptual_clip", 1.0, P),
    ("train.perceptual_from", 0.5, P),
    ("train.contrast_share", 0.1, C),
    ("train.weight_prior", 0.1, TRAIN),
    ("train.prior_every", 2, set()),  # there is no prior by default
    ("train.dpo_beta", 2.0, DPO),
    ("train.mapo_beta", 2.0, MAPO),
    ("train.mapo_scale", 2.0, MAPO),
    ("train.schedule_stretch", 2.0, TRAIN),
    ("train.snr_gamma", 5.0, TRAIN - DPO),
    ("train.times", "uniform", TRAIN),
    ("train.perceptual.extractor", "dreamsim", S | P),
    ("train.perceptual.model", {"path": "resources/mini/clip"}, S | P),
    ("train.perceptual.layers", [1], S | P),
    ("train.perceptual.negatives", "another", S | P),
    ("train.perceptual.views", 2, S | P),
    ("train.denoising.steps", 3, P),
    ("train.denoising.by_time", False, P),
    ("train.denoising.guidance_scale", 2.0, P),
    ("train.denoising.record", "last", P),
    ("train.denoising.scheduler", "ddpm", P),
    ("train.ema_decay", 0.5, TRAIN),
    ("train.processes", 2, TRAIN),
    ("train.gradient_checkpointing", True, TRAIN),
    ("train.compile", True, TRAIN),
    ("export.author", "Cardiff", {"export"}),
    ("export.date", "2026-11-26", {"export"}),
    ("export.licence", "cc-by-4.0", {"export", "hub"}),
    ("export.contact", "a@b.org", {"export"}),
    ("watch.tensorboard", False, set()),
    ("watch.wandb", "project", set()),
    ("watch.sample_every", 7, set()),
    ("watch.sample_pictures", 7, set()),
    ("watch.validate_every", 7, set()),
    ("watch.checkpoint_every", 7, set()),
    ("watch.checkpoints_kept", 7, set()),
    ("watch.checkpoints", "checkpoints", set()),
    ("sample.images_per_prompt", 2, {"sample"}),
    ("sample.steps", 2, {"sample", "hub"}),
    ("sample.guidance_scale", 2.0, {"sample", "hub"}),
    ("sample.batch_size", 2, {"sample"}),
    ("sample.offload", True, set()),
    ("features.batch_size", 2, LOOKING),
    ("features.prompt_prefix", "A photo depicts ", LOOKING),
    ("score.variants", ["sd"], {"merge_scores", "contact_sheet", "breakdown"}),
    ("score.neighbours", 2, {"score"}),
    ("evaluation.prompts", "list.txt", OF_SET),
    ("evaluation.prompt_sets.own.path", "other.csv", OF_SET | {"fetch_prompt_set"}),
    ("evaluation.prompt_sets.own.format", "cube", OF_SET),
    ("evaluation.prompt_sets.own.columns", {"prompt": "prompt"}, OF_SET),
    ("evaluation.prompt_sets.own.countries", {"korea": "Korea"}, OF_SET),
    ("evaluation.prompt_sets.own.cultures", ["korea", "links"], set()),
    ("evaluation.prompt_sets.own.most", 1, OF_SET),
    ("evaluation.prompt_sets.own.images_per_prompt", 2, {"sample"}),
    ("evaluation.train_prompts", 3, {"train_prompts"}),
    ("evaluation.coco", "pictures", {"coco"}),
    ("evaluation.coco_pictures", 3, {"coco"}),
    ("evaluation.generic_prompts", "list.txt", {"sample"}),
    ("evaluation.fig7_cultures", ["korea"], {"fig7"}),
    ("evaluation.fig7_extractors.dino", {"extractor": "clip"}, S | C),
    ("evaluation.fig7_updates", [60], {"fig7"}),
    ("study.seeds", [], {"study"}),
    ("study.controls.second.variant", "scoft_m", {"study"}),
    ("study.controls.second.seeds", ["third"], {"study"}),
    ("study.pairs", [["second", "second"]], {"study"}),
    ("study.lengths", ["second"], set()),  # over no culture
    ("study.length_cultures", ["korea"], {"curves"}),
    ("survey.cultures", ["korea"], {"survey_simulate", "survey_import", "survey_report", "agreement"}),
    (
        "survey.variants",
        ["sd", "scoft_mpc"],
        {"survey_pages", "survey_simulate", "survey_power", "survey_people", "agreement"},
    ),
    ("survey.pages", 3, {"survey_pages"}),
    ("survey.pages_per_participant", 3, {"survey_pages", "survey_power", "survey_people"}),
    ("survey.attention_checks", 1, {"survey_pages"}),
    ("survey.failed_checks", 1, {"survey_import"}),
    ("survey.min_years", 1.0, {"survey_html", "survey_import"}),
    ("survey.wording", "list.txt", {"survey_html"} | JUDGE),
    ("survey.translations", "list.txt", {"survey_html"}),
    ("survey.codes", "list.txt", {"survey_import"}),
    ("survey.jpeg_quality", 60, {"survey_html"}),
    ("survey.answers", "other_answers", {"survey_import"}),
    ("survey.rounds", {"korea": "0123abcd"}, {"survey_import"}),
    ("survey.judge.turns", 1, JUDGE),
    ("survey.judge.max_new_tokens", 9, JUDGE),
    ("survey.judge.errors", 0.5, JUDGE),
    ("survey.simulation.participants", 3, {"survey_simulate"}),
    ("survey.simulation.strengths", dict.fromkeys(VARIANTS, 5.0), {"survey_simulate", "survey_power"}),
    ("survey.simulation.careless", 0.5, {"survey_simulate"}),
    ("survey.simulation.adversarial", 0.5, {"survey_simulate"}),
    ("survey.simulation.power_participants", [3], {"survey_power"}),
    ("survey.simulation.power_careless", [0.5], {"survey_power", "survey_people"}),
    ("survey.simulation.difference", 0.7, {"survey_people"}),
    ("survey.simulation.chance", 0.9, {"survey_people"}),
    ("survey.simulation.power_adversarial", [0.5], {"survey_power"}),
    ("survey.simulation.power_trials", 3, {"survey_power"}),
    ("plan.gpu", "h100", set()),
    ("plan.utilisation", 0.5, set()),
    ("plan.pictures", 3, set()),
    ("plan.prompts", 3, set()),
    ("report.include", ["table2"], {"report"}),
    ("report.negatives", False, {"report"}),
    ("report.opening", 2, {"report"}),
    ("report.pictures_per_prompt", 2, {"report"}),
    ("report.positives", 2, {"report"}),
    ("report.thumbnail", 32, {"report", "contact_sheet"}),
    ("runs.second.seed", 3, {"sample", "train ldm", "train scoft_mpc"}),
]
LEFT_OUT = {"presets": "names files whose settings are in the table", "results": "moves every file"}
CASES = {
    "caption": [{"shard": ""}],
    "depth": [{"shard": ""}],
    "synthesize": [{"shard": ""}],
    "cache": [{"shard": ""}],
    "filter": [{"run": ""}],
    "cache_negatives": [{"run": ""}],
    "targets": [{"run": run} for run in ("", "runs/fig7_dino_first_60/", "runs/fig7_dreamsim_first_60/")],
    "train": [
        {"lora": f"{run}{variant}/"}
        for run in ("runs/second/", "runs/fig7_dino_first_60/", "runs/fig7_dreamsim_first_60/")
        for variant in ("ldm", "scoft_mpc")
    ]
    + [{"lora": f"ablations/{variant}/"} for variant in ("ldm", "scoft_mp", "dpo", "mapo")]
    + [{"lora": ""}],
    "sample": [
        {"run": run, "shard": "", "variant": variant}
        for run in ("", "runs/second/", "runs/coco_prompts/", "runs/generic_prompts/", "runs/own/")
        for variant in ("sd", "ldm", "scoft_mpc")
    ],
    "features": [{"run": "", "seen": seen} for seen in ("images", "sd")],
    "score": [{"run": run, "variant": "sd"} for run in ("", "runs/coco_prompts/")],
    "merge_scores": [{"run": ""}],
    "breakdown": [{"run": run} for run in ("", "runs/own/")],
    "fetch_prompt_set": [{"prompt_set": "own", "file": "set.csv"}],
    "merge_shards": [{"run": "", "file": "captions", "ending": "parquet"}],
    "paper_table": [{"number": number} for number in ("1", "2")],
    "contact_sheet": [{"sheet": sheet} for sheet in ("samples", "fig6", "fig8")],
    "download": [{"culture": "links"}],
    "ingest": [{}, {"culture": "links"}],
    **{name: [{"survey": survey} for survey in ("survey", "survey/simulated")]
       for name in ("survey_import", "survey_aggregate", "survey_report", "agreement")},
}  # fmt: skip
"""Wildcards of the jobs that are looked at, beside the culture."""
WITHOUT_OUTPUT = {"plan", "models", "withdraw_report", "purge_negatives", "all", "default", "merge_shards"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory with all that the values of the table name."""
    folder = tmp_path_factory.mktemp("rerun")
    (folder / "resources").symlink_to(ROOT / "resources")
    (folder / "config").mkdir()
    (folder / "config/presets").symlink_to(ROOT / "config/presets")
    (folder / "pictures").mkdir()
    for name in ("answers", "other_answers"):
        (folder / name).mkdir()
        (folder / name / "a.csv").write_text("x")
    (folder / "results/survey/korea/rounds").mkdir(parents=True)
    (folder / "results/survey/korea/rounds/0123abcd.parquet").write_text("x")
    (folder / "list.txt").write_text("a house\n")
    for name in ("set", "other"):
        rows = [f"a house in {country},{country},house,house,\n" for country in ("korea", "links")]
        (folder / f"{name}.csv").write_text("prompt,country,category,domain,era\n" + "".join(rows))
    shutil.copy(ROOT / "resources/prompts/mini.csv", folder / "links.csv")
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


def configuration():
    korea = {"suffix": ", in korea", "images": "resources/mini/ccub/korea"}
    links = {"suffix": ", in links", "images": "links.csv", "country": "KR"}
    return {
        "cultures": {"korea": korea, "links": links},
        "models": {role: {"path": f"resources/mini/{role}"} for role in (
            "base", "controlnet", "captioner", "depth", "dreamsim", "clip", "dino", "inception", "oracle")},
        # without a share for one of the two, or nothing would be clipped
        "train": {"batch_size": 1, "contrast_share": None},
        "evaluation": {
            "fig7_extractors": {name: {"extractor": name} for name in ("dreamsim", "dino")},
            "prompt_sets": {"own": {"path": "set.csv", "cultures": ["korea"]}},
        },
        "runs": {"second": {"seed": 2}, "third": {"seed": 3}},
        "study": {"seeds": ["third"], "controls": {"second": {}}},
    }  # fmt: skip


def handed(folder, raw):
    """What every rule's jobs are handed and Snakemake compares: input files and params, as text."""
    (folder / "config/config.yaml").write_text(yaml.safe_dump(raw))
    with SnakemakeApi(OutputSettings(quiet={"all"})) as api:
        resources = ResourceSettings(cores=2)
        workflow = api.workflow(
            resources, config_settings=ConfigSettings(), snakefile=ROOT / "Snakefile", workdir=folder
        )._workflow
        found = {}
        for rule in workflow.rules:
            if rule.name in WITHOUT_OUTPUT:
                continue
            for case in CASES.get(rule.name, [{}]):
                wildcards = Wildcards(fromdict={"culture": "korea"} | case)
                inputs = rule.expand_input(wildcards)[0]
                outputs = rule.expand_output(wildcards)[0]
                compared = rule.expand_params(wildcards, inputs, outputs, None)[1]
                job = (_called(rule.name, case), *sorted(case.items()))
                found[job] = repr((list(inputs), [str(value) for value in compared]))
        return found


def _called(rule, case):
    """Rules by name, trainings with their variant."""
    lora = case.get("lora", "").rstrip("/")
    return f"{rule} {lora.rpartition('/')[2] or 'scoft_mpc'}" if rule == "train" else rule


def changed(raw, path, value):
    *outer, last = path.split(".")
    for name in outer:
        raw = raw.setdefault(name, {})
    raw[last] = raw[last] | value if isinstance(value, dict) and isinstance(raw.get(last), dict) else value


@pytest.fixture(scope="module")
def before(folder):
    return handed(folder, configuration())


def test_the_table_holds_every_setting():
    def known(path):
        return any(path == row or path.startswith(f"{row}.") for row in rows)

    rows = {path for path, *_ in TABLE} | set(LEFT_OUT)
    rows |= {
        "cultures.korea.country",
        "evaluation.fig7_extractors.some",
        "evaluation.prompt_sets.some",
        "study.controls.some",
        "runs",
    }
    missing = [".".join(path) for path in LEAVES if not known(".".join(path))]
    assert not missing, f"say in TABLE which rules read {missing}"


@pytest.mark.parametrize(("path", "value", "rules"), TABLE, ids=[row[0] for row in TABLE])
def test_a_setting_reaches_what_reads_it_and_nothing_else(folder, before, path, value, rules):
    raw = configuration()
    changed(raw, path, value)
    after = handed(folder, raw)
    found = {job[0] for job in before.keys() & after.keys() if before[job] != after[job]}
    assert found - EVERYWHERE == rules - EVERYWHERE


def test_another_commit_of_a_model_reaches_what_reads_it(folder):
    raw, found = configuration(), []
    raw["models"]["base"]["path"] = "someone/base"
    raw["models"]["clip"]["path"] = "someone/clip"
    lock = folder / "config/models.lock.json"
    for commit in ("1" * 40, "2" * 40):
        lock.write_text(
            f'{{"someone/base": {{"revision": "{commit}"}}, "someone/clip": {{"revision": "3"}}}}'
        )
        found.append(handed(folder, raw))
    lock.unlink()
    before, after = found
    assert {job[0] for job in before if before[job] != after[job]} - EVERYWHERE == BASE | {"data_report"}
