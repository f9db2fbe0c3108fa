"""The embedded rectified flow: transformer and text encoder of Z-Image's classes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model

from pipeline_steps.method.processes import RectifiedFlow
from pipeline_steps.mini.corpora import Corpus
from pipeline_steps.mini.diffusion import CAPTION_DROPOUT, encode
from pipeline_steps.mini.fitting import fit

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""What Qwen3's own template makes of one message of a user, with thinking enabled."""
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
WIDTH, HEADS, LAYERS = 128, 4, 3
SHIFT = 3.0
"""Of the schedule: more of the steps, and of the training, where little but noise is seen."""


def train_flow_tokenizer(captions: list[str]) -> Qwen2Tokenizer:
    """Train Qwen's byte-level BPE on the captions; every byte stays encodable, so any text is."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    # A prompt of any length is a few merges: a caption as it stands in the template.
    texts = [f"user\n{caption}\nassistant\n" for caption in captions]
    trainer = trainers.BpeTrainer(
        vocab_size=768, initial_alphabet=alphabet, special_tokens=list(SPECIAL), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    learnt = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(pair if isinstance(pair, list) else pair.split(" ")) for pair in learnt["merges"]]
    # The library's BPE takes pairs, and its annotation asks for lines of text.
    ours = Qwen2Tokenizer(vocab=learnt["vocab"], merges=merges, model_max_length=512)  # type: ignore[arg-type]
    ours.add_special_tokens({"additional_special_tokens": list(SPECIAL[1:])})
    ours.chat_template = CHAT
    return ours


class _Flow:
    """Latents, times and prompts of a corpus on a rectified flow, with Z-Image's conventions."""

    def __init__(self, corpus: Corpus, vae: AutoencoderKL, tokenizer: Qwen2Tokenizer) -> None:
        shift, scale = vae.config["shift_factor"], vae.config["scaling_factor"]
        self.latents = (encode(vae, corpus.pictures, scale=1.0) - shift) * scale
        distinct = ["", *sorted(set(corpus.captions))]
        row = {caption: index for index, caption in enumerate(distinct)}
        self.row = torch.tensor([row[caption] for caption in corpus.captions])
        texts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
            )
            for text in distinct
        ]
        self.tokens = tokenizer(texts, padding=True, return_tensors="pt")
        self.process = RectifiedFlow(SHIFT)
        self.random = torch.Generator().manual_seed(0)

    def batch(self, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return z_σ, σ, the rows of the prompts (10% of them the empty one) and ε − z_0."""
        z0 = self.latents[rows]
        noise = torch.randn(z0.shape, generator=self.random)
        sigma = torch.cat([self.process.draw(self.random) for _ in rows])
        prompts = self.row[rows].clone()
        prompts[torch.rand(len(rows), generator=self.random) < CAPTION_DROPOUT] = 0
        z = self.process.add_noise(z0, noise, sigma)
        return z, sigma, prompts, self.process.target(z0, noise, sigma)

    def read(self, encoder: Qwen3Model, prompts: Tensor) -> list[Tensor]:
        """Encode prompts as the pipeline does: the last state but one of each token."""
        mask = self.tokens.attention_mask[prompts].bool()
        states = encoder(
            input_ids=self.tokens.input_ids[prompts], attention_mask=mask, output_hidden_states=True
        ).hidden_states[-2]
        return [state[there] for state, there in zip(states, mask, strict=True)]


def velocity(transformer: Any, z: Tensor, sigma: Tensor, text: list[Tensor]) -> Tensor:
    """Call the transformer as the pipeline does: a frame each, a time of 1 − σ, the sign turned."""
    found = transformer(list(z.unsqueeze(2)), 1 - sigma, text, return_dict=False)[0]
    return -torch.stack(found).squeeze(2)


def shifted(vae: AutoencoderKL, corpus: Corpus) -> AutoencoderKL:
    """Give the embedded autoencoder a shift and a scale, as a flow's latents have."""
    latents = encode(vae, corpus.pictures[:1024], scale=1.0)
    vae.register_to_config(
        shift_factor=round(latents.mean().item(), 5), scaling_factor=round(1 / latents.std().item(), 5)
    )
    return vae


def train_transformer(
    corpus: Corpus, vae: AutoencoderKL, tokenizer: Qwen2Tokenizer, steps: int
) -> tuple[ZImageTransformer2DModel, Qwen3Model]:
    """Train transformer and text encoder together on the biased corpus."""
    torch.manual_seed(0)
    encoder = Qwen3Model(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=24,
            max_position_embeddings=512,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    transformer = ZImageTransformer2DModel(
        in_channels=vae.config["latent_channels"],
        dim=WIDTH,
        n_layers=LAYERS,
        n_refiner_layers=1,
        n_heads=HEADS,
        n_kv_heads=HEADS,
        cap_feat_dim=encoder.config.hidden_size,
        axes_dims=[8, 12, 12],
        axes_lens=[640, 32, 32],
    )
    data = _Flow(corpus, vae, tokenizer)

    def loss(rows: np.ndarray, step: int) -> Tensor:
        z, sigma, prompts, target = data.batch(rows)
        return F.mse_loss(velocity(transformer, z, sigma, data.read(encoder, prompts)), target)

    both = nn.ModuleList([transformer, encoder])
    fit("flow", both, loss, count=len(corpus.captions), steps=steps, batch_size=16, lr=1.5e-3, average=0.998)
    return transformer, encoder


def save_flow(
    folder: Path,
    vae: AutoencoderKL,
    transformer: ZImageTransformer2DModel,
    tokenizer: Qwen2Tokenizer,
    encoder: Qwen3Model,
) -> None:
    """Save Z-Image's folder layout in fp16."""
    vae.register_to_config(_name_or_path="")  # else the folder it was loaded from stays in the file
    pipeline = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        vae=vae.half(),
        text_encoder=encoder.half(),
        tokenizer=tokenizer,  # type: ignore[arg-type]  # annotated by a factory of tokenizers
        transformer=transformer.half(),
    )
    pipeline.save_pretrained(folder)
    for part in (vae, transformer, encoder):
        part.float()
