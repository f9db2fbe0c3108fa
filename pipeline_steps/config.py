"""Every setting: its type, default, bounds and one sentence. Imports nothing heavy.

``PipelineConfig`` is the whole configuration; each rule hands one section to its step as JSON,
where the same frozen class reads it back. ``python -m pipeline_steps.config`` writes the JSON
schema that editors and Snakemake check against.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from pipeline_steps.errors import UserError

HUB = "hub:"
"""What "images" of a culture begins with where they are a data set on the Hugging Face hub."""
VARIANTS = ("sd", "ldm", "scoft_m", "scoft_mp", "scoft_mpc")
"""The models of Tables 1 and 2, from no training to all losses."""
FULL_VARIANT = "scoft_mpc"
"""The variant whose LoRA is the main product."""
LABELS = {
    "sd": "Stable Diffusion",
    "ldm": "Fine-tuning",
    "scoft_m": "SCoFT+M",
    "scoft_mp": "SCoFT+MP",
    "scoft_mpc": "SCoFT+MPC",
}
"""What people read for each variant."""
PROMPT_SETS = ("train_prompts", "coco_prompts", "generic_prompts")
"""Runs that only draw other prompts (Tables 1 and 2, Fig. 8)."""
RUN_SETTINGS = ("seed", "filter", "train", "sample")
"""What a named run may change; all that comes before is the default run's."""

RESERVED = ("all", "benchmarks", "figures", "logs", "reference", "simulated", "survey")
"""No culture can be called so: they are folders beside the cultures' own, or stand for all of them."""

Variant = Literal["sd", "ldm", "scoft_m", "scoft_mp", "scoft_mpc"]
PositiveInt = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


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


class Culture(Section):
    """A culture, or any group that wants to be drawn rightly."""

    suffix: str = Field(min_length=1)
    """Appended to captions and prompts, e.g. ", in Korea"."""
    images: Path
    """Folder of pictures with metadata.jsonl, metadata.csv or one .txt per picture; or a Hugging Face
    data set as Parquet, or on the hub ("hub:owner/name", "hub:owner/name@commit"); or a .csv of links
    (url, caption). What is not here is downloaded."""
    country: str | None = None
    """Of a table of links, take only the rows with this country_code."""
    withdrawn: Path | None = None
    """List of withdrawn pictures, one file name or image id a line; they are left out."""
    prompts: Path | None = None
    """Text file with one test prompt a line; the suffix is appended to each. null: evaluation.prompts."""

    @field_validator("suffix")
    @classmethod
    def _one_line(cls, suffix: str) -> str:
        if not suffix.strip(" ,.") or not suffix.isprintable() or suffix.startswith("-"):
            raise ValueError("must be one line of visible text without a leading '-', e.g. ', in Korea'")
        return suffix

    @field_validator("images")
    @classmethod
    def _hub_id(cls, images: Path) -> Path:
        if str(images).startswith(HUB) and not re.fullmatch(
            r"hub:\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?", str(images)
        ):
            raise ValueError("a data set on the hub is written hub:owner/name or hub:owner/name@commit")
        return images

    @model_validator(mode="after")
    def _country_of_a_table(self) -> "Culture":
        if self.country is not None and self.images.suffix.lower() != ".csv":
            raise ValueError("country: only a table of links (.csv) has countries; leave it out")
        return self


class ModelRef(Section):
    """A model on the hub or in a folder of the same layout."""

    path: str = Field(min_length=1)
    """Hub id ("CompVis/stable-diffusion-v1-4"), which `snakemake models` fetches, or local folder."""
    revision: str | None = None
    """Commit on the hub; null: the one in config/models.lock.json, or the newest. Ignored for a folder."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Precision the weights are loaded in."""
    variant: str | None = Field(None, pattern=r"^[a-z0-9]+$")
    """Take the weight files with this in their names ("fp16": half the size); null: the plain ones."""
    url: str | None = Field(None, pattern=r"^https?://")
    """Where `snakemake models` fetches the path from, for what is not on the hub: a file, or a .zip whose
    contents become the folder."""
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{8,64}$")
    """SHA-256 of what the url gives, or its first digits (those in many a file's name)."""


