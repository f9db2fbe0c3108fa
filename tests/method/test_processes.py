"""Noise processes against diffusers' schedulers, and against what their weights should mean."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler

from pipeline_steps.method.processes import Diffusion, RectifiedFlow

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ALPHA_BARS = DDPMScheduler(**SCHEDULE).alphas_cumprod
PROCESSES = {
    "epsilon": Diffusion(ALPHA_BARS),
    "v_prediction": Diffusion(ALPHA_BARS, "v_prediction"),
    "flow": RectifiedFlow(3.0),
}


def drawn(count: int) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randn(count, 4, 4, 4, generator=g) for _ in range(3)]


def some_times(process):
    g = torch.Generator().manual_seed(1)
    return torch.cat([process.draw(g) for _ in range(64)])


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("which", [DDIMScheduler, DDPMScheduler])
def test_a_step_of_a_diffusion_is_the_schedulers(kind, which):
    settings = {**SCHEDULE, "prediction_type": kind, "clip_sample": False}
    if which is DDPMScheduler:
        settings["variance_type"] = "fixed_small"
    scheduler = which(**settings)
    scheduler.set_timesteps(20)
    z, output, _ = drawn(1)
    t = scheduler.timesteps[3:4]
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(5))
    theirs = scheduler.step(output, int(t), z, generator=torch.Generator().manual_seed(5))
    process = Diffusion(ALPHA_BARS, kind)
    ours = process.step(z, output, t, t - 50, noise if which is DDPMScheduler else None)
    torch.testing.assert_close(ours, theirs.prev_sample, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(process.clean(z, output, t), theirs.pred_original_sample, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_noise_and_target_of_a_diffusion_are_the_schedulers(kind):
    scheduler, (z0, noise, _) = DDPMScheduler(**SCHEDULE), drawn(4)
    t = torch.tensor([0, 20, 500, 999])
    process = Diffusion(ALPHA_BARS, kind)
    torch.testing.assert_close(process.add_noise(z0, noise, t), scheduler.add_noise(z0, noise, t))
    target = noise if kind == "epsilon" else scheduler.get_velocity(z0, noise, t)
    torch.testing.assert_close(process.target(z0, noise, t), target)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_flow_drawn_from_noise_takes_the_schedulers_steps(shift):
    """Noised as the scheduler does it, and ten steps back along a field that is not constant."""
    scheduler, process = FlowMatchEulerDiscreteScheduler(shift=shift), RectifiedFlow(shift)
    z0, noise, field = drawn(1)
    t = scheduler.timesteps[400:401]
    torch.testing.assert_close(process.add_noise(z0, noise, t / 1000), scheduler.scale_noise(z0, t, noise))

    scheduler.set_timesteps(sigmas=[1 - step / 10 for step in range(10)])
    times, count = process.grid(torch.tensor([process.start]), 10)
    assert count.tolist() == [10]
    torch.testing.assert_close(times[0], scheduler.sigmas[:-1])
    ours = theirs = noise
    for j, t in enumerate(scheduler.timesteps):
        theirs = scheduler.step(field * theirs, t, theirs).prev_sample
        following = times[:, j + 1] if j + 1 < 10 else torch.tensor([process.end])
        ours = process.step(ours, field * ours, times[:, j], following)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PROCESSES)
def test_the_true_prediction_leads_back_to_the_picture(name):
    process, (z0, noise, _) = PROCESSES[name], drawn(64)
    t = some_times(process)
    z, target = process.add_noise(z0, noise, t), process.target(z0, noise, t)
    torch.testing.assert_close(process.clean(z, target, t), z0, rtol=1e-3, atol=1e-3)
    end = torch.full_like(t, process.end)
    torch.testing.assert_close(process.step(z, target, t, end), z0, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", PROCESSES)
def test_min_snr_counts_the_error_of_the_clean_picture(name):
    """w_t ‖target − prediction‖² = min(SNR, γ) ‖z_0 − ẑ_0‖², with SNR from what noise does to a picture."""
    process, (z0, noise, wrong) = PROCESSES[name], drawn(64)
    t = some_times(process)
    nothing = torch.zeros_like(z0)
    signal = process.add_noise(torch.ones_like(z0), nothing, t)[:, 0, 0, 0].double()
    spoilt = process.add_noise(nothing, torch.ones_like(z0), t)[:, 0, 0, 0].double()
    snr = (signal / spoilt).square()
    z, target = process.add_noise(z0, noise, t), process.target(z0, noise, t)
    error = (process.clean(z, target + wrong, t) - process.clean(z, target, t)).double()
    expected = snr.clamp(max=5.0) * error.square().mean((1, 2, 3))
    found = process.min_snr_weight(t, 5.0).double() * wrong.double().square().mean((1, 2, 3))
    torch.testing.assert_close(found, expected, rtol=5e-3, atol=1e-5)
    assert (snr < 5).any() and (snr > 5).any()


def test_timesteps_go_down_evenly_and_small_t_takes_fewer_steps():
    times, count = Diffusion(ALPHA_BARS).grid(torch.tensor([999, 20, 3, 1, 0]), 20)
    assert count.tolist() == [20, 20, 3, 1, 1]
    assert times[0, :3].tolist() == [999, 949, 899]
    assert times[2, :4].tolist() == [3, 2, 1, 0]
    assert times[4].tolist() == [0] * 20
    assert all((row[:k].diff() < 0).all() for row, k in zip(times, count, strict=True))


def test_a_flows_grid_is_even_where_its_schedule_is_and_small_times_take_fewer_steps():
    sigma = torch.tensor([1.0, 0.75, 0.0060, 0.0001])  # with s = 3 these are u = 1, 0.5, 0.002, 0.00003
    times, count = RectifiedFlow(3.0).grid(sigma, 4)
    assert count.tolist() == [4, 4, 2, 1]
    assert torch.equal(times[:, 0], sigma)
    u = times / (3 - 2 * times)
    torch.testing.assert_close(u[1], torch.tensor([0.5, 0.375, 0.25, 0.125]))
    torch.testing.assert_close(u[2, :2], torch.tensor([0.002, 0.001]), rtol=0.02, atol=0)
    assert all((row[:k].diff() < 0).all() and row[k - 1] > 0 for row, k in zip(times, count, strict=True))


def test_times_of_a_flow_are_drawn_as_its_density_says():
    """The median of the sigmoid of a normal number is a half; its density is thin at both ends."""
    found = {}
    for density in ("uniform", "logit_normal"):
        process, g = RectifiedFlow(3.0, density), torch.Generator().manual_seed(0)
        sigma = torch.cat([process.draw(g) for _ in range(4000)])
        assert sigma.min() > 0 and sigma.max() <= 1
        assert process.draw(torch.Generator().manual_seed(0)) == sigma[0]
        found[density] = sigma / (3 - 2 * sigma)
    for u in found.values():
        assert u.median() == pytest.approx(0.5, abs=0.03)
    # P(u < 0.1): a tenth, and that of a normal number below logit(0.1) = −2.197
    assert (found["uniform"] < 0.1).float().mean() == pytest.approx(0.1, abs=0.02)
    assert (found["logit_normal"] < 0.1).float().mean() == pytest.approx(0.014, abs=0.008)


def test_times_of_a_diffusion_are_drawn_evenly_by_the_generator():
    process = Diffusion(ALPHA_BARS[:4])
    first, again = (torch.Generator().manual_seed(0) for _ in range(2))
    drawn = torch.cat([process.draw(first) for _ in range(2000)])
    assert torch.equal(drawn, torch.cat([process.draw(again) for _ in range(2000)]))
    assert (torch.bincount(drawn) / 2000).tolist() == pytest.approx([0.25] * 4, abs=0.04)


def test_a_flow_has_no_stochastic_steps():
    z, output, noise = drawn(1)
    with pytest.raises(ValueError, match="no stochastic steps"):
        RectifiedFlow().step(z, output, torch.ones(1), torch.zeros(1), noise)


def test_a_strength_is_a_share_of_the_models_own_schedule():
    diffusion, flow = Diffusion(torch.linspace(0.99, 0.01, 1000)), RectifiedFlow(3.0)
    assert [diffusion.at(share) for share in (1.0, 0.5, 0.001)] == [999, 499, 0]
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25])
    found = [flow.at(share) for share in (1.0, 0.75, 0.5, 0.25)]
    assert found == pytest.approx(scheduler.sigmas[:4].tolist(), rel=1e-6)
