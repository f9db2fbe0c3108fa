"""SCoFT's equations on a rectified flow, written down as plainly as those of tests/reference/scoft.py.

z_sigma = (1 - sigma) x + sigma eps, the network predicts eps - x, Euler steps go from sigma to 0.
L_P and L_C are those of a diffusion model.
"""

import math

import torch


def noisy(z0, noise, sigma):
    return (1 - sigma) * z0 + sigma * noise


def ldm(network, z0, noise, sigma, caption, gamma=None):
    """Eq. 1, squared, with w = 1 or min-SNR-gamma: an error of z0 counts min(SNR, gamma)."""
    output = network(noisy(z0, noise, sigma), sigma, caption)
    if gamma is None:
        return ((output - (noise - z0)) ** 2).mean()
    clean = noisy(z0, noise, sigma) - sigma * output
    return min(float(((1 - sigma) / sigma) ** 2), gamma) * ((clean - z0) ** 2).mean()


def memorisation(network, z0, noise, sigma, caption, blip_captions):
    """Eq. 2, squared; the mean over BLIP captions takes no gradient."""
    z = noisy(z0, noise, sigma)
    output = network(z, sigma, caption)
    with torch.no_grad():
        mean = sum(network(z, sigma, blip) for blip in blip_captions) / len(blip_captions)
    return ((output - mean) ** 2).mean()


def sigmas(sigma, shift, steps, by_time=False, times=1000):
    """From sigma down, evenly in the schedule's own u, where sigma = s u / (1 + (s - 1) u); 0 at the end."""
    u = float(sigma) / (shift - (shift - 1) * float(sigma))
    most = math.ceil(steps * u) if by_time else steps
    count = max(1, min(most, int(times * u)))
    even = [u * (count - j) / count for j in range(count + 1)]
    return [shift * v / (1 + (shift - 1) * v) for v in even]


def picture(
    network, decode, z0, noise, sigma, caption, null, shift, steps, scale, record, draw, by_time=False
):
    """x_hat (paper §4.3): Euler steps from z_sigma, recording the gradient of one network call."""
    z = noisy(z0, noise, sigma)
    grid = sigmas(sigma, shift, steps, by_time)
    count = len(grid) - 1
    recorded = {"first": 0, "last": count - 1, "random": int(float(draw) * count)}[record]
    for j in range(count):
        now = torch.tensor(grid[j])
        if j == recorded:
            conditional = network(z.detach(), now, caption)
        else:
            with torch.no_grad():
                conditional = network(z.detach(), now, caption)
        with torch.no_grad():
            unconditional = network(z.detach(), now, null)
        w = scale - 1
        z = z + (grid[j + 1] - grid[j]) * ((1 + w) * conditional - w * unconditional)
    return decode(z)
