"""Every setting: its type, default, bounds and one sentence. Imports nothing heavy.

``PipelineConfig`` is the whole configuration; each rule hands one section to its step as JSON,
where the same frozen class reads it back.
"""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

HUB = "hub:"
"""What "images" of a culture begins with where they are a data set on the Hugging Face hub."""
LINK = re.compile(r"(https?://([\w.-]+(?::\d+)?(?:/[\w+~-][\w.+~-]*)+))(?:#sha256=([0-9a-fA-F]{8,64}))?")
"""A model that is not on the hub: its address, which is also its place among the fetched ones, and hash."""
HUB_ID = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([0-9a-f]{7,40}))?")
"""A model on the hub: owner and name, and a commit."""
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
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
"""What stands in the name of a file or folder."""


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
    """Appended to test prompts and to BLIP's captions, e.g. ", in Korea". Your own captions stay as written,
    so let them name the culture."""
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
    """A model on this machine, on the hub or behind a link."""

    path: str = Field(min_length=1)
    """Local folder or file; or what `snakemake models` fetches: a hub id, with a commit if you like
    ("owner/name@commit"; without, the one in config/models.lock.json, or the newest), or a link to a file
    or .zip, with its SHA-256 or the first digits of it ("https://…/net.pt#sha256=501f0c75")."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Precision the weights are loaded in."""
    variant: str | None = Field(None, pattern=r"^[a-z0-9]+$")
    """Take the weight files with this in their names ("fp16": half the size); null: the plain ones."""

    @field_validator("path")
    @classmethod
    def _link_or_commit(cls, path: str) -> str:
        if "://" in path and not LINK.fullmatch(path):
            raise ValueError(
                "a link is written https://host/folder/file, with #sha256=… or without; no ?, %, ="
            )
        if re.fullmatch(r"[\w.-]+/[\w.-]+@.*", path) and not HUB_ID.fullmatch(path):
            raise ValueError("behind the @ stands a commit: 7 to 40 of its digits 0-9 and a-f")
        return path


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
    fig7_cultures: Annotated[tuple[str, ...], EachOnce] = ()
    """Cultures over which Fig. 7 takes the mean; by default all."""
    fig7_extractors: dict[Name, PerceptualConfig] = Field(
        {name: PerceptualConfig(extractor=name) for name in ("clip", "dreamsim", "dino")}, min_length=1
    )
    """Distances compared, by name; the first one also with every recording of the gradient."""
    fig7_updates: Annotated[tuple[PositiveInt, ...], EachOnce] = Field((30, 60, 120), min_length=1)
    """Lengths of training; each point is a training of its own, with its whole schedule."""


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
    runs: dict[Name, dict[str, Any]] = {}
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
        for name, changes in runs.items():
            if unknown := set(changes) - set(RUN_SETTINGS):
                raise ValueError(f"{name}: can change {', '.join(RUN_SETTINGS)}, not {sorted(unknown)}")
        return runs

    def of_run(self, name: str) -> "PipelineConfig":
        """Return the configuration with a run's changes made.

        Raises:
            pydantic.ValidationError: one of the changes is no right setting.
        """
        settings = _changed(self.model_dump(mode="json"), self.runs[name])
        return PipelineConfig.model_validate_json(json.dumps(settings), strict=True)


def _changed(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Settings with some of them replaced, at any depth."""
    return settings | {
        key: _changed(settings[key], value)
        if isinstance(value, dict) and isinstance(settings.get(key), dict)
        else value
        for key, value in changes.items()
    }