class BaseRef(ModelRef):
    """The model to be mended: Stable Diffusion 1.x, 2.x or XL, as its own model_index.json says."""

    vae: ModelRef | None = None
    """Autoencoder in the place of the model's own (SDXL's overflows in float16); null: its own. It is
    loaded in the base model's dtype."""
    vae_slicing: bool = False
    """Encode and decode pictures one by one: less memory, a little slower."""


class Models(Section):
    """The networks behind each stage; the defaults are the embedded family."""

    base: BaseRef = BaseRef(path="resources/mini/base")
    """Stable Diffusion: the model to be mended, its VAE, text encoders and scheduler."""
    controlnet: ModelRef = ModelRef(path="resources/mini/controlnet")
    """Depth ControlNet for the base model."""
    captioner: ModelRef = ModelRef(path="resources/mini/captioner")
    """BLIP."""
    depth: ModelRef = ModelRef(path="resources/mini/depth")
    """MiDaS: a transformers DPT, or a folder with controlnet_aux's checkpoint."""
    dreamsim: ModelRef = ModelRef(path="resources/mini/dreamsim")
    """DreamSim, in the package's own file format."""
    clip: ModelRef = ModelRef(path="resources/mini/clip")
    """CLIP for CLIPScore and, by default, for the perceptual distance."""
    dino: ModelRef = ModelRef(path="resources/mini/dino")
    """DINOv2."""
    inception: ModelRef = ModelRef(path="resources/mini/inception")
    """Feature network for KID: torch-fidelity's Inception weights file, or the embedded network's folder."""
    oracle: ModelRef | None = ModelRef(path="resources/mini/oracle")
    """Attribute reader of the embedded world; null for real pictures."""


class DataConfig(Section):
    """Ingest: from a folder of pictures to one table."""

    caption_column: str = "text"
    """Column of the metadata that holds the hand-written caption."""
    resolution: int = Field(64, ge=16, le=4096, multiple_of=8)
    """Side of the square training pictures in pixels."""
    aspect: Literal["square", "buckets"] = "square"
    """The central square of each picture, or the largest part that has the shape of one of a few sizes of
    about as many pixels: less is cut off, and pictures are trained on one at a time."""
    test_share: Share = 0.2
    """Share of pictures held out for evaluation when the metadata has no "split" column."""
    allow_upscale: bool = True
    """Enlarge pictures smaller than the resolution instead of leaving them out."""
    duplicate_difference: float = Field(4.0, ge=0, le=32)
    """Pictures that differ by no more than this (mean of 0–255, seen small) count as the same; 0: only
    identical ones."""
    max_megapixels: float = Field(120, gt=0, le=2000)
    """Larger pictures are left out: some are made to fill the memory."""
    max_megabytes: float = Field(100, gt=0, le=4000)
    """Larger files are left out."""


class CaptionConfig(Section):
    """BLIP captions (paper §4.2); how many and how drawn is our choice."""

    captions_per_image: PositiveInt = 5
    """Captions drawn per picture."""
    top_p: float = Field(0.9, gt=0, le=1)
    """Nucleus: share of probability from which each word is drawn."""
    max_new_tokens: PositiveInt = 30
    """Longest caption in tokens."""
    batch_size: PositiveInt = 16
    """Pictures per forward pass."""


class DepthConfig(Section):
    """MiDaS depth of the positives (paper §4.4)."""

    batch_size: PositiveInt = 16
    """Pictures per forward pass."""


class NegativesConfig(Section):
    """ControlNet negatives of the un-tuned model (paper §4.4)."""

    per_positive: PositiveInt = 5
    """Negatives per training picture."""
    steps: PositiveInt = 20
    """Denoising steps."""
    guidance_scale: float = Field(7.5, ge=1)
    """Classifier-free guidance."""
    controlnet_scale: float = Field(1.0, ge=0, le=2)
    """Strength of the depth condition."""
    batch_size: PositiveInt = 16
    """Pictures per forward pass."""


class FilterConfig(Section):
    """DreamSim filter of false negatives (paper §4.4; the threshold is not stated there)."""

    min_distance: float = Field(0.015, ge=0, le=2)
    """Negatives closer than this to their positive are dropped. The default is the embedded DreamSim's."""
    batch_size: PositiveInt = 32
    """Pictures per forward pass."""


class CacheConfig(Section):
    """Latents, text and perceptual features computed once."""

    batch_size: PositiveInt = 32
    """Pictures per forward pass."""


