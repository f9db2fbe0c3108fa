"""What looks at generated pictures: RGB of one size, uint8 (n, 3, h, w), to one CPU row each."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from pipeline_steps.config import ModelRef
from pipeline_steps.errors import UserError
from pipeline_steps.method.pictures import resize
from pipeline_steps.models.extractors import dreamsim
from pipeline_steps.models.loading import device, frozen, load, load_network, tensors_only
from pipeline_steps.models.store import locate
from pipeline_steps.models.text import warn_if_long

if TYPE_CHECKING:
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

PictureEncoder = Callable[[torch.Tensor], torch.Tensor]
"""RGB pictures of one size, uint8 (n, 3, h, w), to float32 features (n, d) on the CPU."""


def kid_network(ref: ModelRef) -> "FeatureExtractorBase":
    """Load the feature network for KID as torch-fidelity's extractor, called with uint8 (n, 3, h, w).

    A file is torch-fidelity's InceptionV3 (its download ``weights-inception-2015-12-05-6726825d.pth``);
    a folder is the embedded network.
    """
    path = locate(ref, "inception")
    if path.is_file():
        tensors_only(path, "inception")  # torch-fidelity itself reads any pickle
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        return frozen(
            FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path)
            )
        )
    if (path / "config.json").exists():
        from pipeline_steps.models.kid_network import EmbeddedExtractor

        return frozen(EmbeddedExtractor("embedded", ["grid"], feature_extractor_weights_path=str(path)))
    raise UserError(
        f"models.inception: '{ref.path}' is neither torch-fidelity's InceptionV3 weights nor the embedded "
        "network's folder; name the downloaded weights-inception-2015-12-05-6726825d.pth"
    )


def kid_encoder(ref: ModelRef) -> PictureEncoder:
    """Load the encoder for KID: 2048 features of InceptionV3, or the embedded network's grid."""
    network = kid_network(ref)

    @torch.inference_mode()
    def encode(rgb: torch.Tensor) -> torch.Tensor:
        return network(rgb.to(device()))[0].float().cpu()

    return encode


def clip_encoders(ref: ModelRef) -> tuple[PictureEncoder, Callable[[Sequence[str]], torch.Tensor]]:
    """Load CLIP's encoders of pictures and of texts (cut at 77 tokens with the end token kept)."""
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    model = frozen(load_network(CLIPModel, ref, "clip"))
    processor = load(AutoImageProcessor, ref, "clip")
    tokenizer = load(AutoTokenizer, ref, "clip", model_max_length=77)

    @torch.inference_mode()
    def pictures(rgb: torch.Tensor) -> torch.Tensor:
        pixels = processor(list(rgb), return_tensors="pt").pixel_values.to(model.device, model.dtype)
        return model.get_image_features(pixel_values=pixels).pooler_output.float().cpu()

    @torch.inference_mode()
    def texts(prompts: Sequence[str]) -> torch.Tensor:
        for prompt in dict.fromkeys(prompts):
            warn_if_long(tokenizer, prompt)
        tokens = tokenizer(list(prompts), padding=True, truncation=True, return_tensors="pt")
        return model.get_text_features(**tokens.to(model.device)).pooler_output.float().cpu()

    return pictures, texts


def dino_encoder(ref: ModelRef) -> PictureEncoder:
    """Load DINOv2's encoder: its class token after the last layer."""
    from transformers import AutoImageProcessor, Dinov2Model

    model = frozen(load_network(Dinov2Model, ref, "dino"))
    processor = load(AutoImageProcessor, ref, "dino")

    @torch.inference_mode()
    def encode(rgb: torch.Tensor) -> torch.Tensor:
        pixels = processor(list(rgb), return_tensors="pt").pixel_values.to(model.device, model.dtype)
        return model(pixel_values=pixels).pooler_output.float().cpu()

    return encode


def dreamsim_encoder(ref: ModelRef) -> PictureEncoder:
    """Load DreamSim's embedding."""
    embed, side = dreamsim(ref)

    @torch.inference_mode()
    def encode(rgb: torch.Tensor) -> torch.Tensor:
        return embed(resize(rgb.to(device()).float() / 255, side)).float().cpu()

    return encode


def attribute_encoder(ref: ModelRef) -> PictureEncoder:
    """Load the embedded world's oracle: (n, attributes), the number of each attribute's value, int64."""
    read = attribute_reader(ref)

    def encode(rgb: torch.Tensor) -> torch.Tensor:
        return torch.stack([values.argmax(-1) for values in read(rgb).values()], dim=1)

    return encode


def attribute_reader(ref: ModelRef) -> Callable[[torch.Tensor], dict[str, torch.Tensor]]:
    """Load the oracle: RGB pictures, uint8 (n, 3, h, w), to log probabilities (n, values) by attribute."""
    from pipeline_steps.models.oracle import AttributeNet, resize_to_world

    net = frozen(AttributeNet.from_pretrained(locate(ref, "oracle")))

    @torch.inference_mode()
    def read(rgb: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = net.logits(resize_to_world(rgb.to(device()).float() / 255))
        return {name: values.log_softmax(-1).cpu() for name, values in logits.items()}

    return read
