"""The one loop in which every embedded model is trained."""

import math
from collections.abc import Callable, Iterable
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm


def fit(
    name: str,
    modules: nn.Module,
    loss: Callable[[np.ndarray, int], Tensor],
    *,
    count: int,
    steps: int,
    batch_size: int,
    lr: float,
    warmup: int = 50,
    weight_decay: float = 1e-2,
    seed: int = 0,
    average: float | None = None,
    parameters: Iterable[nn.Parameter] | None = None,
) -> None:
    """Train in place with AdamW, a linear warm-up and a cosine to zero.

    Args:
        name: shown on the progress bar.
        modules: put into training mode, and into evaluation mode at the end.
        loss: takes row numbers of the batch and the step, returns a scalar.
        count: number of rows to draw batches from, without replacement within an epoch.
        steps: updates.
        batch_size: rows per update.
        lr: peak learning rate.
        warmup: updates of linear warm-up.
        weight_decay: AdamW's.
        seed: of the order of rows.
        parameters: those to train; by default all of ``modules``.
        average: decay of an exponential moving average of the weights, left in the modules at the end.
    """
    rng = np.random.default_rng(seed)
    trained = [p for p in (parameters or modules.parameters()) if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))),
    )
    shadow = [deepcopy(p.detach()) for p in trained] if average else []
    order = np.empty(0, np.int64)
    smoothed: float | None = None
    modules.train()
    with tqdm(total=steps, desc=name, mininterval=5) as bar:
        for step in range(steps):
            while len(order) < batch_size:
                order = np.concatenate([order, rng.permutation(count)])
            rows, order = order[:batch_size], order[batch_size:]
            value = loss(rows, step)
            value.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            schedule.step()
            if average:
                decay = min(average, (step + 1) / (step + 10))
                for mean, weight in zip(shadow, trained, strict=True):
                    mean.lerp_(weight.detach(), 1 - decay)
            smoothed = value.item() if smoothed is None else 0.98 * smoothed + 0.02 * value.item()
            bar.set_postfix(loss=f"{smoothed:.4f}", refresh=False)
            bar.update()
    if average:
        for mean, weight in zip(shadow, trained, strict=True):
            weight.data.copy_(mean)
    modules.eval()
