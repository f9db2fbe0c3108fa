"""All that is particular to one architecture, one file each; which it is, the model itself says.

A model's ``model_index.json`` names its pipeline's class, and :data:`FAMILIES` the family of that class. A
further one is a file beside these and an entry there (docs/models.md, "A further family"). Everything
else asks :func:`family_of` and knows no architecture.
"""

from pipeline_steps.config import BaseRef
from pipeline_steps.errors import UserError
from pipeline_steps.models import blueprints
from pipeline_steps.models.families.family import Family
from pipeline_steps.models.families.flux2_klein import Flux2Klein
from pipeline_steps.models.families.stable_diffusion import StableDiffusion
from pipeline_steps.models.families.stable_diffusion_xl import StableDiffusionXL
from pipeline_steps.models.families.zimage import ZImage
from pipeline_steps.models.store import locate

FAMILIES: dict[str, type[Family]] = {
    kind.pipeline: kind for kind in (StableDiffusion, StableDiffusionXL, ZImage, Flux2Klein)
}
"""Class of a pipeline to the family of its models."""

EDITING = ("Edit", "Kontext", "Omni", "Inpaint", "Img2Img", "KV")
"""Words in the classes of pipelines that start from a picture."""


def family_of(base: BaseRef) -> Family:
    """Return the family of a model on this machine, or of one whose index is published here.

    Raises:
        UserError: no such model, or one that this method cannot train.
    """
    index = blueprints.lookup(base, "model_index")
    name = str((index or {}).get("_class_name"))
    if name not in FAMILIES:
        locate(base, "base")  # if it is missing, or asks for code of its own, that is what is wrong
        known = " or ".join(f"{kind.title} ({name})" for name, kind in FAMILIES.items())
        found = f"a {name}" if index else "no pipeline: it has no model_index.json"
        if any(word in name for word in EDITING):
            found += ", which edits pictures and is not made to draw from texts"
        raise UserError(f"models.base: '{base.path}' is {found}; name a {known} model")
    family = FAMILIES[name](base)
    family.refuse()
    return family