class PerceptualConfig(Section):
    """The perceptual distance S (paper §4.3, §6)."""

    extractor: Literal["clip", "clip_conv", "dreamsim", "dino", "blip", "blip2", "lpips"] = "clip"
    """Feature extractor: "clip" is the vision transformer of models.clip (the authors' code), "clip_conv"
    its convolutional RN101 (the paper)."""
    model: ModelRef | None = None
    """Weights of the extractor; by default the model of the same name in "models"."""
    layers: tuple[Annotated[int, Field(ge=-64, le=64)], ...] = (1, 2, 3)
    """Blocks whose outputs are compared; ignored by dreamsim and lpips."""
    negatives: Literal["own", "another"] = "own"
    """Whose negatives a picture is contrasted with: its own (paper §4.4), or, as a control, those of
    another picture."""
    views: PositiveInt = 1
    """Fixed views of each picture, drawn once and shared by x̂, x⁺ and x⁻; the first is the whole picture."""


class DenoisingConfig(Section):
    """From z_t to the picture x̂ (paper §4.3)."""

    steps: PositiveInt = 10
    """Most inner denoising steps; fewer where t is smaller."""
    guidance_scale: float = Field(4.5, ge=1)
    """1 + w of the inner classifier-free guidance."""
    record: Literal["first", "last", "random"] = "first"
    """The one UNet call whose gradient is recorded (Fig. 7)."""
    scheduler: Literal["ddim", "ddpm"] = "ddim"
    """Inner steps: deterministic, or the authors' stochastic ones."""


class TrainConfig(Section):
    """SCoFT LoRA training (paper §4)."""

    updates: PositiveInt = 120
    """Optimiser updates."""
    batch_size: PositiveInt = 32
    """Pictures per forward pass."""
    accumulation: PositiveInt = 1
    """Forward passes per update."""
    optimiser: Literal["adamw", "adamw_8bit"] = "adamw"
    """AdamW (fused), or with its moments in 8 bits, which wants the package bitsandbytes."""
    learning_rate: float = Field(1.4e-2, gt=0, le=1)
    """Peak learning rate of AdamW."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """From the peak to zero (or constant) over the updates, after the warm-up."""
    warmup: int = Field(0, ge=0)
    """Updates of linear warm-up."""
    weight_decay: Weight = 1e-2
    """AdamW's weight decay."""
    max_gradient_norm: float = Field(1.0, gt=0)
    """Clipping of the whole gradient."""
    lora_rank: PositiveInt = 8
    """Rank r of the LoRA."""
    lora_alpha: float | None = Field(None, gt=0)
    """LoRA scale numerator; by default equal to the rank."""
    lora_targets: tuple[str, ...] = Field(("to_q", "to_k", "to_v", "to_out.0"), min_length=1)
    """Attention projections that get a LoRA."""
    flip: bool = False
    """Random horizontal flips, shared by a positive and its negatives. Off for the drawn world: its
    captions say left and right, and one of its patterns slants."""
    weight_ldm: Weight = 0.7
    """a of L = a·L_LDM + b·L_M + p·L_P + c·L_C."""
    weight_m: Weight = 0.3
    """b."""
    weight_p: Weight = 0.25
    """p."""
    weight_c: Weight = 0.25
    """c."""
    memorisation_captions: Literal["one", "all"] = "one"
    """L_M against one BLIP caption drawn per step (unbiased, 1/k of the cost) or the mean of all."""
    contrast: Literal["hinge", "difference"] = "hinge"
    """L_C as Eq. 4's triplet, or the authors' S⁺ − mean S⁻ without a hinge."""
    contrast_lambda: Weight = 0.5
    """λ of Eq. 4 (not stated in the paper)."""
    contrast_margin: float = 0.0
    """m of Eq. 4 (not stated in the paper)."""
    perceptual_every: PositiveInt = 10
    """Update on which L_P and L_C are evaluated: every n-th."""
    perceptual_share: Share | None = 0.5
    """Scale the perceptual gradient to this share of the diffusion gradient's norm; null: nominal weights."""
    perceptual_clip: float | None = Field(None, gt=0)
    """Clip the perceptual gradient apart, before it is added; null: not."""
    perceptual_t_weight: Literal["none", "alpha_bar"] = "none"
    """Weight of L_P and L_C by t: none, or ᾱ_t (S means little where all is noise)."""
    snr_gamma: float | None = Field(None, gt=0)
    """γ of min-SNR weighting of L_LDM; null: w_t = 1, as the authors."""
    perceptual: PerceptualConfig = PerceptualConfig()
    """The distance S."""
    denoising: DenoisingConfig = DenoisingConfig()
    """The picture x̂."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Save the exponential moving average of the LoRA instead of its last state; null: not."""
    processes: PositiveInt = 1
    """GPUs that train one LoRA together; the batch of an update is batch_size × accumulation × processes."""
    gradient_checkpointing: bool = False
    """Trade time for memory."""
    compile: bool = False
    """Compile the UNet (torch.compile): minutes at the start, faster updates; for long runs on a GPU."""
    tensorboard: bool = True
    """Write losses, gradient norms and sample pictures for TensorBoard beside the LoRA."""
    wandb: str | None = Field(None, min_length=1)
    """Project on Weights & Biases to log to as well, which wants the package wandb; null: not."""
    sample_every: int = Field(100, ge=0)
    """Updates between sample pictures on the boards, from the same captions and noise; 0: none."""
    sample_pictures: PositiveInt = 4
    """Sample pictures each time."""
    checkpoint_every: PositiveInt = 50
    """Updates between checkpoints."""
    checkpoints_kept: PositiveInt = 2
    """Checkpoints kept."""

    @model_validator(mode="after")
    def _weights(self) -> "TrainConfig":
        if self.weight_ldm + self.weight_m + self.weight_p + self.weight_c == 0:
            raise ValueError("all loss weights are 0: there is nothing to train on")
        if self.warmup >= self.updates:
            raise ValueError(f"warmup ({self.warmup}) must be smaller than updates ({self.updates})")
        return self


