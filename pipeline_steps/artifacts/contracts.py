"""Every artifact of the pipeline: columns and key of each table, name and version of each tensor file."""

import pyarrow as pa

from pipeline_steps.artifacts.cells import PICTURE
from pipeline_steps.artifacts.tables import Table
from pipeline_steps.artifacts.tensors import TensorFile


def _schema(*fields: tuple[str, pa.DataType] | tuple[str, pa.DataType, str]) -> pa.Schema:
    """Columns are required unless marked "optional"."""
    return pa.schema([pa.field(name, kind, nullable=bool(rest)) for name, kind, *rest in fields])


IMAGES = Table(
    "images",
    1,
    _schema(
        ("image_id", pa.string()),
        ("image", PICTURE),
        ("caption", pa.string()),
        ("split", pa.string()),
        ("source_width", pa.int32()),
        ("source_height", pa.int32()),
        ("crop", pa.list_(pa.int32())),
        ("source_sha256", pa.string()),
        ("category", pa.string(), "optional"),
        ("era", pa.string(), "optional"),
        ("contributor", pa.string(), "optional"),
        ("source", pa.string(), "optional"),
        ("author", pa.string(), "optional"),
        ("licence", pa.string(), "optional"),
        ("consent", pa.string(), "optional"),
        ("extra", pa.string(), "optional"),
    ),
    ("image_id",),
)
"""The culture's pictures, cropped and resized once, to one size or (``data.aspect``) to a few. ``crop``
is left, top, right, bottom in source pixels; ``split`` is train or test; ``extra`` holds further
columns of the user's as JSON."""

FINDINGS = Table(
    "findings",
    1,
    _schema(
        ("severity", pa.int32()),
        ("kind", pa.string()),
        ("file", pa.string()),
        ("line", pa.string()),
    ),
    ("severity", "kind", "file", "line"),
)
"""What ingest found odd, worst first: severity 0 left out, 1 to be mended, 2 worth knowing; ``line`` says
what is wrong and how to mend it."""

CAPTIONS = Table(
    "captions",
    1,
    _schema(("image_id", pa.string()), ("index", pa.int32()), ("caption", pa.string())),
    ("image_id", "index"),
)
"""BLIP's captions of the training pictures (c_blip^i)."""

DEPTH = Table("depth", 1, _schema(("image_id", pa.string()), ("image", PICTURE)), ("image_id",))
"""Inverse depth of the training pictures, 8-bit grey, 255 near, as large as the picture."""

NEGATIVES = Table(
    "negatives",
    1,
    _schema(
        ("image_id", pa.string()),
        ("index", pa.int32()),
        ("image", PICTURE),
        ("prompt", pa.string()),
        ("seed", pa.int64()),
    ),
    ("image_id", "index"),
)
"""The un-tuned model's own pictures of each training scene (x⁻)."""

DISTANCES = Table(
    "distances",
    1,
    _schema(
        ("image_id", pa.string()), ("index", pa.int32()), ("distance", pa.float64()), ("kept", pa.bool_())
    ),
    ("image_id", "index"),
)
"""DreamSim distance of every negative to its positive."""

NEGATIVES_KEPT = Table(
    "negatives_kept",
    1,
    NEGATIVES.schema.append(pa.field("distance", pa.float64(), False)),
    ("image_id", "index"),
)
"""The negatives that are no false negatives."""

SAMPLES = Table(
    "samples",
    1,
    _schema(
        ("prompt_id", pa.string()),
        ("index", pa.int32()),
        ("prompt", pa.string()),
        ("seed", pa.int64()),
        ("image", PICTURE),
    ),
    ("prompt_id", "index"),
)
"""Pictures generated for the test prompts."""

SCORES = Table(
    "scores",
    1,
    _schema(
        ("variant", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64(), "optional"),
        ("high", pa.float64(), "optional"),
        ("interval", pa.string()),
        ("unit", pa.string()),
        ("generated", pa.int32()),
        ("reference", pa.int32(), "optional"),
        ("extractor", pa.string()),
        ("weights_sha256", pa.string()),
    ),
    ("variant", "metric"),
)
"""One score of one variant: interval and how it was got, both sample sizes, and the network behind it."""

