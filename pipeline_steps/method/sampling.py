"""Random words that do not depend on the batch."""

import torch
from transformers import LogitsProcessor


class GumbelNoise(LogitsProcessor):
    """Add each row's own Gumbel noise, so that arg max draws from softmax(scores) (Gumbel-max trick).

    ``generate`` samples a whole batch from one random stream; with this processor and greedy
    decoding every row has its own.

    Args:
        streams: one CPU generator per row.
    """

    def __init__(self, streams: list[torch.Generator]) -> None:
        self.streams = streams

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return noisy scores, (rows, vocabulary)."""
        uniform = torch.stack([torch.rand(scores.shape[1], generator=stream) for stream in self.streams])
        gumbel = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
        return scores + gumbel.to(scores)