class SampleConfig(Section):
    """Generation for evaluation (paper §5)."""

    images_per_prompt: PositiveInt = 20
    """Pictures per prompt; their seeds are common to all variants."""
    steps: PositiveInt = 50
    """DPM-Solver++ steps."""
    guidance_scale: float = Field(4.5, ge=1)
    """Classifier-free guidance."""
    batch_size: PositiveInt = 20
    """Pictures per forward pass."""


class ScoreConfig(Section):
    """Scores and their intervals (paper §5, §6)."""

    variants: Annotated[tuple[Variant, ...], EachOnce] = Field(("sd", "scoft_mpc"), min_length=1)
    """Variants in results/<culture>/scores.parquet and on the report."""
    batch_size: PositiveInt = 64
    """Pictures per forward pass."""
    neighbours: PositiveInt = 5
    """k of density and coverage."""
    bootstrap: int = Field(1000, ge=100)
    """Resamples behind each bootstrap interval."""


class EvaluationConfig(Section):
    """What the tables and figures need (paper §5, §6)."""

    prompts: Path = Path("resources/prompts/mini.txt")
    """Test prompts of the cultures that have no own, one a line; a culture's suffix is appended to each."""
    train_prompts: PositiveInt = 10
    """Captions of training pictures drawn as prompts (Table 2)."""
    coco: Path = Path("resources/mini/coco")
    """MS-COCO's val2017 and annotations, or a folder with metadata.jsonl (Table 1)."""
    coco_pictures: int = Field(100, ge=2)
    """Pictures drawn from it; each caption is a prompt, once per variant."""
    generic_prompts: Path = Path("resources/prompts/mini_generic.txt")
    """Prompts that name no culture (Fig. 8), one a line."""
    fig7_cultures: Annotated[tuple[str, ...], EachOnce] = Field(("china", "india", "korea"), min_length=1)
    """Cultures over which Fig. 7 takes the mean."""
    fig7_extractors: dict[str, PerceptualConfig] = Field(
        {name: PerceptualConfig(extractor=name) for name in ("clip", "dreamsim", "dino")}, min_length=1
    )
    """Distances compared, by name; the first one also with every recording of the gradient."""
    fig7_updates: Annotated[tuple[PositiveInt, ...], EachOnce] = Field((30, 60, 120), min_length=1)
    """Lengths of training; each point is a training of its own, with its whole schedule."""

    @field_validator("fig7_extractors")
    @classmethod
    def _names(cls, extractors: dict[str, PerceptualConfig]) -> dict[str, PerceptualConfig]:
        for name in extractors:
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
                raise ValueError(f"name {name!r} must match [a-z][a-z0-9_]*")
        return extractors


