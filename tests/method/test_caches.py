"""A training cache is put together from parts, and is in memory once."""

import numpy as np
import torch

from pipeline_steps.method.caches import join


def test_short_prompts_are_padded_to_the_longest_of_all_groups():
    def numbers(*shape):
        return torch.arange(1.0, 1 + np.prod(shape)).reshape(shape)

    columns = {
        "latents_mean": [numbers(2, 3), numbers(1, 3)],
        "text.states": [numbers(2, 4, 2), numbers(1, 5, 2)],
        "text_blip.states": [numbers(2, 3, 2, 2), numbers(1, 3, 7, 2)],
        "text_null.states": [numbers(1, 2), numbers(1, 2)],
        "text_generic.states": [numbers(2, 6, 2), numbers(2, 6, 2)],
    }
    given = {name: list(parts) for name, parts in columns.items()}
    found = join(columns)
    assert not any(columns.values()), "the parts are still held"
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "latents_mean": (3, 3),
        "text.states": (3, 7, 2),
        "text_blip.states": (3, 3, 7, 2),
        "text_null.states": (7, 2),
        "text_generic.states": (2, 7, 2),
    }
    assert torch.equal(found["latents_mean"], torch.cat(given["latents_mean"]))
    for name, (row, length) in {"text.states": ((2,), 5), "text_blip.states": ((2, 1), 7)}.items():
        last = given[name][1][(0, *row[1:])]
        assert torch.equal(found[name][(2, *row[1:])][:length], last)
        assert not found[name][(2, *row[1:])][length:].any() and not found[name][0, ..., 4:, :].any()
    assert torch.equal(found["text_null.states"][:1], given["text_null.states"][0])
    assert torch.equal(found["text_generic.states"][:, :6], given["text_generic.states"][0])
