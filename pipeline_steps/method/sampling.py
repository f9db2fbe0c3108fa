"""Random words that do not depend on the batch."""

import torch
from transformers import LogitsProcessor


class GumbelNoise(LogitsProcessor):
    """Draw each row's word from softmax(scores) by its own stream (Gumbel-max trick), and leave no other.

    ``generate`` samples a whole batch from one random stream; with this processor every row has its own,
    however ``generate`` takes a word from what is left.

    Args:
        streams: one CPU generator per row.
    """

    def __init__(self, streams: list[torch.Generator]) -> None:
        self.streams = streams

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores, (rows, vocabulary), of 0 for the drawn word and -inf for all others."""
        uniform = torch.stack([torch.rand(scores.shape[1], generator=stream) for stream in self.streams])
        gumbel = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
        drawn = (scores + gumbel.to(scores)).argmax(-1, keepdim=True)
        return torch.full_like(scores, -torch.inf).scatter(-1, drawn, 0.0)
