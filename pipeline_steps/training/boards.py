"""Where a training can be watched: TensorBoard and, where a project is named, Weights & Biases."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_steps.config import WatchConfig
from pipeline_steps.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

LOG = logging.getLogger(__name__)


class Boards:
    """Losses, gradient norms, learning rate and sample pictures of a run.

    Args:
        folder: of TensorBoard's files.
        watch: the section "watch".
        name: of the run, on Weights & Biases.
        start: first update to come; what an interrupted run showed from there on is taken back.
        settings: shown beside the run on Weights & Biases.

    Raises:
        UserError: ``wandb`` is wanted and not installed.
    """

    def __init__(
        self, folder: Path, watch: WatchConfig, name: str, start: int, settings: Mapping[str, Any]
    ) -> None:
        self.board, self.run = None, None
        if watch.wandb:
            try:
                import wandb
            except ImportError as error:
                raise UserError(
                    f"watch.wandb: '{watch.wandb}', but the package wandb is not installed; "
                    "pip install wandb, or set watch.wandb to null"
                ) from error
            self.run = wandb.init(
                project=watch.wandb, name=name, config=dict(settings), dir=str(folder.parent)
            )
        if watch.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(folder, purge_step=start)

    def __enter__(self) -> "Boards":
        return self

    def add(self, row: Mapping[str, Any]) -> None:
        """Show a row of the training log: of the looks, the mean of each column."""
        numbers = {name: _mean(x) if isinstance(x, list) else x for name, x in row.items()}
        shown = {n: x for n, x in numbers.items() if x is not None and n not in ("update", "epoch")}
        if self.board:
            for name, value in shown.items():
                self.board.add_scalar(name, value, row["update"])
        if self.run:
            self.run.log(shown, step=row["update"])

    def add_samples(self, update: int, grid: "Tensor") -> None:
        """Show sample pictures side by side, (3, h, w) in [0, 1]."""
        if self.board:
            self.board.add_image("samples", grid, update)
        if self.run:
            import wandb

            self.run.log({"samples": wandb.Image(grid)}, step=update)

    def __exit__(self, *_: object) -> None:
        if self.board:
            self.board.close()
        if self.run:
            self.run.finish()


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
