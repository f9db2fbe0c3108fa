"""Z-Image: one transformer over picture and prompt, a Qwen3 as text encoder, on a rectified flow."""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pipeline_steps.config import ModelRef
from pipeline_steps.errors import UserError
from pipeline_steps.method.denoising import Condition
from pipeline_steps.models import blueprints
from pipeline_steps.models.families.flow import FlowFamily
from pipeline_steps.models.loading import device, dtype, load
from pipeline_steps.models.store import locate


class ZImage(FlowFamily):
    """Its condition is ``encoder_hidden_states`` (n, longest, d), and ``mask`` (n, longest) of its tokens."""

    title = "Z-Image"
    pipeline = "ZImagePipeline"
    controlled = "ZImageControlNetPipeline"
    control_network = "ZImageControlNetModel"
    control_fits = ("dim", "n_heads")
    denoiser_class = "ZImageTransformer2DModel"
    denoiser_part = "transformer"
    tokens = 512
    patch = 2

    def refuse(self) -> None:
        """Refuse the distilled model, which its name alone tells from the base."""
        if _distilled(self.base):
            raise UserError(
                f"models.base: '{self.base.path}' is distilled to a few steps without guidance, which these "
                "losses would undo; name Tongyi-MAI/Z-Image"
            )

    def _mu(self, positions: int, settings: Any) -> float:
        from diffusers.pipelines.z_image.pipeline_z_image import calculate_shift

        mu: float = calculate_shift(
            positions // self.patch**2,
            settings.base_image_seq_len,
            settings.max_image_seq_len,
            settings.base_shift,
            settings.max_shift,
        )
        return mu

    def predict(self, denoiser: Any, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Call the transformer: pictures are videos of one frame, and time and velocity run the other way."""
        frames, texts = self._inputs(z, condition)
        found = denoiser(frames, 1 - t, texts, return_dict=False)[0]
        return -torch.stack(found).squeeze(2)

    def _inputs(self, z: Tensor, condition: Condition) -> tuple[list[Tensor], list[Tensor]]:
        """Pictures and prompts one by one, each prompt as long as it is."""
        states, mask = condition["encoder_hidden_states"], condition["mask"]
        # A plan's tensors have no numbers: its prompts are the longest.
        lengths = [mask.shape[1]] * len(mask) if mask.is_meta else mask.long().sum(1).tolist()
        return list(z.unsqueeze(2)), [row[:length] for row, length in zip(states, lengths, strict=True)]

    def _encode_prompts(self, pipeline: Any, prompts: list[str]) -> Condition:
        # A list of its own: the pipeline puts each prompt into the chat template where it stands.
        found, _ = pipeline.encode_prompt(list(prompts), device=device(), do_classifier_free_guidance=False)
        mask = pad_sequence([row.new_ones(len(row), dtype=torch.bool) for row in found], batch_first=True)
        return {"encoder_hidden_states": pad_sequence(found, batch_first=True), "mask": mask}

    def condition_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return those of the longest prompt."""
        width = blueprints.configuration(self.base, "transformer", "transformer")["cap_feat_dim"]
        return {"encoder_hidden_states": (self.tokens, width), "mask": (self.tokens,)}

    def guidance(self, scale: float) -> float:
        """Its pipelines add w (c − ∅) to c, where others have 1 + w."""
        return scale - 1

    def depth_arguments(self, pictures: list[Any]) -> dict[str, Any]:
        """The pipeline takes sizes of their own."""
        width, height = pictures[0].size
        return {"control_image": pictures, "width": width, "height": height}

    def _control(self, controlnet: ModelRef) -> Any:
        """Load the control from a folder, or from the one file that it is published as.

        diffusers guesses the version of such a file and fetches the configuration of that version of the
        Turbo control from the hub; given the configuration, it guesses and fetches nothing.
        """
        if _distilled(controlnet):
            raise UserError(
                f"models.controlnet: '{controlnet.path}' is for the distilled model; name alibaba-pai's "
                "Z-Image-Fun-Controlnet-Union, or set negatives.structure: noise"
            )
        path = locate(controlnet, "controlnet")
        if path.is_dir():
            return super()._control(controlnet)
        from diffusers import ZImageControlNetModel

        settings = blueprints.lookup(controlnet, "controlnet")
        if settings is None:
            raise UserError(
                f"models.controlnet: '{controlnet.path}' is one file, whose configuration is not known here; "
                "make a folder of it (diffusion_pytorch_model.safetensors) and its config.json"
            )
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(settings))
            options = {"config": folder, "dtype": dtype(self.base)}
            return load(ZImageControlNetModel, controlnet, "controlnet", "from_single_file", **options)

    def hint(
        self, denoiser: Any, control: Any, z: Tensor, t: Tensor, condition: Condition, picture: Tensor
    ) -> Any:
        """Call the control, which shares layers with the transformer and sees the depth as latents."""
        shared = type(control).from_transformer(control, denoiser)
        frames, texts = self._inputs(z, condition)
        depth = z.new_zeros(len(z), control.config.control_in_dim, 1, *z.shape[2:])
        return shared(frames, 1 - t, texts, list(depth))

    def kohya_module(self, layer: str) -> str:
        """Return ComfyUI's name: it reads the layers of diffusers' transformer under a prefix.

        ComfyUI, comfy/lora.py::model_lora_keys_unet, the branch of ``Lumina2``, with
        comfy/utils.py::z_image_to_diffusers, which places q, k and v in the one layer that it has of them.
        """
        return f"diffusion_model.{layer}"


def _distilled(ref: ModelRef) -> bool:
    """Whether a model's own name is that of a distilled one; a disk or host may be called as it likes."""
    path = Path(ref.path.lower())
    # The hub's cache has the name in a folder further up, and a hub id may end in a commit.
    cached = [part for part in path.parts if part.startswith("models--")]
    return any("turbo" in name for name in (path.name.partition("@")[0], *cached))
