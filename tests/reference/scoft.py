"""SCoFT's equations, written down as plainly as possible.

One picture at a time, nothing cached or batched, every network call separate: for checking the
paper against the code, and the code against this.
"""

import math

import torch


def noisy(z0, noise, alpha_bar):
    """z_t = sqrt(alpha_bar) z_0 + sqrt(1 - alpha_bar) eps."""
    return alpha_bar.sqrt() * z0 + (1 - alpha_bar).sqrt() * noise


def ldm(network, z0, noise, t, caption, alpha_bars, kind, gamma=None):
    """Eq. 1, squared, with w_t = 1 or min-SNR-gamma."""
    z_t = noisy(z0, noise, alpha_bars[t])
    output = network(z_t, t, caption)
    if kind == "epsilon":
        target = noise
    else:
        target = alpha_bars[t].sqrt() * noise - (1 - alpha_bars[t]).sqrt() * z0
    weight = 1.0
    if gamma is not None:
        snr = alpha_bars[t] / (1 - alpha_bars[t])
        weight = min(float(snr), gamma) / float(snr if kind == "epsilon" else snr + 1)
    return weight * ((output - target) ** 2).mean()


def memorisation(network, z0, noise, t, caption, blip_captions, alpha_bars):
    """Eq. 2, squared; the mean over BLIP captions takes no gradient."""
    z_t = noisy(z0, noise, alpha_bars[t])
    output = network(z_t, t, caption)
    with torch.no_grad():
        mean = sum(network(z_t, t, blip) for blip in blip_captions) / len(blip_captions)
    return ((output - mean) ** 2).mean()


def step_count(t, steps, times, by_time):
    """How many steps there are from t: all, or t's share of them."""
    return max(1, min(math.ceil(steps * t / times) if by_time else steps, t))


def squared_errors(network, z0, noise, t, caption, alpha_bars, kind):
    """The error of Eq. 1 without a weight."""
    return ldm(network, z0, noise, t, caption, alpha_bars, kind)


def dpo(network, base, real, negative, noise, t, caption, alpha_bars, kind, beta):
    """Diffusion-DPO, Eq. 14 (Wallace et al. 2023), as their script has it: beta holds T."""
    with torch.no_grad():
        before = [squared_errors(base, z0, noise, t, caption, alpha_bars, kind) for z0 in (real, negative)]
    now = [squared_errors(network, z0, noise, t, caption, alpha_bars, kind) for z0 in (real, negative)]
    inside = -beta / 2 * ((now[0] - now[1]) - (before[0] - before[1]))
    return torch.log1p(torch.exp(-inside))


def mapo(network, real, negative, noise, t, caption, alpha_bars, kind, beta, spread):
    """MaPO's margin (Hong et al. 2024), as their script has it; L_LDM stands beside."""
    errors = [
        squared_errors(network, z0, noise, t, caption, alpha_bars, kind).double() for z0 in (real, negative)
    ]
    odds = [spread * e / (torch.exp(spread * e) - 1) for e in errors]
    return (-beta * torch.log(torch.sigmoid(len(alpha_bars) * (odds[0] - odds[1])))).float()


def prior(network, base, z0, noise, t, generic, alpha_bars):
    """The tuned and the un-tuned network under a caption that names no culture."""
    z_t = noisy(z0, noise, alpha_bars[t])
    with torch.no_grad():
        wanted = base(z_t, t, generic)
    return ((network(z_t, t, generic) - wanted) ** 2).mean()


def picture(
    network, decode, z0, noise, t, caption, null, alpha_bars, kind, steps, scale, recorded, ddpm_noise=None,
    by_time=False,
):  # fmt: skip
    """x_hat (paper §4.3): denoise from z_t, recording the gradient of one network call."""
    z = noisy(z0, noise, alpha_bars[t])
    count = step_count(t, steps, len(alpha_bars), by_time)
    timesteps = [t * (count - j) // count for j in range(count)]
    for j, tau in enumerate(timesteps):
        a = alpha_bars[tau]
        following = alpha_bars[timesteps[j + 1]] if j + 1 < count else torch.tensor(1.0)
        if j == recorded:
            conditional = network(z.detach(), tau, caption)
        else:
            with torch.no_grad():
                conditional = network(z.detach(), tau, caption)
        with torch.no_grad():
            unconditional = network(z.detach(), tau, null)
        w = scale - 1
        output = (1 + w) * conditional - w * unconditional
        if kind == "epsilon":
            epsilon = output
            clean = (z - (1 - a).sqrt() * epsilon) / a.sqrt()
        else:
            clean = a.sqrt() * z - (1 - a).sqrt() * output
            epsilon = a.sqrt() * output + (1 - a).sqrt() * z
        if ddpm_noise is None:
            z = following.sqrt() * clean + (1 - following).sqrt() * epsilon
        else:
            step_alpha = a / following
            beta = 1 - step_alpha
            mean = (
                following.sqrt() * beta / (1 - a) * clean + step_alpha.sqrt() * (1 - following) / (1 - a) * z
            )
            z = mean + (beta * (1 - following) / (1 - a)).clamp(min=0).sqrt() * ddpm_noise(j)
    return decode(z)


def cut(x, box):
    """The part of a picture inside a box (left, top, right, bottom in [0, 1]), scaled to the whole."""
    side_y, side_x = x.shape[-2:]
    left, top, right, bottom = (float(v) for v in box)
    rows = (torch.arange(side_y) + 0.5) / side_y * (bottom - top) * side_y + top * side_y - 0.5
    columns = (torch.arange(side_x) + 0.5) / side_x * (right - left) * side_x + left * side_x - 0.5

    def blend(values, positions, axis):
        size = values.shape[axis]
        positions = positions.clamp(0, size - 1)
        low = positions.floor().long()
        high = (low + 1).clamp(max=size - 1)
        shape = [1] * values.dim()
        shape[axis] = -1
        share = (positions - low).view(shape)
        return values.index_select(axis, low) * (1 - share) + values.index_select(axis, high) * share

    return blend(blend(x, rows, x.dim() - 2), columns, x.dim() - 1)


def similarity(extract, x, y, box):
    """S(x, y) under one view: mean over layers of the mean over positions of the squared distance."""
    layers = zip(extract(cut(x, box)), extract(cut(y, box)), strict=True)
    values = [((a - b) ** 2).sum(-1).mean() for a, b in layers]
    return sum(values) / len(values)


def perceptual(extract, x_hat, positive, boxes):
    """Eq. 3."""
    return sum(similarity(extract, x_hat, positive, box) for box in boxes) / len(boxes)


def contrastive(extract, x_hat, positive, negatives, boxes, lam, margin, hinge):
    """Eq. 4, or the authors' difference."""
    terms = []
    plus = perceptual(extract, x_hat, positive, boxes)
    if not negatives:
        return torch.tensor(0.0) if hinge else plus
    for negative in negatives:
        minus = perceptual(extract, x_hat, negative, boxes)
        terms.append(torch.relu(plus - lam * minus + margin) if hinge else plus - minus)
    return sum(terms) / len(terms)
