"""Folders in the layout of the published Stable Diffusion models, their own classes at tiny width."""

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

PUBLISHED = Path("resources/published")
FAMILY = Path("resources/mini")
KINDS = ("sd1", "sd21", "sdxl")
WIDTHS = {128: 4, 256: 8, 320: 8, 512: 8, 640: 16, 1280: 32}
"""Published width of a block to the tiny one."""
TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
SECOND_TEXT = TEXT | {"hidden_size": 24, "projection_dim": 20}


def published(kind: str, part: str) -> dict[str, Any]:
    """The configuration of one part as it was published."""
    return json.loads((PUBLISHED / f"{kind}.json").read_text())[part]["config"]


def narrow(kind: str, part: str) -> dict[str, Any]:
    """The published configuration at tiny width; depth, classes and switches are kept."""
    config = published(kind, part)
    if part.startswith("text_encoder"):
        sizes = SECOND_TEXT if part == "text_encoder_2" else TEXT
        tokens = json.loads((FAMILY / "base/text_encoder/config.json").read_text())
        ids = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")
        return config | sizes | {key: tokens[key] for key in ids}
    config["block_out_channels"] = [WIDTHS[width] for width in config["block_out_channels"]]
    config["norm_num_groups"] = 4
    if part == "vae":
        return config | {"sample_size": 64}
    two = "text_encoder_2" in json.loads((PUBLISHED / f"{kind}.json").read_text())
    config["cross_attention_dim"] = TEXT["hidden_size"] + (SECOND_TEXT["hidden_size"] if two else 0)
    heads = config["attention_head_dim"]
    config["attention_head_dim"] = 2 if isinstance(heads, int) else [max(1, n // 5) for n in heads]
    if two:
        config["addition_time_embed_dim"] = 4
        config["projection_class_embeddings_input_dim"] = SECOND_TEXT["projection_dim"] + 6 * 4
        config["transformer_layers_per_block"] = [1, 1, 2]
    if part == "controlnet":
        return config | {"conditioning_embedding_out_channels": [4, 4, 8, 8]}
    return config | {"sample_size": 8}


def build(kind: str, folder: Path) -> Path:
    """Write ``base/`` and ``controlnet/`` with random weights."""
    torch.manual_seed(0)
    base = folder / "base"
    index = published(kind, "model_index")
    base.mkdir(parents=True)
    (base / "model_index.json").write_text(json.dumps(index))
    for part, (_, name) in ((p, c) for p, c in index.items() if isinstance(c, list)):
        if part.startswith("tokenizer"):
            shutil.copytree(FAMILY / "base/tokenizer", base / part)
        elif part.startswith("text_encoder"):
            config = transformers.CLIPTextConfig(**narrow(kind, part))
            getattr(transformers, name)(config).save_pretrained(base / part)
        elif part == "scheduler":
            (base / part).mkdir()
            (base / part / "scheduler_config.json").write_text(json.dumps(published(kind, part)))
        elif part in ("unet", "vae"):
            getattr(diffusers, name).from_config(narrow(kind, part)).save_pretrained(base / part)
    control = diffusers.ControlNetModel.from_config(narrow(kind, "controlnet"))
    control.save_pretrained(folder / "controlnet")
    return folder
