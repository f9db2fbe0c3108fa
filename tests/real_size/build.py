"""Random weights for every model that a preset names, in the hub's own layout and under its file names.

    python -m tests.real_size.build sd15 FOLDER

writes ``FOLDER/hub/OWNER/NAME/…`` and, of what is no repository, ``FOLDER/files/…``. Shapes are those of
``resources/published`` and of the packages; CLIP's words are open_clip's, BERT's are made up. One network is
in memory at a time. Not built: the judge and BLIP-2, whose shapes are not in ``resources/published``.
"""

import gzip
import itertools
import json
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import open_clip
import torch
import transformers
from safetensors.torch import save_file
from torch import nn

from pipeline_steps.config import BaseRef, ModelRef
from pipeline_steps.config.checks import load_config, over_presets
from pipeline_steps.models import blueprints, readers
from pipeline_steps.models.extractors import DINO_BACKBONE, DREAMSIM_TYPES, _dino_from
from pipeline_steps.models.store import OPEN_CLIP, HubId, Link, source

Narrow = Callable[[str, dict[str, Any]], dict[str, Any]]
"""A part's name and published configuration to those that are built."""
NORMALISED = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
START, END = "<|startoftext|>", "<|endoftext|>"
CLIP_TOKENIZER = {
    "tokenizer_class": "CLIPTokenizer",
    "model_max_length": 77,
    "bos_token": START,
    "eos_token": END,
    "unk_token": END,
    "pad_token": END,
}


def published_size(_: str, config: dict[str, Any]) -> dict[str, Any]:
    """As it was published."""
    return config


def main() -> None:
    """Build what a preset names."""
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    preset, folder = sys.argv[1:]
    build(preset, Path(folder))


def named_by(preset: str) -> dict[str, ModelRef]:
    """The models that a preset and the paper's settings name, by role; without the judge."""
    culture = {"wales": {"suffix": ", in Wales", "images": "resources"}}
    config = load_config(over_presets({"presets": [preset, "paper"], "cultures": culture}))
    found = {role: getattr(config.models, role) for role in type(config.models).model_fields}
    found |= {"judge": None, "vae": config.models.base.vae, "clip_conv": config.train.perceptual.model}
    return {role: ref for role, ref in found.items() if ref}


