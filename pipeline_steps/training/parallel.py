"""The processes that train one LoRA together, on as many GPUs."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from pipeline_steps.errors import UserError


class Processes:
    """The processes that train one LoRA together; alone, all of it is a no-op."""

    def __init__(self, wanted: int) -> None:
        self.count, self.rank, self.state = 1, 0, None
        if wanted > 1:
            from accelerate import PartialState

            self.state = PartialState(cpu=not torch.accelerator.is_available())
            self.count, self.rank = self.state.num_processes, self.state.process_index
            if self.count != wanted:
                raise UserError(
                    f"train.processes is {wanted}, but {self.count} run; start the step with "
                    f"torchrun --standalone --nproc_per_node {wanted} -m pipeline_steps.training.train"
                )

    def one_first(self) -> AbstractContextManager[None]:
        """Let the first process do what follows before the others do."""
        return self.state.main_process_first() if self.state else nullcontext()

    def sum(self, tensors: list[Tensor]) -> None:
        """Add up tensors over the processes, in place."""
        if self.count > 1:
            from accelerate.utils import reduce

            flat = reduce(torch.cat([tensor.reshape(-1) for tensor in tensors]), "sum")
            for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def micro_batch(self, update: int, part: int, batch_size: int, accumulation: int) -> range:
        """Return the numbers of the pictures of one of this process's micro-batches.

        A process's pictures of an update are neighbours, so that those that are looked at, one in
        ``perceptual_every``, are spread over the processes as far as there is one for each: the others would
        wait for the one that looks.

        Args:
            update: from 0.
            part: which of the update's micro-batches, from 0.
            batch_size: pictures in each.
            accumulation: micro-batches of an update.
        """
        before = (update * self.count + self.rank) * accumulation + part
        return range(before * batch_size, (before + 1) * batch_size)
