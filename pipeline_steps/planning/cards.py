"""Graphics cards: what they hold, how fast they are, and what is taken from them before any network."""

from dataclasses import dataclass

GB = 1e9


@dataclass(frozen=True)
class Card:
    """A GPU: memory in GB, and its dense fp16 matrix products with fp32 sums in TFLOPS, as published."""

    memory: int
    tflops: float


CARDS = {
    # hmc-tech.com/gpu/nvidia-geforce-rtx-4060-vs-nvidia-geforce-rtx-3060: 483.66 and 407.6 TOPS of sparse
    # INT4, a sixteenth of which are dense fp16 products with fp32 sums (as that site's full tables show)
    "rtx_4060": Card(8, 30.2),
    "rtx_3060": Card(12, 25.5),
    # hmc-tech.com/gpu/nvidia-geforce-rtx-4090-d-vs-nvidia-geforce-rtx-3090-ti
    "rtx_3090_ti": Card(24, 80.0),
    # hmc-tech.com/gpu/nvidia-a40-vs-nvidia-grid-a100b
    "a40": Card(48, 149.7),
    # nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf, by way of glennklockwood.com/garden/processors/A100
    "a100": Card(80, 312.0),
    # ozyphus.github.io/gpu-maths.html: 1,979 TFLOPS with sparsity, half of it without
    "h100": Card(80, 989.5),
}
"""Known cards, each with where its figures were read."""
UTILISATION = 0.35
"""Assumed: share of a card's peak that is reached where nothing was measured."""
SIZES = (8, 12, 24, 80)
"""Memory of common cards in GB."""
CONTEXT = 0.7 * GB
"""Assumed: what CUDA and its libraries take for themselves."""
FRAGMENTS = 1.15
"""Assumed: memory that the allocator holds for each byte in use."""
