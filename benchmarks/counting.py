"""Operations of an update, counted on networks without weights, and what the machine's products reach."""

import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.shapes import TOKENS, Networks
from pipeline_steps.method.scoft import Objective


def synchronise() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def lora(rank: int, targets: tuple[str, ...] | list[str]) -> LoraConfig:
    """Return the LoRA that both arrangements train."""
    return LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets))


def parts(networks: Networks, config: Any, merged: bool) -> dict[str, float]:
    """Count one picture's operations in each part; ``networks`` are on the device "meta".

    Args:
        networks: what is called.
        config: the section "train", of which the LoRA is read.
        merged: whether the trainer's calls without gradient have the LoRA merged in.
    """
    unet, vae = copy.deepcopy(networks.denoiser), networks.vae
    unet.add_adapter(lora(config.lora_rank, config.lora_targets))
    condition = networks.encode()
    z, t = torch.empty(1, *networks.latents_shape), torch.zeros(1)
    picture = torch.empty(1, 3, networks.side, networks.side)
    looked_at = torch.empty(1, 3, *(networks.vision.config.image_size,) * 2)

    def call(network: Any) -> Tensor:
        return networks.predict(network, z, t, condition).sum()

    def decode() -> Tensor:
        return vae.decode(z.clone().requires_grad_()).sample.sum()

    def see() -> Tensor:
        return networks.vision(looked_at.clone().requires_grad_()).last_hidden_state.sum()

    tokens = torch.zeros(1, TOKENS, dtype=torch.long)
    plain = flops(lambda: call(unet))
    return {
        "UNet, no gradient": plain,
        "UNet, no gradient, merged": flops(lambda: call(networks.denoiser)) if merged else plain,
        "UNet, recorded": flops(lambda: call(unet), backward=True),
        "VAE encode": flops(lambda: vae.encode(picture).latent_dist.mean),
        "VAE decode, recorded": flops(decode, backward=True),
        "text encoder": sum(flops(lambda each=each: each(tokens)) for each in networks.texts),
        "features": flops(see),
        "features, recorded": flops(see, backward=True),
    }


def update(
    found: dict[str, float], objective: Objective, config: Any, negatives: int, pictures: int
) -> dict[str, float]:
    """Add up an update of ``pictures`` in both arrangements, from what :func:`parts` found."""
    plain, merged = found["UNet, no gradient"], found["UNet, no gradient, merged"]
    targets_seen = int(objective.p > 0) + 2 * negatives * int(objective.c > 0)
    blip = int(objective.b > 0)
    look = found["VAE decode, recorded"] + found["features, recorded"]
    steps = 2 * (objective.steps - 1)  # t < 20, which takes fewer, is one in fifty
    often = int(objective.perceptual) / config.perceptual_every
    recorded = found["UNet, recorded"]
    theirs = found["VAE encode"] + (1 + 2 * blip) * found["text encoder"] + recorded + 2 * blip * plain
    theirs += often * (steps * plain + look + targets_seen * found["features"])
    ours = recorded + blip * merged + often * ((1 + steps) * merged + look)
    return {"authors": pictures * theirs, "trainer": pictures * ours}


def flops(function: Callable[[], Any], backward: bool = False) -> float:
    """Count the operations of a call, and of the way back where it is wanted."""
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        result = function()
        if backward:
            result.backward()
    return float(counter.get_total_flops())


def matmul_rate(device: torch.device, repeats: int = 20) -> float:
    """Measured FLOP/s of a matrix product of random numbers: in bfloat16 on a GPU, else in float32."""
    gpu = device.type != "cpu"
    side, dtype = (8192, torch.bfloat16) if gpu else (1024, torch.float32)
    x, y = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        x @ y
    synchronise()
    start = time.perf_counter()
    for _ in range(repeats):
        x @ y
    synchronise()
    return 2 * side**3 * repeats / (time.perf_counter() - start)
