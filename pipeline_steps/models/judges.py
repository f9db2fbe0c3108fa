"""What answers questions about several pictures: a vision-language model."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from PIL import Image
from torch import nn

from pipeline_steps.config import ModelRef
from pipeline_steps.models.loading import frozen, load, load_network, weights_sha256
from pipeline_steps.models.store import HubId, commit, source

Ask = Callable[[Sequence[Image.Image], Sequence[str]], list[str]]
"""Pictures and questions, each asked by itself, to one reply each."""


def vision_language(ref: ModelRef, letters: str, max_new_tokens: int) -> Ask:
    """Load a vision-language model; it replies greedily, so that it says the same each time.

    Args:
        ref: any of transformers' ``AutoModelForImageTextToText`` whose processor has a chat template.
        letters: what the pictures are called, in the order shown.
        max_new_tokens: longest reply.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    kind = cast("type[nn.Module]", AutoModelForImageTextToText)  # whose from_pretrained returns one
    model: Any = frozen(load_network(kind, ref, "judge"))
    processor = load(AutoProcessor, ref, "judge")
    processor.tokenizer.padding_side = "left"  # a reply goes on where its question ends

    @torch.inference_mode()
    def ask(pictures: Sequence[Image.Image], questions: Sequence[str]) -> list[str]:
        shown = [
            part
            for letter in letters[: len(pictures)]
            for part in ({"type": "text", "text": f"Picture {letter}:"}, {"type": "image"})
        ]
        texts = [
            processor.apply_chat_template(
                [{"role": "user", "content": [*shown, {"type": "text", "text": question}]}],
                add_generation_prompt=True,
            )
            for question in questions
        ]
        images = [list(pictures)] * len(questions)
        inputs = processor(text=texts, images=images, padding=True, return_tensors="pt")
        inputs = inputs.to(model.device, model.dtype)
        tokens = model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=max_new_tokens)
        new = tokens[:, inputs["input_ids"].shape[1] :]
        return list(processor.batch_decode(new, skip_special_tokens=True))

    return ask


def identity(ref: ModelRef, role: str) -> str:
    """Return which model it is: its id and commit on the hub, or its path and the start of its SHA-256."""
    origin = source(ref)
    if isinstance(origin, HubId):
        return f"{origin.name}@{(commit(ref) or origin.revision or 'unknown')[:12]}"
    return f"{ref.path}@{weights_sha256(ref, role)[:12]}"
