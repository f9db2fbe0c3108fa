"""What a computation would cost, found by running it on the meta device: no data, no memory, no time.

Every operation passes by with its shapes; matrix products and convolutions are counted by torch's own
rules, and the bytes of every living tensor are added up. Attention is counted as the fused kernels
of GPUs do it, without its matrix of scores in memory.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry


@dataclass(frozen=True)
class Footprint:
    """Cost of one computation.

    Attributes:
        flops: floating-point operations, a multiplication and an addition counted as two.
        peak: most bytes of living tensors that it made itself (weights and inputs are not among them).
        kept: those that live at the end of the way forward, as its graph keeps them for the way back.
    """

    flops: float
    peak: int
    kept: int


class _Living(TorchDispatchMode):
    """Adds up operations, and the bytes of the tensors that they make and that still live.

    torch's own ``FlopCounterMode`` keeps hold of what modules take and return: beside it activations that
    are computed anew would all seem to live at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops, self.now, self.peak = 0.0, 0, 0
        self.known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {t.untyped_storage()._cdata for t in tree_iter((args, kwargs)) if isinstance(t, Tensor)}
        made = func(*args, **(kwargs or {}))
        if rule := flop_registry.get(func._overloadpacket):
            self.flops += rule(*args, **(kwargs or {}), out_val=made)
        for tensor in tree_iter(made):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.known | given:
                    self._add(storage)
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self.known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)

        def forget() -> None:
            self.known.discard(key)
            self.now -= size

        weakref.finalize(storage, forget)


class _FusedAttention(torch.autograd.Function):
    """Attention's shapes and costs: 4·n·m·d operations forward, and the same five products' 10·n·m·d back."""

    counted = 0.0

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(query, key, value)
        _FusedAttention.counted += 4 * query.numel() * key.shape[-2]
        return query.new_empty(*query.shape[:-1], value.shape[-1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        query, key, value = ctx.saved_tensors
        _FusedAttention.counted += 10 * query.numel() * key.shape[-2]
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


@contextmanager
def _fused_attention() -> Iterator[None]:
    own = F.scaled_dot_product_attention

    def attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        return _FusedAttention.apply(query, key, value)

    F.scaled_dot_product_attention = attention
    _FusedAttention.counted = 0.0
    try:
        yield
    finally:
        F.scaled_dot_product_attention = own


def footprint(run: Callable[[], Any], back: Callable[[Any], object] | None = None) -> Footprint:
    """Measure a computation on meta tensors.

    Args:
        run: does it; a result it returns is alive at the peak if the peak is at the end.
        back: takes that result and goes the way back.
    """
    with _fused_attention(), _Living() as living:
        made = run()
        kept = living.now
        if back:
            back(made)
    return Footprint(living.flops + _FusedAttention.counted, living.peak, kept)