BREAKDOWN = Table(
    "breakdown",
    1,
    _schema(
        ("by", pa.string()),
        ("group", pa.string()),
        ("variant", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64(), "optional"),
        ("high", pa.float64(), "optional"),
        ("interval", pa.string()),
        ("generated", pa.int32()),
        ("prompts", pa.int32()),
    ),
    ("by", "group", "variant", "metric"),
)
"""Scores of the pictures of one category, era or prompt (``by``), and how many pictures and prompts these
are; ``group`` is "not stated" where the prompts' table says nothing."""

TRAIN_LOG = Table(
    "train_log",
    3,
    _schema(
        ("update", pa.int32()),
        ("epoch", pa.int32()),
        ("learning_rate", pa.float64()),
        ("loss", pa.float64()),
        ("loss_ldm", pa.float64(), "optional"),
        ("loss_m", pa.float64(), "optional"),
        ("loss_p", pa.float64(), "optional"),
        ("loss_c", pa.float64(), "optional"),
        ("loss_prior", pa.float64(), "optional"),
        ("loss_dpo", pa.float64(), "optional"),
        ("loss_mapo", pa.float64(), "optional"),
        ("gradient_norm", pa.float64()),
        ("gradient_norm_diffusion", pa.float64(), "optional"),
        ("gradient_norm_perceptual", pa.float64(), "optional"),
        ("gradient_norm_contrast", pa.float64(), "optional"),
        ("loss_held_out", pa.float64(), "optional"),
        ("look_share", pa.list_(pa.float64())),
        ("look_positive", pa.list_(pa.float64())),
        ("look_negative", pa.list_(pa.float64())),
        ("look_active", pa.list_(pa.float64())),
    ),
    ("update",),
)
"""Every loss part and gradient norm of every update (before clipping); the held-out loss of some. Of each
picture that was looked at (``look_*``, lists of one length): its t as a share of the noise schedule, S(x̂,
x⁺), mean S(x̂, x⁻), and the share of negatives for which the hinge of Eq. 4 is open."""

PAGES = Table(
    "survey_pages",
    1,
    _schema(
        ("page", pa.string()),
        ("position", pa.int32()),
        ("picture", pa.string()),
        ("variant", pa.string()),
        ("prompt_id", pa.string()),
        ("index", pa.int32()),
        ("prompt", pa.string()),
        ("seed", pa.int64()),
        ("check", pa.bool_()),
        ("image", PICTURE),
    ),
    ("page", "position"),
)
"""The survey's pages: which variant stands at which position. Participants never see this table. A
page's name follows from its pictures and their order, so that answers can belong to no other page."""

ROUND = Table(
    "survey_round",
    1,
    _schema(
        ("page", pa.string()),
        ("position", pa.int32()),
        ("picture", pa.string()),
        ("variant", pa.string()),
        ("prompt", pa.string()),
        ("seed", pa.int64()),
        ("check", pa.bool_()),
    ),
    ("page", "position"),
)
"""What stood where on the pages of one round of the survey, without the pictures. It stays when the pages are
made anew."""

FORMS = Table(
    "survey_forms",
    1,
    _schema(("form", pa.int32()), ("place", pa.int32()), ("page", pa.string())),
    ("form", "place"),
)
"""Which pages a participant sees, in order: the n-th participant gets form n modulo their number."""

SIMULATED = Table(
    "survey_simulated",
    1,
    _schema(
        ("culture", pa.string()),
        ("participant", pa.string()),
        ("page", pa.string()),
        ("item", pa.string()),
        ("picture", pa.string()),
        ("rank", pa.int32()),
    ),
    ("culture", "participant", "page", "item", "picture"),
)
"""Answers of people who never lived, in the generic long form; the note says so."""

ANSWERS = Table(
    "survey_answers",
    1,
    _schema(
        ("culture", pa.string()),
        ("participant", pa.string()),
        ("page", pa.string()),
        ("item", pa.string()),
        ("prompt", pa.string()),
        ("variants", pa.list_(pa.string())),
        ("ranks", pa.list_(pa.int32()), "optional"),
        ("file", pa.string()),
    ),
    ("culture", "participant", "page", "item"),
)
"""Good answers: the rank (1 is best) of each variant, in the order the page showed them. Blank answers have
no ranks. The note says whether the participants were simulated."""