class StudyConfig(Section):
    """What results/embedded_world.csv sums up, and the curves; runs are named in "runs"."""

    seeds: tuple[str, ...] = ()
    """Runs that differ from the default one in their seed alone."""
    controls: tuple[str, ...] = ()
    """Runs of the full variant with other negatives."""
    control_cultures: tuple[str, ...] = ()
    """Cultures in which the controls are run."""
    lengths: tuple[str, ...] = ()
    """Runs of all variants with other numbers of updates: the points of the curves."""
    length_cultures: tuple[str, ...] = ()
    """Cultures over which the curves take the mean."""


class SimulationConfig(Section):
    """Simulated participants: they try the survey out and say how many real ones are needed."""

    participants: PositiveInt = 12
    """Participants of each culture."""
    strengths: dict[str, float] = {"sd": 0.0, "scoft_m": 0.7, "scoft_mp": 1.0, "scoft_mpc": 1.8}
    """How good each variant truly is, on the Plackett–Luce log scale: a difference of 1 wins 73% of pairs."""
    careless: Share = 0.0
    """Share of participants who rank at random."""
    adversarial: Share = 0.0
    """Share of participants who rank the other way round."""
    power_participants: tuple[PositiveInt, ...] = (5, 10, 20, 40)
    """Sizes of the crowds in the power table."""
    power_careless: tuple[Share, ...] = (0.0, 0.3)
    """Shares of careless participants in it."""
    power_adversarial: tuple[Share, ...] = (0.0, 0.2)
    """Shares of adversarial participants in it."""
    power_trials: PositiveInt = 100
    """Simulated surveys behind each of its rows."""

    @field_validator("strengths")
    @classmethod
    def _variants(cls, strengths: dict[str, float]) -> dict[str, float]:
        if unknown := set(strengths) - set(VARIANTS):
            raise ValueError(f"no such variant: {', '.join(sorted(unknown))}")
        return strengths


class SurveyConfig(Section):
    """The human survey (paper §5): its pages, its answers and how they are summed up."""

    cultures: Annotated[tuple[str, ...], EachOnce] = ()
    """Cultures surveyed; none named: all."""
    variants: Annotated[tuple[Variant, ...], EachOnce] = Field(
        ("sd", "scoft_m", "scoft_mp", "scoft_mpc"), min_length=2
    )
    """Variants whose pictures are ranked."""
    pages: PositiveInt = 20
    """Pages drawn for each culture; a page is one prompt and one seed."""
    pages_per_participant: PositiveInt = 10
    """Pages each participant sees."""
    attention_checks: int = Field(0, ge=0, le=10)
    """Pages beside these that ask for a given order, to find who does not read."""
    failed_checks: int = Field(0, ge=0)
    """Participants who fail more checks than this are left out."""
    min_years: float = Field(5, ge=0, le=120)
    """Years lived in the culture from which on someone may take part."""
    wording: Path = Path("resources/survey/wording.en.yaml")
    """Every sentence participants read; translate it by copying the file."""
    jpeg_quality: int | None = Field(92, ge=50, le=100)
    """Pictures inside the page are JPEG of this quality; null: PNG, five times as large."""
    answers: Path = Path("answers")
    """Folder of collected answers in any accepted form."""
    resamples: int = Field(1000, ge=100)
    """Resamples behind each bootstrap interval."""
    simulation: SimulationConfig = SimulationConfig()
    """Simulated participants."""


class ReportConfig(Section):
    """The page results/report.html."""

    include: Annotated[
        tuple[Literal["table1", "table2", "fig5", "fig6", "fig7", "fig8", "kid_power"], ...], EachOnce
    ] = ()
    """The paper's tables and figures to add; what they need is made for all cultures."""
    negatives: bool = True
    """Show negatives; false after ``purge_negatives``, or the page asks for new ones."""
    pictures_per_prompt: PositiveInt = 4
    """Pictures of each prompt on the contact sheets."""
    positives: PositiveInt = 12
    """Training pictures shown with their depth and negatives."""
    thumbnail: int = Field(96, ge=16, le=512)
    """Longest side of a shown picture in pixels."""


class PlanConfig(Section):
    """The estimate of `snakemake plan`."""

    gpu: Literal["rtx_4060", "rtx_3060", "rtx_3090_ti", "a40", "a100", "h100"] = "a100"
    """Card whose time is estimated."""
    utilisation: float = Field(0.35, gt=0, le=1)
    """Assumed share of the card's peak that is reached."""
    pictures: PositiveInt = 150
    """Training pictures of a culture."""
    prompts: PositiveInt = 10
    """Test prompts of a culture."""


