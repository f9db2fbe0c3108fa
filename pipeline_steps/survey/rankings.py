"""Filled-in answers as columns, and as the votes that MMSR takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline_steps.artifacts import Row
from pipeline_steps.errors import UserError
from pipeline_steps.seeds import derive_seed

if TYPE_CHECKING:
    import pandas as pd

ALL = "all"
"""Stands for all cultures, or all items, together."""


class Rankings(NamedTuple):
    """Filled-in answers as columns.

    Attributes:
        culture: shape (n,), text; likewise participant, prompt, page and item.
        participant: unique over cultures.
        prompt: unique over cultures.
        page: its name.
        item: its name.
        ranks: rank of each variant, shape (n, k), in the order of the variants.
        shown: the same in the order the page showed.
    """

    culture: np.ndarray
    participant: np.ndarray
    prompt: np.ndarray
    page: np.ndarray
    item: np.ndarray
    ranks: np.ndarray
    shown: np.ndarray

    def where(self, culture: str, item: str) -> "Rankings":
        """Keep a culture's and an item's answers; "all" keeps them all."""
        keep = (self.culture == culture) | (culture == ALL)
        keep &= (self.item == item) | (item == ALL)
        return Rankings(*(column[keep] for column in self))

    @property
    def question(self) -> np.ndarray:
        """Page and item, shape (n,)."""
        return np.array([f"{page}/{item}" for page, item in zip(self.page, self.item, strict=True)])


def rankings_of(rows: Sequence[Row], variants: Sequence[str], path: Path) -> Rankings:
    """Return answers as columns.

    Args:
        rows: of ``answers.parquet``, none of them blank.
        variants: in the order of the ranks.
        path: where the answers are from, for the message.

    Raises:
        UserError: a page showed other variants.
    """
    if any(sorted(row["variants"]) != sorted(variants) for row in rows):
        raise UserError(f"{path}: pages with other variants than {', '.join(variants)}; survey them apart")
    place = np.array([[row["variants"].index(name) for name in variants] for row in rows])
    shown = np.array([row["ranks"] for row in rows])
    forms = ("{culture}", "{culture}/{participant}", "{culture}/{prompt}", "{page}", "{item}")
    columns = [np.array([form.format(**row) for row in rows]) for form in forms]
    return Rankings._make([*columns, np.take_along_axis(shown, place, axis=1), shown])


def votes_of(ranks: np.ndarray, workers: np.ndarray, variants: Sequence[str], seed: int) -> "pd.DataFrame":
    """Return every answer's vote on every pair of variants.

    Args:
        ranks: shape (n, k), in the order of the variants.
        workers: who gave them, shape (n,).
        variants: k names.
        seed: of which variant of a pair is called left.

    Returns:
        Columns worker, pair ("left|right") and label (1: left better); the index is the answer's row.
    """
    import pandas as pd

    from pipeline_steps.method.mmsr import pairs

    place = {name: number for number, name in enumerate(variants)}
    count = len(variants) * (len(variants) - 1) // 2
    turned = [derive_seed(seed, "left_right", number) % 2 == 1 for number in range(count)]
    return pd.concat(
        pd.DataFrame(
            {
                "worker": workers,
                "pair": f"{left}|{right}",
                "label": (ranks[:, place[left]] < ranks[:, place[right]]).astype(int),
            }
        )
        for left, right in pairs(variants, turned)
    )
