"""Every setting: its type, default, bounds and one sentence; a module for each phase. Imports nothing heavy.

``PipelineConfig`` is the whole configuration; each rule hands one section to its step as JSON,
where the same frozen class reads it back.
"""

from pipeline_steps.config.base import EachOnce, Name, PositiveInt, Section, Share, Weight
from pipeline_steps.config.data import HUB, Culture, DataConfig
from pipeline_steps.config.evaluation import (
    HUB_FILE,
    EvaluationConfig,
    FeaturesConfig,
    PromptSet,
    SampleConfig,
    ScoreConfig,
)
from pipeline_steps.config.models import HUB_ID, LINK, BaseRef, ModelRef, Models, without_commit
from pipeline_steps.config.negatives import CaptionConfig, DepthConfig, FilterConfig, NegativesConfig
from pipeline_steps.config.pipeline import FIG7, PROMPT_SETS, RESERVED, RUN_SETTINGS, PipelineConfig
from pipeline_steps.config.planning import PlanConfig
from pipeline_steps.config.report import ReportConfig, StudyConfig
from pipeline_steps.config.survey import JudgeConfig, SimulationConfig, SurveyConfig
from pipeline_steps.config.training import (
    CacheConfig,
    DenoisingConfig,
    ExportConfig,
    PerceptualConfig,
    TargetsConfig,
    TrainConfig,
    WatchConfig,
)
from pipeline_steps.config.variants import (
    BASELINES,
    DEFINITIONS,
    FULL_VARIANT,
    LABELS,
    PAPER,
    PERCEPTUAL,
    SHORT,
    TRAINED,
    VARIANTS,
    Loss,
    Variant,
)

__all__ = [
    "BASELINES",
    "DEFINITIONS",
    "FIG7",
    "FULL_VARIANT",
    "HUB",
    "HUB_FILE",
    "HUB_ID",
    "LABELS",
    "LINK",
    "PAPER",
    "PERCEPTUAL",
    "PROMPT_SETS",
    "RESERVED",
    "RUN_SETTINGS",
    "SHORT",
    "TRAINED",
    "VARIANTS",
    "BaseRef",
    "CacheConfig",
    "CaptionConfig",
    "Culture",
    "DataConfig",
    "DenoisingConfig",
    "DepthConfig",
    "EachOnce",
    "EvaluationConfig",
    "ExportConfig",
    "FeaturesConfig",
    "FilterConfig",
    "JudgeConfig",
    "Loss",
    "ModelRef",
    "Models",
    "Name",
    "NegativesConfig",
    "PerceptualConfig",
    "PipelineConfig",
    "PlanConfig",
    "PositiveInt",
    "PromptSet",
    "ReportConfig",
    "SampleConfig",
    "ScoreConfig",
    "Section",
    "Share",
    "SimulationConfig",
    "StudyConfig",
    "SurveyConfig",
    "TargetsConfig",
    "TrainConfig",
    "Variant",
    "WatchConfig",
    "Weight",
    "without_commit",
]
