"""The whole configuration."""

import json
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from pipeline_steps.config.base import Name, PositiveInt, Section
from pipeline_steps.config.data import Culture, DataConfig
from pipeline_steps.config.evaluation import EvaluationConfig, FeaturesConfig, SampleConfig, ScoreConfig
from pipeline_steps.config.models import Models
from pipeline_steps.config.negatives import CaptionConfig, DepthConfig, FilterConfig, NegativesConfig
from pipeline_steps.config.planning import PlanConfig
from pipeline_steps.config.report import ReportConfig, StudyConfig
from pipeline_steps.config.survey import SurveyConfig
from pipeline_steps.config.training import CacheConfig, ExportConfig, TargetsConfig, TrainConfig, WatchConfig

PROMPT_SETS = ("train_prompts", "coco_prompts", "generic_prompts")
"""Runs that only draw other prompts (Tables 1 and 2, Fig. 8)."""
FIG7 = "fig7_"
"""What the names of Fig. 7's own runs begin with."""
ABROAD = "in_"
"""What the names of the runs begin with that draw another culture's prompts."""
KEPT_NAMES = {FIG7: "are the trainings of Fig. 7", ABROAD: "draw another culture's prompts"}
"""What no named run can begin with, and why."""
RUN_SETTINGS = ("seed", "filter", "train", "sample")
"""What a named run may change; all that comes before is the default run's."""
SHEETS = ("samples", "fig6", "fig8")
"""Contact sheets that are no prompt set's."""
RESERVED = ("all", "benchmarks", "figures", "logs", "reference", "simulated", "survey")
"""No culture can be called so: they are folders beside the cultures' own, or stand for all of them."""


class PipelineConfig(Section):
    """The whole configuration."""

    presets: tuple[str, ...] = ()
    """Files of config/presets, yours or the package's, under this configuration; the later ones win."""
    results: Path = Path("results")
    """Root of all outputs; runs with different settings can stand side by side."""
    seed: int = Field(1024, ge=0, lt=2**63)
    """The run's seed, from which every other is derived."""
    threads: PositiveInt = 8
    """Most threads of one job; never more than Snakemake grants or the machine has."""
    shards: PositiveInt = 1
    """Jobs that share captioning, depth, negatives, caching or sampling of one culture; results do not depend
    on it."""
    container: str | None = None
    """Image of envs/Dockerfile in which jobs run with ``--sdm apptainer``: a .sif file or docker://…"""
    cultures: dict[Name, Culture] = Field(min_length=1)
    """Name (lower-case letters, digits, _ and -) to culture."""
    models: Models = Models()
    """Networks."""
    data: DataConfig = DataConfig()
    """Ingest."""
    caption: CaptionConfig = CaptionConfig()
    """Captioning."""
    depth: DepthConfig = DepthConfig()
    """Depth."""
    negatives: NegativesConfig = NegativesConfig()
    """Negative synthesis."""
    filter: FilterConfig = FilterConfig()
    """False-negative filter."""
    cache: CacheConfig = CacheConfig()
    """Training cache."""
    targets: TargetsConfig = TargetsConfig()
    """Perceptual targets."""
    train: TrainConfig = TrainConfig()
    """Training."""
    watch: WatchConfig = WatchConfig()
    """Watching a training, and its checkpoints."""
    export: ExportConfig = ExportConfig()
    """What the LoRA's files say of themselves."""
    sample: SampleConfig = SampleConfig()
    """Generation."""
    features: FeaturesConfig = FeaturesConfig()
    """Features of pictures."""
    score: ScoreConfig = ScoreConfig()
    """Scoring."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Tables and figures."""
    study: StudyConfig = StudyConfig()
    """Study of the embedded world."""
    survey: SurveyConfig = SurveyConfig()
    """Human survey."""
    plan: PlanConfig = PlanConfig()
    """Estimate of cost."""
    report: ReportConfig = ReportConfig()
    """Report."""
    runs: dict[Name, dict[str, Any]] = Field({})
    """Further runs under <results>/<culture>/runs/<name>: name to the settings that differ from this
    configuration, out of "seed" (of training and sampling), "filter", "train" and "sample"."""

    @field_validator("cultures")
    @classmethod
    def _free_culture_names(cls, cultures: dict[str, Culture]) -> dict[str, Culture]:
        if taken := sorted(set(cultures) & set(RESERVED)):
            raise ValueError(f"no culture can be called {taken[0]!r} (nor {', '.join(RESERVED)})")
        return cultures

    @field_validator("runs")
    @classmethod
    def _changes_of_runs(cls, runs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if taken := sorted(set(runs) & set(PROMPT_SETS)):
            raise ValueError(f"no run can be called {taken[0]!r} (nor {', '.join(PROMPT_SETS)})")
        for start, what in KEPT_NAMES.items():
            if taken := sorted(name for name in runs if name.startswith(start)):
                raise ValueError(f"no run can be called {taken[0]!r}: {start}… {what}")
        for name, changes in runs.items():
            if unknown := set(changes) - set(RUN_SETTINGS):
                raise ValueError(f"{name}: can change {', '.join(RUN_SETTINGS)}, not {sorted(unknown)}")
        return runs

    @model_validator(mode="after")
    def _free_prompt_sets(self) -> "PipelineConfig":
        for name in self.evaluation.prompt_sets:
            if name in (*PROMPT_SETS, *SHEETS, *self.runs) or name.startswith(tuple(KEPT_NAMES)):
                raise ValueError(f"evaluation.prompt_sets: no set can be called {name!r}: it is taken")
        return self

    def of_run(self, *names: str) -> "PipelineConfig":
        """Return the configuration with the changes of runs made, one after another.

        Raises:
            pydantic.ValidationError: one of the changes is no right setting.
        """
        settings = self.model_dump(mode="json")
        for name in names:
            settings = changed(settings, self.runs[name])
        return PipelineConfig.model_validate_json(json.dumps(settings), strict=True)


def changed(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return settings with some of them replaced, at any depth."""
    return settings | {
        key: changed(settings[key], value)
        if isinstance(value, dict) and isinstance(settings.get(key), dict)
        else value
        for key, value in changes.items()
    }