class PipelineConfig(Section):
    """The whole configuration."""

    presets: tuple[str, ...] = ()
    """Names of files in config/presets over which this configuration is laid; the later ones win."""
    results: Path = Path("results")
    """Root of all outputs; runs with different settings can stand side by side."""
    seed: int = Field(1024, ge=0, lt=2**63)
    """The run's seed, from which every other is derived."""
    threads: PositiveInt = 8
    """Most threads of one job; never more than Snakemake grants or the machine has."""
    shards: PositiveInt = 1
    """Jobs that share captioning, depth, negatives, caching or sampling of one culture; results do not depend
    on it."""
    cultures: dict[str, Culture] = Field(min_length=1)
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
    """Training cache and perceptual targets."""
    train: TrainConfig = TrainConfig()
    """Training."""
    sample: SampleConfig = SampleConfig()
    """Generation."""
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
    runs: dict[str, dict[str, Any]] = {}
    """Further runs under <results>/<culture>/runs/<name>: name to the settings that differ from this
    configuration, out of "seed" (of training and sampling), "filter", "train" and "sample"."""

    @field_validator("cultures")
    @classmethod
    def _names(cls, cultures: dict[str, Culture]) -> dict[str, Culture]:
        for name in cultures:
            if not re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", name):
                raise ValueError(f"culture name {name!r} must match [a-z][a-z0-9_-]*")
            if name in RESERVED:
                raise ValueError(f"no culture can be called {name!r} (nor {', '.join(RESERVED)})")
        return cultures

    @model_validator(mode="after")
    def _runs(self) -> "PipelineConfig":
        for name, changes in self.runs.items():
            if not re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", name) or name in PROMPT_SETS:
                raise ValueError(
                    f"run name {name!r} must match [a-z][a-z0-9_-]* and be none of {', '.join(PROMPT_SETS)}"
                )
            if unknown := set(changes) - set(RUN_SETTINGS):
                raise ValueError(f"runs.{name}: can change {', '.join(RUN_SETTINGS)}, not {sorted(unknown)}")
            try:
                self.of_run(name)
            except ValidationError as error:
                raise ValueError(f"runs.{name}.{'; '.join(_explain(e) for e in error.errors())}") from None
        return self

    def of_run(self, name: str) -> "PipelineConfig":
        """Return the configuration with a run's changes made."""
        return PipelineConfig.model_validate(_changed(self.model_dump(exclude={"runs"}), self.runs[name]))


PRESETS = Path("config/presets")


def preset_files(raw: dict[str, Any]) -> list[Path]:
    """Return where the presets lie that a configuration names, each after those it names itself.

    Raises:
        UserError: there is no such preset.
    """
    import yaml

    names = raw.get("presets") or []
    found: dict[Path, None] = {}
    for name in names if isinstance(names, list) else [names]:
        file = PRESETS / f"{name}.yaml"
        if not file.is_file():
            there = ", ".join(sorted(path.stem for path in PRESETS.glob("*.yaml")))
            raise UserError(f"presets: no such preset: {name!r} (there are: {there})")
        inner = yaml.safe_load(file.read_text(encoding="utf-8"))
        found |= dict.fromkeys([*preset_files(inner), file])
    return list(found)


def load_config(raw: dict[str, Any], files: Sequence[Path] = ()) -> PipelineConfig:
    """Validate a configuration, files and folders included.

    Types are taken at their word: "5" and true are no numbers.

    Args:
        raw: as read from YAML or JSON.
        files: where it was read from; a key that stands twice in one of them is an error.

    Raises:
        UserError: one message with every mistake, each naming its key.
    """
    mistakes = [*_twice(files), *_unreadable(raw)]
    if not mistakes:
        try:
            config = PipelineConfig.model_validate_json(json.dumps(raw), strict=True)
        except ValidationError as error:
            mistakes = [_explain(mistake) for mistake in error.errors()]
        else:
            mistakes = _mistakes(config)
            mistakes += _mistakes_of_runs(config, mistakes)
    if mistakes:
        text = "configuration: " + "; ".join(mistakes)
        raise UserError("".join(c if c.isprintable() else "\ufffd" for c in text))
    return config