def build(preset: str, folder: Path, narrow: Narrow = published_size) -> None:
    """Write every model that a preset names and that is not there yet."""
    torch.manual_seed(0)
    for role, ref in named_by(preset).items():
        match source(ref):
            case HubId(name, _):
                place = folder / "hub" / name
            case Link(url, _):
                place = folder / "files" / url.rpartition("/")[2]
            case None:
                raise ValueError(f"{role}: {ref.path} is no published model")
        if not place.exists():
            print(f"{role}: {place}", file=sys.stderr, flush=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            WRITERS[role](place, ref, narrow)


def base(folder: Path, ref: BaseRef, narrow: Narrow) -> None:
    """Write a base model, its weights as its variant has them."""
    index = blueprints.configuration(ref, "model_index")
    _write(folder / "model_index.json", {"_diffusers_version": "0.6.0"} | index)
    for part, (library, name) in ((p, c) for p, c in index.items() if isinstance(c, list)):
        place = folder / part
        if part.startswith("tokenizer"):
            # The second one of SDXL pads with "!".
            clip_tokenizer(place, "!" if part.endswith("2") else END)
        elif part == "scheduler":
            _write(place / "scheduler_config.json", blueprints.configuration(ref, part, part))
        elif library == "transformers" and part.startswith("text_encoder"):
            config = narrow(part, dict(blueprints.configuration(ref, part, part)))
            settings = transformers.CLIPTextConfig.from_dict(config)
            with numbers(ref):
                getattr(transformers, name)(settings).save_pretrained(place, variant=ref.variant)
        elif library == "diffusers":
            diffusion(place, ref, part, part, narrow)


def controlnet(folder: Path, ref: ModelRef, narrow: Narrow) -> None:
    """Write a depth ControlNet."""
    diffusion(folder, ref, "controlnet", "", narrow)


def vae(folder: Path, ref: ModelRef, narrow: Narrow) -> None:
    """Write an autoencoder that stands for the base model's own."""
    diffusion(folder, ref, "vae", "", narrow)


def diffusion(place: Path, ref: ModelRef, part: str, inside: str, narrow: Narrow) -> None:
    """Write a network of diffusers."""
    config = narrow(part, dict(blueprints.configuration(ref, part, inside)))
    with numbers(ref):
        network = getattr(diffusers, config["_class_name"]).from_config(config)
        network.save_pretrained(place, variant=ref.variant)


def captioner(folder: Path, ref: ModelRef, narrow: Narrow) -> None:
    """Write BLIP with BERT's tokenizer, whose words are made up."""
    config = narrow("captioner", dict(blueprints.configuration(ref, "captioner")))
    settings = transformers.BlipConfig.from_dict(config)
    transformers.BlipForConditionalGeneration(settings).save_pretrained(folder)
    side = settings.vision_config.image_size
    size = {"height": side, "width": side}
    _write(
        folder / "preprocessor_config.json",
        {"image_processor_type": "BlipImageProcessor", "processor_class": "BlipProcessor", "size": size}
        | NORMALISED,
    )
    (folder / "vocab.txt").write_text("\n".join(bert_words()) + "\n")
    tokenizer = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    _write(folder / "tokenizer_config.json", tokenizer)


def clip(folder: Path, ref: ModelRef, narrow: Narrow) -> None:
    """Write CLIP, of which its source has no safetensors on its main branch."""
    config = narrow("clip", dict(blueprints.configuration(ref, "clip")))
    settings = transformers.CLIPConfig.from_dict(config)
    settings.save_pretrained(folder)
    torch.save(transformers.CLIPModel(settings).state_dict(), folder / "pytorch_model.bin")
    side = settings.vision_config.image_size
    size = {"size": side, "crop_size": side, "do_center_crop": True, "do_resize": True, "resample": 3}
    kind = {"feature_extractor_type": "CLIPFeatureExtractor", "do_normalize": True}
    _write(folder / "preprocessor_config.json", kind | size | NORMALISED)
    clip_tokenizer(folder, END)


def dino(folder: Path, ref: ModelRef, narrow: Narrow) -> None:
    """Write DINOv2."""
    config = narrow("dino", dict(blueprints.configuration(ref, "dino")))
    transformers.Dinov2Model(transformers.Dinov2Config.from_dict(config)).save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "resample": 3}
    steps = dict.fromkeys(
        ("do_center_crop", "do_convert_rgb", "do_normalize", "do_rescale", "do_resize"), True
    )
    kind = {"image_processor_type": "BitImageProcessor", "rescale_factor": 1 / 255}
    _write(folder / "preprocessor_config.json", kind | sizes | steps | IMAGENET)


def clip_conv(folder: Path, *_: Any) -> None:
    """Write CLIP's RN101 as open_clip reads it."""
    folder.mkdir()
    weights = open_clip.create_model("RN101-quickgelu").state_dict()
    save_file(weights, folder / OPEN_CLIP)
    _write(folder / "open_clip_config.json", {})


def depth(file: Path, *_: Any) -> None:
    """Write MiDaS' DPT-hybrid as controlnet_aux reads it: 493 MB, whatever is asked for."""
    from controlnet_aux.midas.midas.dpt_depth import DPTDepthModel

    assert file.name == readers.MIDAS_CHECKPOINT
    network = DPTDepthModel(path=None, backbone="vitb_rn50_384", non_negative=True)
    torch.save(network.state_dict(), file)


def dreamsim(file: Path, *_: Any) -> None:
    """Write DreamSim's archive: the backbone's weights and the LoRA."""
    kind = next(kind for kind in DREAMSIM_TYPES if f"_{kind}_" in f"_{file.name.removeprefix('dreamsim_')}")
    folder = file.with_name(f".{kind}")
    folder.mkdir()
    dreamsim_checkpoint(folder, kind)
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(path, path.relative_to(folder))
            path.unlink()


