"""A denoiser compiled with its LoRA: how often dynamo compiles it, whichever compiler stands behind."""

from functools import partial

import diffusers
import pytest
import torch

from benchmarks import measures, shapes


@pytest.mark.slow
def test_it_is_compiled_at_most_once_for_each_shape_and_without_a_break(monkeypatch):
    """With and without gradient, one picture's prompt and guidance's two; later updates compile nothing."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    networks = shapes.build("sd15", torch.device("cpu"), torch.float32, tiny=True)
    networks.denoiser = diffusers.UNet2DConditionModel(
        block_out_channels=(32, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=2,
    ).requires_grad_(False)
    called, predict = set(), networks.predict

    def noted(denoiser, z, t, condition):
        called.add((tuple(z.shape), torch.is_grad_enabled()))
        return predict(denoiser, z, t, condition)

    networks.predict = noted
    config = measures.settings(batch_size=2, accumulation=1, compile=True, perceptual_every=2, lora_rank=2)
    config.denoising = config.denoising | {"steps": 3}
    run = measures.trainer(networks, "scoft_mpc", config)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = []
    for number in range(4):
        run(number)
        compiled.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert len(called) == 3  # (2, …) with gradient and without, (4, …) without
    assert 0 < compiled[1] <= len(called) and compiled[1:] == compiled[1:2] * 3
    assert not torch._dynamo.utils.counters["graph_break"]