REJECTED = Table(
    "survey_rejected",
    2,
    _schema(
        ("file", pa.string()),
        ("row", pa.int32()),
        ("reason", pa.string()),
        ("public_file", pa.string()),
        ("public_reason", pa.string()),
    ),
    ("file", "row", "reason"),
)
"""Answers that could not be used: where they stand and why; for a page that others see once more with
"person 7" in the place of participants, whose codes are their keys."""

VOTES = Table(
    "survey_votes",
    1,
    _schema(
        ("culture", pa.string()),
        ("item", pa.string()),
        ("left", pa.string()),
        ("right", pa.string()),
        ("votes_left", pa.int32()),
        ("votes_right", pa.int32()),
        ("weight_left", pa.float64()),
        ("weight_right", pa.float64()),
        ("winner", pa.string()),
        ("rule", pa.string()),
        ("reason", pa.string()),
    ),
    ("culture", "item", "left", "right"),
)
"""MMSR+Vote of every pair; culture and item "all" stand for all together. A participant has one vote."""

CONSENSUS = Table(
    "survey_consensus",
    1,
    _schema(
        ("culture", pa.string()),
        ("item", pa.string()),
        ("variant", pa.string()),
        ("wins", pa.int32()),
        ("losses", pa.int32()),
        ("ties", pa.int32()),
        ("place", pa.float64()),
    ),
    ("culture", "item", "variant"),
)
"""Order of the variants by wins minus losses; equals share a place."""

SKILLS = Table(
    "survey_skills",
    1,
    _schema(
        ("level", pa.string()),
        ("culture", pa.string()),
        ("participant", pa.string()),
        ("skill", pa.float64()),
        ("reason", pa.string()),
    ),
    ("level", "culture", "participant"),
)
"""MMSR's skill (log odds of voting with the truth) of every participant in each of the four runs; the reason
says why there is none (all weights are then 1)."""

STATISTICS = Table(
    "survey_statistics",
    1,
    _schema(
        ("culture", pa.string()),
        ("item", pa.string()),
        ("statistic", pa.string()),
        ("subject", pa.string()),
        ("value", pa.float64(), "optional"),
        ("low", pa.float64(), "optional"),
        ("high", pa.float64(), "optional"),
        ("interval", pa.string()),
        ("participants", pa.int32()),
        ("rankings", pa.int32()),
    ),
    ("culture", "item", "statistic", "subject"),
)
"""Statistics of the rankings beside MMSR+Vote; no value where it is not defined."""

AGREEMENT = Table(
    "survey_agreement",
    1,
    _schema(
        ("culture", pa.string()),
        ("item", pa.string()),
        ("rater", pa.string()),
        ("agreement", pa.float64()),
        ("low", pa.float64(), "optional"),
        ("high", pa.float64(), "optional"),
        ("interval", pa.string()),
        ("tau", pa.float64()),
        ("alpha", pa.float64(), "optional"),
        ("pairs_in_order", pa.int32()),
        ("pairs", pa.int32()),
        ("people", pa.int32()),
        ("comparisons", pa.int32()),
    ),
    ("culture", "item", "rater"),
)
"""How far a rater's rankings agree with a person's: share of pairs ordered alike, Kendall's τ, Krippendorff's
α, and how many pairs of variants both put in the same order on average. Raters: "people" (with one another),
"judge", and every score by its name, which ranks all pages of a culture as it ranks the variants."""

POWER = Table(
    "survey_power",
    1,
    _schema(
        ("participants", pa.int32()),
        ("careless", pa.float64()),
        ("adversarial", pa.float64()),
        ("method", pa.string()),
        ("statistic", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("trials", pa.int32()),
    ),
    ("participants", "careless", "adversarial", "method", "statistic"),
)
"""How often simulated crowds find the true order, or the true best."""


TRAIN_CACHE = TensorFile("train_cache", 2)
"""Latents and text conditions of the training pictures."""
NEGATIVE_CACHE = TensorFile("negative_cache", 1)
"""Latents of the kept negatives."""
TARGETS = TensorFile("targets", 2)
"""Perceptual features of positives and negatives, for one feature extractor and set of views."""
LORA = TensorFile("lora", 1)
"""LoRA weights with diffusers' keys."""
FEATURES = TensorFile("features", 1)
"""What each network sees in a table of pictures, row by row (see ``features``)."""
KOHYA = TensorFile("lora_kohya", 1)
"""The same weights with the keys of kohya-ss."""
CHECKPOINT = TensorFile("checkpoint", 1)
"""Everything needed to go on training."""
