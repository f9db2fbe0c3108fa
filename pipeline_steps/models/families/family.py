"""What the steps, the trainer and the plan ask of an architecture."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor, nn

from pipeline_steps.config import BaseRef, ModelRef, without_commit
from pipeline_steps.errors import UserError
from pipeline_steps.method.denoising import Condition
from pipeline_steps.method.processes import Density, NoiseProcess
from pipeline_steps.models import blueprints
from pipeline_steps.models.loading import device, frozen, load, load_network, weights
from pipeline_steps.models.store import commit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STEPS_BAR: dict[str, Any] = {"desc": "steps", "leave": False, "mininterval": 1, "delay": 5}
"""The bar of one batch's denoising steps, below the pictures': it shows where a batch takes long."""
OF_LAYER = re.compile(r"((?:unet|transformer)\..+)\.lora_[AB]\.")
"""A key of a LoRA in diffusers' form, and the layer that it is of."""


class Kind(NamedTuple):
    """What other programs call the kind of model that a LoRA fits.

    Attributes:
        architecture: ModelSpec's name for it (github.com/Stability-AI/ModelSpec), without "/lora".
        prediction: ModelSpec's word for what it predicts; None where the architecture says it.
        version: kohya-ss' ``ss_base_model_version``; None where its networks know no such model.
        v2: kohya-ss' ``ss_v2``: Stable Diffusion 2.x.
        layers: whose names the layers have in kohya-ss' files, as ModelSpec's ``implementation``.
    """

    architecture: str
    prediction: str | None = None
    version: str | None = None
    v2: bool = False
    layers: str = "diffusers"


