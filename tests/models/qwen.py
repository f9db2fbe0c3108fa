"""A tiny Qwen3 with its tokenizer and chat template, the text encoder of Z-Image and FLUX.2 klein."""

import json

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer, Qwen3Config

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
"""What Qwen3's own template makes of one message of a user."""
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
WORDS = ("a red house, there", "a jar", "a house in wales by night")


def tokenizer() -> Qwen2Tokenizer:
    """Qwen's byte-level BPE, trained on a few words."""
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=list(SPECIAL), show_progress=False
    )
    plain.train_from_iterator([f"user\n{words}\nassistant\n" for words in WORDS], trainer)
    learnt = json.loads(plain.to_str())["model"]
    merges = [tuple(pair) for pair in learnt["merges"]]
    ours = Qwen2Tokenizer(vocab=learnt["vocab"], merges=merges, model_max_length=512)
    ours.add_special_tokens({"additional_special_tokens": list(SPECIAL[1:])})
    ours.chat_template = CHAT
    return ours


def config(layers: int, vocabulary: int, pad: int) -> Qwen3Config:
    """Settings of a Qwen3 of 16 numbers a token."""
    return Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=512,
        pad_token_id=pad,
    )
