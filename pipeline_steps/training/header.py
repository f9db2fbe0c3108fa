"""What a LoRA's file says of itself, to this project and in the words that other programs read.

``ss_…`` are kohya-ss' words (AUTOMATIC1111 sorts files into its tabs by ``ss_base_model_version`` and
``ss_v2``), ``modelspec.…`` those of ModelSpec 1.0.1 (github.com/Stability-AI/ModelSpec). Equal inputs
give an equal header: no date but the one in the settings.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline_steps import artifacts
from pipeline_steps.config import FULL_VARIANT, LABELS, ExportConfig
from pipeline_steps.models.bases import licence_of

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline_steps.models.families.family import Family

DESCRIPTION = (
    "Moves a model's pictures of one culture towards pictures chosen by people of that culture, and away "
    "from the model's own earlier idea of it (SCoFT)."
)


def header(
    weights: Mapping[str, "Tensor"],
    training: Mapping[str, Any],
    family: "Family",
    culture: str,
    suffix: str,
    layers: str,
    said: ExportConfig = ExportConfig(),  # noqa: B008 (frozen)
) -> dict[str, str]:
    """Return a LoRA's header.

    Args:
        weights: the file's tensors; alpha / rank is in them.
        training: settings, variant, seed, base model, fingerprint, versions, pictures and their resolution.
        family: of the base model.
        culture: its name.
        suffix: what prompts end with, e.g. ", in Korea".
        layers: whose names the layers have, as ModelSpec's ``implementation``.
        said: what else the settings say of it.
    """
    kind, base, rank = family.kind(), training["base"], training["settings"]["lora_rank"]
    pictures = training.get("pictures", 0)  # earlier versions did not say how many
    phrase, digest = suffix.strip(" ,"), artifacts.data_sha256(weights)
    side = training.get("resolution") or family.side()
    variant = "" if training["variant"] == FULL_VARIANT else f", {LABELS[training['variant']]}"
    conv = any(weight.dim() == 4 and weight.shape[-1] > 1 for weight in weights.values())
    return _without_blanks(
        {
            "scoft_training": json.dumps(training, sort_keys=True),
            "ss_base_model_version": kind.version,
            "ss_v2": str(kind.v2) if kind.version else None,
            "ss_network_module": "networks.lora" if kind.version else None,
            "ss_network_dim": str(rank),
            "ss_network_alpha": str(float(rank)),
            "ss_network_args": json.dumps({"conv_dim": rank, "conv_alpha": float(rank)}) if conv else None,
            "ss_output_name": output_name(culture, family.base.short_name),
            "ss_sd_model_name": base["path"],
            "ss_seed": str(training["seed"]),
            "ss_num_train_images": str(pictures) if pictures else None,
            "ss_tag_frequency": json.dumps({culture: {phrase: pictures or 1}}) if phrase else None,
            "sshs_model_hash": digest,
            "modelspec.sai_model_spec": "1.0.1",
            "modelspec.architecture": f"{kind.architecture}/lora",
            "modelspec.implementation": layers,
            "modelspec.title": f"SCoFT {culture}, for {family.base.short_name}{variant}",
            "modelspec.resolution": f"{side}x{side}",
            "modelspec.description": DESCRIPTION,
            "modelspec.author": said.author,
            "modelspec.date": said.date,
            "modelspec.hash_sha256": f"0x{digest}",
            "modelspec.license": licence_of(base["path"], said.licence),
            "modelspec.prediction_type": kind.prediction,
            "modelspec.trigger_phrase": phrase,
            "modelspec.usage_hint": f"Prompts end with '{suffix}'." if phrase else None,
            "modelspec.tags": "SCoFT, culture",
        }
    )


def output_name(culture: str, base: str) -> str:
    """Return what a LoRA's file is called among those of many makers, without its ending."""
    return f"scoft_{culture}_{base}"


def _without_blanks(lines: Mapping[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in lines.items() if value}