def dreamsim_checkpoint(folder: Path, kind: str) -> None:
    """Write what DreamSim's archive of a kind holds, and for the ensemble DINO's backbone beside it."""
    from dreamsim.feature_extraction.vision_transformer import DINOHead, vit_base
    from dreamsim.model import PerceptualModel, dreamsim_args
    from peft import LoraConfig, get_peft_model

    for file in DREAMSIM_TYPES[kind]:
        if "dino" in file:
            head = {f"module.head.{name}": value for name, value in DINOHead(768, 2048).state_dict().items()}
            head["module.head.last_layer.weight"] = head.pop("module.head.last_layer.weight_v")
            torch.save({"student": head}, folder / file)
            torch.save(vit_base(patch_size=16).state_dict(), folder / DINO_BACKBONE)
            continue
        backbone = vit_base(patch_size=16 if "vitb16" in file else 32)
        backbone.pos_drop = nn.LayerNorm(backbone.embed_dim)
        weights = backbone.state_dict() | {"proj": torch.randn(backbone.embed_dim, 512) / 28}
        torch.save({"state_dict": weights}, folder / file)
    settings = dreamsim_args["model_config"][kind]
    with _dino_from(folder) if kind == "ensemble" else nullcontext():
        model = PerceptualModel(**settings, device="cpu", load_dir=str(folder), normalize_embeds=True)
    adapted = get_peft_model(model, LoraConfig(r=16, lora_alpha=8, target_modules=["qkv"]))
    adapted.save_pretrained(folder / ("ensemble_lora" if kind == "ensemble" else f"{kind}_single_lora"))


def inception(file: Path, *_: Any) -> None:
    """Write InceptionV3 as torch-fidelity reads it, whose constructor wants such a file."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    network = FeatureExtractorInceptionV3.__new__(FeatureExtractorInceptionV3)
    # The constructor builds the network and then reads the file: what it built is kept.
    with mock.patch("torch.load", side_effect=FileNotFoundError):
        try:
            network.__init__("inception-v3-compat", ["2048"], feature_extractor_weights_path="none")
        except FileNotFoundError:
            torch.save(network.state_dict(), file)


WRITERS: dict[str, Callable[..., None]] = {
    "base": base, "controlnet": controlnet, "vae": vae, "captioner": captioner, "depth": depth,
    "dreamsim": dreamsim, "clip": clip, "dino": dino, "inception": inception, "clip_conv": clip_conv,
}  # fmt: skip


@contextmanager
def numbers(ref: ModelRef) -> Iterator[None]:
    """Build networks in the precision of a variant's files."""
    torch.set_default_dtype(torch.float16 if ref.variant == "fp16" else torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def clip_tokenizer(folder: Path, pad: str) -> None:
    """Write CLIP's tokenizer, 49408 tokens, in its two old files."""
    file = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    merges = gzip.decompress(file.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    letters = list(open_clip.tokenizer.bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += ["".join(merge.split()) for merge in merges] + [START, END]
    _write(folder / "vocab.json", {word: number for number, word in enumerate(words)})
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    _write(folder / "tokenizer_config.json", CLIP_TOKENIZER | {"pad_token": pad})


def bert_words() -> list[str]:
    """BERT's 30522 tokens: its own special ones at their places, and made-up words of syllables."""
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    syllables = [a + b for a in "bdfghklmnprstvz" for b in "aeiou"]
    letters = "abcdefghijklmnopqrstuvwxyz0123456789,.-'"
    plain = [*letters, *(f"##{letter}" for letter in letters)]
    made = itertools.chain(plain, map("".join, itertools.product(syllables, repeat=3)))
    return [special.get(n) or (f"[unused{n}]" if n < 104 else next(made)) for n in range(30522)]


def _write(file: Path, settings: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