def _twice(files: Sequence[Path]) -> Iterator[str]:
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
    if depth > 20:
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


def _mistakes(config: PipelineConfig) -> list[str]:
    return [*_contradictions(config), *_missing(config)]


def _mistakes_of_runs(config: PipelineConfig, known: list[str]) -> list[str]:
    """Name what a run's own settings make wrong, beside what is known to be wrong without them."""
    return [
        f"runs.{name}.{mistake}"
        for name in config.runs
        for mistake in _mistakes(config.of_run(name))
        if mistake not in known
    ]


def _contradictions(config: PipelineConfig) -> Iterator[str]:
    """Name settings that are right one by one and wrong together."""
    known = ", ".join(sorted(config.cultures))
    named = {"survey.cultures": config.survey.cultures}
    if "fig7" in config.report.include:
        named["evaluation.fig7_cultures"] = config.evaluation.fig7_cultures
    for key, cultures in named.items():
        for unknown in sorted(set(cultures) - config.cultures.keys()):
            yield f"{key}: no such culture: {unknown} (there are: {known})"
    for variant in sorted(set(config.survey.variants) - config.survey.simulation.strengths.keys()):
        yield f"survey.simulation.strengths: name a strength for '{variant}', which survey.variants names"
    for key, perceptual in _distances(config).items():
        if perceptual.model is None and not hasattr(config.models, perceptual.extractor):
            yield f"{key}.model: '{perceptual.extractor}' has no entry in models; name its weights here"
    if config.data.aspect == "buckets":
        if config.train.batch_size > 1:
            yield (
                "train.batch_size: pictures of several sizes (data.aspect) are trained on one at a time; "
                "set 1 and raise train.accumulation"
            )
        if config.train.perceptual.extractor == "lpips":
            yield "train.perceptual.extractor: lpips needs pictures of one size (data.aspect: square)"
    if re.search(r"[{}]", str(config.results)):
        yield f"results: braces are Snakemake's wildcards; give a folder without (given: '{config.results}')"


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
        "survey.wording": ("file", config.survey.wording),
    }
    for name, culture in config.cultures.items():
        wanted |= {
            f"cultures.{name}.images": (
                "folder or file",
                None if str(culture.images).startswith(HUB) else culture.images,
            ),
            f"cultures.{name}.prompts": ("file", culture.prompts),
            f"cultures.{name}.withdrawn": ("file", culture.withdrawn),
        }
    models = {f"models.{role}": getattr(config.models, role) for role in Models.model_fields}
    models |= {f"{key}.model": perceptual.model for key, perceptual in _distances(config).items()}
    for key, ref in models.items():
        if ref is not None and ref.url is None and _is_local(ref.path):
            wanted[f"{key}.path"] = ("folder or file", Path(ref.path))
    for key, (kind, path) in wanted.items():
        if path is not None and not _is_there(path, kind):
            yield f"{key}: no such {kind}: {path}"


def _is_there(path: Path, kind: str) -> bool:
    try:
        return path.is_file() if kind == "file" else path.is_dir() or (kind != "folder" and path.exists())
    except OSError:  # too long a name, or not ours to look at
        return False


def _is_local(path: str) -> bool:
    """Tell a folder from a hub id, which is a name or an owner and a name."""
    parts = Path(path).parts
    return path.startswith((".", "/", "~")) or len(parts) > 2 or _is_there(Path(parts[0]), "folder")


def _changed(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Settings with some of them replaced, at any depth."""
    return settings | {
        key: _changed(settings[key], value)
        if isinstance(value, dict) and isinstance(settings.get(key), dict)
        else value
        for key, value in changes.items()
    }


def _explain(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "(top level)"
    if error["type"] == "extra_forbidden":
        return f"{key}: no such setting"
    shown = "" if error["type"] == "missing" else f" (given: {str(error['input'])[:80]!r})"
    if isinstance(error["input"], str) and error["type"] in ("float_type", "int_type", "bool_type"):
        shown += "; write it without quotes, and a power of ten as 1.0e-4"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {message[0].lower()}{message[1:]}{shown}"


SCHEMA_FILE = Path("workflow/schemas/config.schema.yaml")


def json_schema() -> str:
    """Return the JSON schema of the configuration as text (JSON is YAML)."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **PipelineConfig.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json_schema(), encoding="utf-8")
