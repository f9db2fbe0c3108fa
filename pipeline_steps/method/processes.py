"""Noise processes: how latents become noise, what a network predicts of it, and the steps back.

Every picture has its own time, so all is written per row instead of with a scheduler object; tests
compare it with diffusers' schedulers.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["epsilon", "v_prediction"]
"""What a diffusion model predicts: ε, or the velocity √ᾱ_t ε − √(1 − ᾱ_t) z_0."""
Density = Literal["uniform", "logit_normal"]


class NoiseProcess(ABC):
    """From latents z_0 to noise ε and back.

    Latents are (n, c, h, w) and a time t is one number a picture, (n,): the larger, the noisier.

    Attributes:
        start: time of pure noise.
        end: time of the clean latents, at which no network is asked.
        stochastic: whether a step can add noise of its own.
    """

    start: float
    end: float
    stochastic: bool

    @abstractmethod
    def draw(self, generator: torch.Generator) -> Tensor:
        """Draw the time of one picture in training, (1,), on the CPU."""

    @abstractmethod
    def at(self, strength: float) -> float:
        """Return the time at a share of the model's own schedule, (0, 1]: 1 is pure noise."""

    @abstractmethod
    def add_noise(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return z_t."""

    @abstractmethod
    def target(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return what the network should predict at z_t."""

    @abstractmethod
    def share(self, t: Tensor) -> Tensor:
        """Return which share of the model's own schedule lies below t, in [0, 1]; (n,)."""

    @abstractmethod
    def grid(self, t: Tensor, steps: int, by_time: bool = False) -> tuple[Tensor, Tensor]:
        """Spread up to ``steps`` times from t down, as the model's own schedule does.

        A step is never shorter than one of the schedule, so that small t take fewer.

        Args:
            t: where each picture begins, (n,).
            steps: the most.
            by_time: no more than t's share of them, ⌈steps · share⌉, so that all pictures step equally far.

        Returns:
            Times (n, steps), the first of which is t, and the number k of each picture's steps, (n,), at
            least 1; a step from time j leads to time j + 1, the k-th and last to ``end``. What stands after
            k times is not used.
        """

    @abstractmethod
    def clean(self, z: Tensor, predicted: Tensor, t: Tensor) -> Tensor:
        """Return the z_0 that a prediction at z_t means."""

    @abstractmethod
    def step(
        self, z: Tensor, predicted: Tensor, t: Tensor, following: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """Step from z_t down to the time ``following``; ``noise``, like z, is for stochastic steps."""

    @abstractmethod
    def min_snr_weight(self, t: Tensor, gamma: float) -> Tensor:
        """Weight w_t of Eq. 1 by min-SNR-γ (Hang et al. 2023): an error of ẑ_0 counts min(SNR, γ).

        Args:
            t: times, at which there is both signal and noise.
            gamma: γ > 0, cap of the signal-to-noise ratio.

        Returns:
            The weight of the prediction's error that says the same, (n,).
        """


class Diffusion(NoiseProcess):
    """z_t = √ᾱ_t z_0 + √(1 − ᾱ_t) ε at t = 0 … T − 1 (Ho et al. 2020), with DDIM or DDPM steps.

    Args:
        alpha_bars: ᾱ, (T,), falling, in (0, 1), where the latents are.
        prediction: what the network predicts.
    """

    end = -1  # at t = 0 there is still a little noise
    stochastic = True

    def __init__(self, alpha_bars: Tensor, prediction: Prediction = "epsilon") -> None:
        self.alpha_bars, self.prediction = alpha_bars, prediction
        self.start = len(alpha_bars) - 1

    def _alpha_bar(self, t: Tensor) -> Tensor:
        return torch.where(t < 0, 1.0, self.alpha_bars[t.clamp(min=0)])

    def draw(self, generator: torch.Generator) -> Tensor:
        """Draw an integer, evenly."""
        return torch.randint(0, len(self.alpha_bars), (1,), generator=generator)

    def at(self, strength: float) -> int:
        """Return ⌈T · strength⌉ − 1."""
        return math.ceil(len(self.alpha_bars) * strength) - 1

    def share(self, t: Tensor) -> Tensor:
        """Return t / T."""
        return t / len(self.alpha_bars)

    def add_noise(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return √ᾱ_t z_0 + √(1 − ᾱ_t) ε."""
        a = _each(self._alpha_bar(t))
        return a.sqrt() * z0 + (1 - a).sqrt() * noise

    def target(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return ε or the velocity √ᾱ_t ε − √(1 − ᾱ_t) z_0 (Salimans and Ho 2022)."""
        if self.prediction == "epsilon":
            return noise
        a = _each(self._alpha_bar(t))
        return a.sqrt() * noise - (1 - a).sqrt() * z0

    def grid(self, t: Tensor, steps: int, by_time: bool = False) -> tuple[Tensor, Tensor]:
        """Return τ_j = ⌊t (k − j) / k⌋ and k = max(1, min(steps, t)), by time ⌈steps · t / T⌉ for steps."""
        most = _ceil_share(steps * t, len(self.alpha_bars)) if by_time else torch.full_like(t, steps)
        count = torch.minimum(t, most).clamp(min=1)
        j = torch.arange(steps, device=t.device)
        times = torch.div(t[:, None] * (count[:, None] - j), count[:, None], rounding_mode="floor")
        return times.clamp(min=0), count

    def clean(self, z: Tensor, predicted: Tensor, t: Tensor) -> Tensor:
        """Return (z_t − √(1 − ᾱ_t) ε) / √ᾱ_t or, of a velocity, √ᾱ_t z_t − √(1 − ᾱ_t) v."""
        return self._clean_and_noise(z, predicted, _each(self._alpha_bar(t)))[0]

    def _clean_and_noise(self, z: Tensor, predicted: Tensor, alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
        a, s = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        if self.prediction == "epsilon":
            return (z - s * predicted) / a, predicted
        return a * z - s * predicted, a * predicted + s * z

    def step(
        self, z: Tensor, predicted: Tensor, t: Tensor, following: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """Step by DDIM (Song et al. 2021, η = 0), or by DDPM where ``noise`` is given.

        DDPM (Ho et al. 2020, Eq. 7) takes the posterior mean and adds √β̃ · noise, β̃ = β (1 − ᾱ') / (1 − ᾱ)
        with β = 1 − ᾱ / ᾱ'.
        """
        a, a_next = _each(self._alpha_bar(t)), _each(self._alpha_bar(following))
        z0, epsilon = self._clean_and_noise(z, predicted, a)
        if noise is None:
            return a_next.sqrt() * z0 + (1 - a_next).sqrt() * epsilon
        alpha = a / a_next
        beta = 1 - alpha
        mean = (a_next.sqrt() * beta * z0 + alpha.sqrt() * (1 - a_next) * z) / (1 - a)
        variance = beta * (1 - a_next) / (1 - a)
        return mean + variance.clamp(min=0).sqrt() * noise

    def min_snr_weight(self, t: Tensor, gamma: float) -> Tensor:
        """Return min(SNR, γ) / SNR, or / (SNR + 1) for a velocity (Hang et al. 2023, Eq. 6 and 8).

        Of ε it is min(1, γ / SNR), 1 at ᾱ = 0. There a velocity is −z_0, whose error counts SNR = 0: of a
        schedule that ends without any signal (Lin et al. 2024) the first step is not trained.
        """
        alpha_bar = self._alpha_bar(t)
        if self.prediction == "epsilon":
            return (gamma * (1 - alpha_bar) / alpha_bar).clamp(max=1)
        snr = alpha_bar / (1 - alpha_bar)
        return snr.clamp(max=gamma) / (snr + 1)


class RectifiedFlow(NoiseProcess):
    """z_σ = (1 − σ) z_0 + σ ε at 0 < σ ≤ 1, target ε − z_0, Euler steps (Liu et al. 2023).

    Models spread their steps evenly over u in [0, 1] and go by σ = s u / (1 + (s − 1) u), where s is the
    shift of their schedule: with s > 1 they stay longer among noise (Esser et al. 2024, Eq. 23).

    Args:
        shift: s > 0, of the model's own schedule. The exponential shift μ of others is s = e^μ.
        density: how u is drawn in training: evenly, or as the sigmoid of a normal number (Esser et al.
            2024, §3.1, with mean 0 and deviation 1).
        times: T, the training times of the schedule; no inner step is shorter than 1 / T in u.
    """

    start, end = 1.0, 0.0
    stochastic = False

    def __init__(self, shift: float = 1.0, density: Density = "logit_normal", times: int = 1000) -> None:
        self.shift, self.density, self.times = shift, density, times

    def _shifted(self, u: Tensor) -> Tensor:
        return self.shift * u / (1 + (self.shift - 1) * u)

    def draw(self, generator: torch.Generator) -> Tensor:
        """Draw σ by way of u."""
        if self.density == "uniform":
            return self._shifted(1 - torch.rand(1, generator=generator))  # never 0
        return self._shifted(torch.randn(1, generator=generator).sigmoid())

    def at(self, strength: float) -> float:
        """Return the σ of u = strength."""
        return float(self._shifted(torch.tensor(strength, dtype=torch.float64)))

    def share(self, t: Tensor) -> Tensor:
        """Return u."""
        return t / (self.shift - (self.shift - 1) * t)

    def add_noise(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return (1 − σ) z_0 + σ ε."""
        sigma = _each(t)
        return (1 - sigma) * z0 + sigma * noise

    def target(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return ε − z_0."""
        return noise - z0

    def grid(self, t: Tensor, steps: int, by_time: bool = False) -> tuple[Tensor, Tensor]:
        """Return σ_j of u_j = u (k − j) / k, where σ is that of u, and k = max(1, min(steps, ⌊T u⌋)).

        By time it is ⌈steps · u⌉ for steps.
        """
        u = self.share(t)
        count = (self.times * u).long().clamp(min=1, max=steps)
        if by_time:
            count = torch.minimum(count, (steps * u).ceil().long()).clamp(min=1)
        left = (count[:, None] - torch.arange(steps, device=t.device)).clamp(min=0)
        times = self._shifted(u[:, None] * left / count[:, None])
        times[:, 0] = t  # to the last bit
        return times, count

    def clean(self, z: Tensor, predicted: Tensor, t: Tensor) -> Tensor:
        """Return z_σ − σ v."""
        return z - _each(t) * predicted

    def step(
        self, z: Tensor, predicted: Tensor, t: Tensor, following: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """Step by Euler: z + (σ' − σ) v.

        Raises:
            ValueError: noise is given, for which these steps have no place.
        """
        if noise is not None:
            raise ValueError("a rectified flow has no stochastic steps")
        return z + _each(following - t) * predicted

    def min_snr_weight(self, t: Tensor, gamma: float) -> Tensor:
        """Return σ² min(SNR, γ), SNR = ((1 − σ) / σ)²: ẑ_0 = z_σ − σ v errs by σ where v errs by 1."""
        return torch.minimum((1 - t).square(), gamma * t.square())


def _ceil_share(number: Tensor, whole: int) -> Tensor:
    """⌈number / whole⌉ of integers."""
    return -torch.div(-number, whole, rounding_mode="floor")


def _each(value: Tensor) -> Tensor:
    """One number a picture, (n,), beside latents: (n, 1, 1, 1)."""
    return value.view(-1, 1, 1, 1)