class Family(ABC):
    """One model of an architecture: how to load its parts, call them, and name them to other programs.

    What is written here fits every latent model in diffusers' layout with an autoencoder; a family says
    the rest. Latents are (n, c, h, w), pictures (n, 3, height, width) in [0, 1], conditions dictionaries
    of tensors with a row for each picture.

    Attributes:
        title: what people call it.
        pipeline: class in diffusers that draws from texts, as model_index.json names it.
        controlled: class in diffusers that draws with depth control; None where there is none.
        control_network: class of its depth control.
        control_fits: settings that the depth control and the denoiser have alike.
        denoiser_class: class in diffusers of the network that gets the LoRA.
        denoiser_part: that network's folder, its name in the pipelines, and what its LoRA's keys begin with.
        autoencoder_class: class in diffusers of the autoencoder.
        text_encoders: folders of the text encoders.
        tokenizer_part: folder of the tokenizer that counts a prompt's tokens.
        tokens: how many of them are read.
        patch: side of the squares of latents that the denoiser takes as one.
        usual_positions: height × width of the latents of the pictures that the model was made for.
        lora_layers: layers of the denoiser's attention that usually get a LoRA.
        options: what else its pipelines are loaded with.

    Args:
        base: the model.
    """

    title: ClassVar[str]
    pipeline: ClassVar[str]
    controlled: ClassVar[str | None] = None
    control_network: ClassVar[str] = "ControlNetModel"
    control_fits: ClassVar[tuple[str, ...]] = ("cross_attention_dim", "block_out_channels")
    denoiser_class: ClassVar[str]
    denoiser_part: ClassVar[str]
    autoencoder_class: ClassVar[str] = "AutoencoderKL"
    text_encoders: ClassVar[tuple[str, ...]] = ("text_encoder",)
    tokenizer_part: ClassVar[str] = "tokenizer"
    tokens: ClassVar[int]
    patch: ClassVar[int] = 1
    usual_positions: ClassVar[int] = 128 * 128
    lora_layers: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, base: BaseRef) -> None:
        self.base = base

    def refuse(self) -> None:  # noqa: B027 (most have nothing to refuse)
        """Look whether this very model can be trained.

        Raises:
            UserError: it cannot, e.g. since it is distilled to a few steps.
        """

    # --- noise, and the network that takes it away

    @abstractmethod
    def noise_process(self, positions: int | None = None, density: Density = "logit_normal") -> NoiseProcess:
        """Load the process the model was trained on, from its scheduler's configuration.

        Args:
            positions: height × width of the latents, on which some schedules depend; None: of the pictures
                that the model was made for.
            density: how a flow's times are drawn in training.

        Raises:
            UserError: it predicts something these losses do not know.
        """

    def denoiser(self) -> Any:
        """Load the denoiser, frozen."""
        return frozen(
            load_network(_diffusers(self.denoiser_class), self.base, "base", subfolder=self.denoiser_part)
        )

    @abstractmethod
    def predict(self, denoiser: Any, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Call the denoiser.

        Args:
            denoiser: the network.
            z: noisy latents in its precision.
            t: times of the noise process, (n,).
            condition: what :meth:`prompt_encoder` gives, with :meth:`picture_condition`.

        Returns:
            What the noise process has as its target, like z.
        """

    # --- what it is conditioned on

    def prompt_encoder(self, offload: bool = False) -> Callable[[Sequence[str]], Condition]:
        """Load the text encoders as a function of n prompts to their condition; "" is the empty prompt.

        The pipeline's own code encodes: prompts over the limit are cut with the end token kept.

        Args:
            offload: take them off the device after each call.
        """
        pipeline = self._load_pipeline(self.pipeline, **{self.denoiser_part: None}, vae=None)

        @torch.inference_mode()
        def encode(prompts: Sequence[str]) -> Condition:
            found = self._encode_prompts(pipeline.to(device()), list(prompts))
            if offload:
                pipeline.to("cpu", silence_dtype_warnings=True)  # it only waits there
            return found

        return encode

    @abstractmethod
    def _encode_prompts(self, pipeline: Any, prompts: list[str]) -> Condition:
        """Encode prompts by a pipeline without denoiser and autoencoder."""

    def picture_condition(self, count: int, width: int, height: int) -> Condition:
        """Return what the denoiser wants to know of ``count`` pictures of so many pixels beside a prompt.

        The empty prompt goes with the same.
        """
        return {}

    @abstractmethod
    def condition_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each of a condition's tensors for one picture, from the configurations."""

    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """Load the tokenizer; its ``model_max_length`` is how many tokens are read."""
        from transformers import AutoTokenizer

        tokenizer: PreTrainedTokenizerBase = load(
            AutoTokenizer, self.base, "base", subfolder=self.tokenizer_part, model_max_length=self.tokens
        )
        return tokenizer

    # --- latents

    def vae(self) -> Any:
        """Load the autoencoder, frozen: the model's own or the one named in its place."""
        return frozen(self._vae())

    def _vae(self) -> Any:
        kind = _diffusers(self.autoencoder_class)
        if self.base.vae:
            model = load_network(kind, self.base.vae, "base.vae", self.base)
        else:
            model = load_network(kind, self.base, "base", subfolder="vae")
        if self.base.vae_slicing:
            model.enable_slicing()
        return model

    def encode_pictures(self, vae: Any, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of pictures' latents, shifted and scaled, in the vae's precision."""
        posterior = vae.encode(unit.to(vae.device, vae.dtype) * 2 - 1).latent_dist
        shift, scale = _shift(vae), vae.config.scaling_factor
        return (posterior.mean - shift) * scale, posterior.std * scale

    def decode_latents(self, vae: Any, latents: Tensor) -> Tensor:
        """Return latents' pictures, float32, with gradient."""
        inner = latents / vae.config.scaling_factor + _shift(vae)
        pictures: Tensor = vae.decode(inner.to(vae.dtype)).sample
        return (pictures.float() / 2 + 0.5).clamp(0, 1)

    def multiple(self) -> int:
        """Return what the sides of pictures are multiples of, in pixels."""
        own = (self.base.vae, "") if self.base.vae else (self.base, "vae")
        blocks = len(blueprints.configuration(own[0], "vae", own[1])["block_out_channels"])
        return self.patch << (blocks - 1)  # each block but the last halves the sides

    # --- pipelines

    def text_to_image(self, lora: Path | None = None, offload: bool = False) -> Any:
        """Load the model's pipeline for drawing, with a LoRA where one is given.

        Args:
            lora: a LoRA's file.
            offload: keep on the device only the network that is at work.

        Raises:
            UserError: the LoRA is one for another kind of model.
        """
        pipeline = self._load_pipeline(self.pipeline, vae=self._vae())
        if lora is not None:
            self._check_lora(lora, getattr(pipeline, self.denoiser_part))
            pipeline.load_lora_weights(lora.parent, weight_name=lora.name)
        return self._with_sampler(_placed(pipeline, offload))

    def _check_lora(self, lora: Path, denoiser: nn.Module) -> None:
        """Refuse a LoRA of another model, of which diffusers would load nothing and say little, or commit."""
        with safe_open(lora, "pt") as file:
            names, metadata = list(file.keys()), file.metadata() or {}
        training = json.loads(metadata.get("scoft_training", "{}"))
        made, now = training.get("base", {}), commit(self.base)
        name = without_commit(self.base.path)
        if without_commit(made.get("path", "")) == name and (made.get("commit") or now) != now:
            raise UserError(
                f"{lora}: was trained on commit {made['commit'][:12]} of {name}, which is at {now} "
                f"here; train it anew, or write '{name}@{made['commit']}' in models.base.path"
            )
        layers = {f"{self.denoiser_part}.{name}" for name, _ in denoiser.named_modules()}
        ours = [found[1] for found in map(OF_LAYER.match, names) if found]  # kohya's names diffusers converts
        foreign = [layer for layer in ours if layer not in layers]
        if foreign:
            origin = made.get("path", "another model")
            raise UserError(
                f"{lora}: was trained on {origin}, and models.base ({self.title}) has no layer "
                f"'{foreign[0]}'; train it anew, or set models.base to what it was trained on"
            )

    def guidance(self, scale: float) -> float:
        """Return what the pipelines call a guidance of 1 + w = ``scale``."""
        return scale

    def depth_arguments(self, pictures: list[Any]) -> dict[str, Any]:
        """Return how the pipeline with depth control takes depth pictures, which are of one size."""
        return {"image": pictures}

    def depth_to_image(self, controlnet: ModelRef, offload: bool = False) -> Any:
        """Load the un-tuned model's pipeline with depth control, for the negatives.

        Args:
            controlnet: the depth control.
            offload: keep on the device only the networks that are at work.

        Raises:
            UserError: there is none for this family, or the given one is for another model.
        """
        if self.controlled is None:
            raise self._uncontrolled()
        self._check_control(controlnet)
        control = self._control(controlnet)
        pipeline = self._load_pipeline(self.controlled, controlnet=control, vae=self._vae())
        return self._with_sampler(_placed(pipeline, offload))

    def _check_control(self, controlnet: ModelRef) -> None:
        """Refuse a control for another kind or version of model, which would fail in the midst of drawing."""
        settings = blueprints.lookup(controlnet, "controlnet")
        if settings is None:
            return  # what is wrong with it is said where it is loaded
        own = blueprints.configuration(self.base, self.denoiser_part, self.denoiser_part)
        pairs = {name: (settings.get(name), own.get(name)) for name in self.control_fits}
        unlike = [
            f"{name} {given}, not {wanted}" for name, (given, wanted) in pairs.items() if given != wanted
        ]
        if settings.get("_class_name") != self.control_network:
            unlike = [f"a {settings.get('_class_name')}, not a {self.control_network}"]
        if unlike:
            raise UserError(
                f"models.controlnet: '{controlnet.path}' is for another model than models.base "
                f"({'; '.join(unlike)}); name its own depth ControlNet, or set negatives.structure: noise"
            )

    def _control(self, controlnet: ModelRef) -> Any:
        return load_network(_diffusers(self.control_network), controlnet, "controlnet", self.base)

    def _uncontrolled(self) -> UserError:
        return UserError(
            f"models.base: '{self.base.path}': there is no depth ControlNet for {self.title}, which the "
            "negatives need; set negatives.structure: noise"
        )

    def _load_pipeline(self, name: str, **parts: Any) -> Any:
        """Load a pipeline with some parts replaced or, by None, left out."""
        options = weights(self.base) | self.options | parts
        pipeline = load(_diffusers(name), self.base, "base", **options)
        pipeline.set_progress_bar_config(**STEPS_BAR)
        return pipeline

    def _with_sampler(self, pipeline: Any) -> Any:
        """Give a pipeline the sampler to draw with; by default it keeps the model's own."""
        return pipeline

    def hint(
        self, denoiser: Any, control: Any, z: Tensor, t: Tensor, condition: Condition, picture: Tensor
    ) -> Any:
        """Call the depth control alone, as the pipeline does in every step; plans count what it costs.

        Raises:
            UserError: there is none for this family.
        """
        raise self._uncontrolled()

    # --- names in other programs

    def kind(self) -> Kind:
        """Return what other programs call this kind of model; a family they do not know has its title."""
        return Kind(self.title.lower().replace(" ", "-"))

    def side(self) -> int:
        """Return the sides of the squares that the model was made to draw, in pixels.

        A UNet states them in latents; of a transformer, which takes any size, the autoencoder has them.
        """
        own = blueprints.configuration(self.base, self.denoiser_part, self.denoiser_part)
        if "sample_size" in own:
            return int(own["sample_size"]) * self.multiple() // self.patch
        return int(blueprints.configuration(self.base, "vae", "vae")["sample_size"])

    def kohya_module(self, layer: str) -> str:
        """Return kohya-ss' and ComfyUI's name for a layer, whose path in the denoiser is given."""
        return f"lora_unet_{layer.replace('.', '_')}"


def _diffusers(name: str) -> Any:
    import diffusers

    return getattr(diffusers, name)


def _placed(pipeline: Any, offload: bool) -> Any:
    """Put a pipeline on the device, whole or, by diffusers' own hooks, the part of it that is at work."""
    if not offload:
        return pipeline.to(device())
    pipeline.enable_model_cpu_offload(device=device())
    return pipeline


def _shift(vae: Any) -> float:
    """What is taken off latents before they are scaled; Stable Diffusion takes nothing off."""
    return vae.config.get("shift_factor") or 0.0
