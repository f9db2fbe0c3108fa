"""The models that read a picture for the pipeline: BLIP captioner and DPT depth."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    DPTConfig,
    DPTForDepthEstimation,
)

from pipeline_steps.method.pictures import normalise, to_unit
from pipeline_steps.mini.corpora import Corpus
from pipeline_steps.mini.fitting import fit

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]")


def train_blip_tokenizer(captions: list[str], folder: Path) -> BertTokenizer:
    """Write BERT's ``vocab.txt`` with the captions' words and the ASCII letters."""
    words = sorted({word.strip(",") for caption in captions for word in caption.split()})
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = [*SPECIAL, *letters, *("##" + letter for letter in letters), *words]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "vocab.txt"
    path.write_text("\n".join(dict.fromkeys(vocabulary)) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer(
        vocab={word: index for index, word in enumerate(dict.fromkeys(vocabulary))},
        bos_token="[DEC]",
        model_max_length=512,
    )
    return tokenizer


def train_blip(corpus: Corpus, tokenizer: BertTokenizer, steps: int) -> BlipForConditionalGeneration:
    """Train the captioner on generic captions: it names no culture and no cultural attribute."""
    torch.manual_seed(0)
    ids = tokenizer.convert_tokens_to_ids
    config = BlipConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 96,
            "encoder_hidden_size": 96,
            "intermediate_size": 384,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "bos_token_id": ids("[DEC]"),
            "eos_token_id": ids("[SEP]"),
            "sep_token_id": ids("[SEP]"),
            "pad_token_id": ids("[PAD]"),
            "projection_dim": 64,
        },
        vision_config={
            "hidden_size": 96,
            "intermediate_size": 384,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": 64,
            "patch_size": 8,
        },
        projection_dim=64,
        image_text_hidden_size=64,
    )
    blip = BlipForConditionalGeneration(config)
    tokens = tokenizer(corpus.generic_captions, padding=True, return_tensors="pt")
    inputs = tokens.input_ids.clone()
    inputs[:, 0] = ids("[DEC]")
    labels = inputs.masked_fill(tokens.attention_mask == 0, -100)
    labels[:, 0] = -100

    def loss(rows: np.ndarray, step: int) -> Tensor:
        return blip(
            pixel_values=normalise(to_unit(corpus.pictures[rows])),
            input_ids=inputs[rows],
            attention_mask=tokens.attention_mask[rows],
            labels=labels[rows],
        ).loss

    fit("blip", blip, loss, count=len(corpus.captions), steps=steps, batch_size=64, lr=1e-3)
    return blip


def train_depth(corpus: Corpus, steps: int) -> DPTForDepthEstimation:
    """Train MiDaS' DPT-hybrid at small size on the true inverse depth."""
    torch.manual_seed(0)
    config = DPTConfig(
        is_hybrid=True,
        backbone_config={
            "model_type": "bit",
            "global_padding": "same",
            "layer_type": "bottleneck",
            "depths": [1, 1, 2],
            "hidden_sizes": [32, 64, 96],
            "embedding_size": 16,
            "num_groups": 8,
            "out_features": ["stage1", "stage2", "stage3"],
        },
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=192,
        image_size=64,
        patch_size=16,
        backbone_featmap_shape=[1, 96, 4, 4],
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[32, 64, 64, 64],
        neck_ignore_stages=[0, 1],
        fusion_hidden_size=24,
        readout_type="project",
    )
    depth = DPTForDepthEstimation(config)
    truth = torch.from_numpy(corpus.depths)

    def loss(rows: np.ndarray, step: int) -> Tensor:
        predicted = depth(normalise(to_unit(corpus.pictures[rows]))).predicted_depth
        return F.l1_loss(predicted, truth[rows].float().div(255))

    fit("depth", depth, loss, count=len(corpus.captions), steps=steps, batch_size=32, lr=1e-3)
    return depth
