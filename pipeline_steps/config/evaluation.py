"""Settings of the evaluation: generated pictures, their features and scores."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline_steps.config.base import EachOnce, Name, PositiveInt, Section
from pipeline_steps.config.training import PerceptualConfig
from pipeline_steps.config.variants import Variant


class SampleConfig(Section):
    """Generation for evaluation (paper §5)."""

    images_per_prompt: PositiveInt = 20
    """Pictures per prompt; their seeds are common to all variants."""
    steps: PositiveInt = 50
    """Denoising steps: of DPM-Solver++ for a diffusion, of Euler's method for a rectified flow."""
    guidance_scale: float = Field(4.5, ge=1)
    """Classifier-free guidance."""
    batch_size: PositiveInt = 20
    """Pictures per forward pass."""
    offload: bool = False
    """Keep on the card only the network that is at work, text encoder, denoiser or VAE: less memory, and time
    to move them for every batch."""


class FeaturesConfig(Section):
    """What each network sees in the pictures: read by every score."""

    batch_size: PositiveInt = 64
    """Pictures per forward pass."""
    prompt_prefix: str = ""
    """Put before each prompt for CLIPScore: nothing, as the paper's numbers are usually read, or
    "A photo depicts " as its authors' code does (Hessel et al. 2021)."""


class ScoreConfig(Section):
    """Scores and their intervals (paper §5, §6)."""

    variants: Annotated[tuple[Variant, ...], EachOnce] = Field(("sd", "scoft_mpc"), min_length=1)
    """Variants in results/<culture>/scores.parquet and on the report."""
    neighbours: PositiveInt = 5
    """k of density and coverage."""


PUBLISHED: dict[str, dict[str, str]] = {
    # github.com/google-research-datasets/cube, CUBE_1K.json (arXiv 2407.06863)
    "cube": {"prompt": "prompt", "country": "country", "category": "domain"},
    # huggingface.co/datasets/mair-lab/CulturalFrames, culturalframes_human_annotations.json
    # (arXiv 2506.08835)
    "culturalframes": {"prompt": "prompt", "country": "country", "category": "category"},
    # github.com/cmubig/ECB, one CSV a model, e.g. prompt-img-path_s3.csv (arXiv 2510.20042)
    "ecb": {"prompt": "T2I prompt", "country": "country", "category": "category", "era": "variant"},
}
"""The field's prompt sets as they are published: what each column is called."""
HUB_FILE = re.compile(r"(?!.*\.\.)hub:(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w.-]*))?/(\w[\w./ -]*)")
"""A file of a data set on the hub: owner and name, a revision, and the file inside."""


class PromptSet(Section):
    """A set of prompts beside the test prompts; it is a run of its own, runs/<name>."""

    path: Path
    """A .txt with one prompt a line, to each of which the culture's suffix is appended; or a table: .csv,
    .tsv, .json, .jsonl, .xlsx or .parquet; or one of a data set on the hub, "hub:owner/name/file.json" or
    "hub:owner/name@commit/file.json"."""
    format: Literal["table", "cube", "culturalframes", "ecb"] = "table"
    """What a table's columns are called: as CUBE-1K, CulturalFrames or ECB were published, or as "columns"
    says."""
    columns: dict[Literal["prompt", "country", "category", "era"], str] = Field(
        {"prompt": "prompt", "country": "country", "category": "category", "era": "era"}
    )
    """The columns of a "table". Where there is a country, a culture draws its own prompts as they stand;
    where there is none, all cultures draw all prompts, each with its suffix."""
    countries: dict[str, str] = Field({})
    """What the table calls a culture's country, by culture; by default its name: "korea: South Korea"."""
    cultures: Annotated[tuple[str, ...], EachOnce] = ()
    """Cultures that draw it; none named: all."""
    most: PositiveInt | None = None
    """Prompts drawn for each culture at most, at even distances in the file; null: all."""
    images_per_prompt: PositiveInt | None = None
    """Pictures of each prompt; null: sample.images_per_prompt."""

    @model_validator(mode="after")
    def _readable(self) -> "PromptSet":
        if str(self.path).startswith("hub:") and not HUB_FILE.fullmatch(str(self.path)):
            raise ValueError("a file on the hub is written hub:owner/name/file or hub:owner/name@commit/file")
        if "prompt" not in self.columns:
            raise ValueError("columns: name the column of the prompts")
        return self

    @property
    def named(self) -> dict[str, str]:
        """What each column of the table is called."""
        return PUBLISHED.get(self.format) or {str(name): column for name, column in self.columns.items()}

    @property
    def names_countries(self) -> bool:
        """Whether each prompt is of a country, and stands as it is drawn."""
        return self.path.suffix.lower() != ".txt" and "country" in self.named

    def spellings(self, culture: str, name: str | None) -> list[str]:
        """Return what the table may call a culture's country."""
        own = self.countries.get(culture)
        return [own] if own else list(dict.fromkeys([culture, name or culture]))


class EvaluationConfig(Section):
    """What the tables and figures need (paper §5, §6)."""

    prompts: Path = Path("resources/prompts/mini.csv")
    """Test prompts of the cultures that have no own, one a line, or a table with the columns prompt, category
    and era; a culture's suffix is appended to each."""
    train_prompts: PositiveInt = 10
    """Captions of training pictures drawn as prompts (Table 2)."""
    coco: Path = Path("resources/mini/coco")
    """MS-COCO's val2017 and annotations, or a folder with metadata.jsonl (Table 1)."""
    coco_pictures: int = Field(100, ge=2)
    """Pictures drawn from it; each caption is a prompt, once per variant."""
    generic_prompts: Path = Path("resources/prompts/mini_generic.txt")
    """Prompts that name no culture (Fig. 8), one a line."""
    prompt_sets: dict[Name, PromptSet] = Field({})
    """Further sets of prompts, by name: each is drawn, scored and shown beside the test prompts."""
    fig7_cultures: Annotated[tuple[str, ...], EachOnce] = ()
    """Cultures over which Fig. 7 takes the mean; by default all."""
    fig7_extractors: dict[Name, PerceptualConfig] = Field(
        {name: PerceptualConfig(extractor=name) for name in ("clip", "dreamsim", "dino")}, min_length=1
    )
    """Distances compared, by name; the first one also with every recording of the gradient."""
    fig7_updates: Annotated[tuple[PositiveInt, ...], EachOnce] = Field((30, 60, 120), min_length=1)
    """Lengths of training; each point is a training of its own, with its whole schedule."""
