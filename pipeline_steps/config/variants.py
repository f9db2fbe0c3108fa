"""What each variant is: the one table that a new variant is written into."""

from typing import Literal, NamedTuple, get_args

Variant = Literal["sd", "ldm", "scoft_m", "scoft_mp", "scoft_mpc", "dpo", "mapo"]
"""The models of Tables 1 and 2, from no training to all losses, and the baselines beside them."""
Loss = Literal["ldm", "m", "p", "c", "dpo", "mapo"]
"""L_LDM, L_M, L_P and L_C (paper §4); Diffusion-DPO's and MaPO's."""


class Definition(NamedTuple):
    """A variant.

    Attributes:
        label: what people read.
        short: the same where there is little room, as the paper has it.
        losses: what it is trained with; none for the un-tuned model.
    """

    label: str
    short: str
    losses: tuple[Loss, ...]


DEFINITIONS: dict[Variant, Definition] = {
    "sd": Definition("Stable Diffusion", "SD", ()),
    "ldm": Definition("Fine-tuning", "FT", ("ldm",)),
    "scoft_m": Definition("SCoFT+M", "M", ("ldm", "m")),
    "scoft_mp": Definition("SCoFT+MP", "MP", ("ldm", "m", "p")),
    "scoft_mpc": Definition("SCoFT+MPC", "MPC", ("ldm", "m", "p", "c")),
    "dpo": Definition("Diffusion-DPO", "DPO", ("dpo",)),
    "mapo": Definition("MaPO", "MaPO", ("ldm", "mapo")),
}
VARIANTS: tuple[Variant, ...] = get_args(Variant)
BASELINES: tuple[Variant, ...] = ("dpo", "mapo")
"""Preference methods: real pictures win over the kept negatives, whose latents they train on."""
PAPER: tuple[Variant, ...] = tuple(name for name in VARIANTS if name not in BASELINES)
"""What the paper compares."""
TRAINED: tuple[Variant, ...] = tuple(name for name in VARIANTS if DEFINITIONS[name].losses)
"""All but the un-tuned model."""
PERCEPTUAL: tuple[Variant, ...] = tuple(name for name in TRAINED if "p" in DEFINITIONS[name].losses)
"""Those whose losses look at the picture x̂."""
FULL_VARIANT: Variant = "scoft_mpc"
"""The variant whose LoRA is the main product."""
SHORT: dict[str, str] = {name: definition.short for name, definition in DEFINITIONS.items()}
"""The same in short."""
LABELS: dict[str, str] = {name: definition.label for name, definition in DEFINITIONS.items()}
"""What people read for each variant."""
