"""The oracle: reads the attributes of any 64×64 picture of the drawn world. For evaluation only."""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


class AttributeNet(nn.Module):
    """A small residual-free CNN with one linear head per attribute.

    Args:
        attributes: name of each attribute to its possible values.
        width: channels of the first layer.
    """

    def __init__(self, attributes: Mapping[str, Sequence[str]], width: int) -> None:
        super().__init__()
        self.attributes = {name: tuple(values) for name, values in attributes.items()}
        self.width = width
        channels = [3, width, 2 * width, 3 * width, 4 * width]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, padding=1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                    nn.Conv2d(after, after, 3, stride=2, padding=1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                )
                for before, after in pairwise(channels)
            )
        )
        self.heads = nn.ModuleDict(
            {name: nn.Linear(16 * width * 4, len(v)) for name, v in self.attributes.items()}
        )

    def features(self, unit: Tensor) -> Tensor:
        """Pictures in [0, 1], (n, 3, 64, 64), to features (n, 64 · width): a 4×4 grid, flattened."""
        return self.blocks(unit * 2 - 1).flatten(1)

    def logits(self, unit: Tensor) -> dict[str, Tensor]:
        """Pictures in [0, 1] to one (n, values) tensor per attribute."""
        features = self.features(unit)
        return {name: head(features) for name, head in self.heads.items()}

    @torch.no_grad()
    def read(self, unit: Tensor) -> dict[str, list[str]]:
        """Name each attribute's most likely value for each picture."""
        return {
            name: [self.attributes[name][index] for index in values.argmax(-1).tolist()]
            for name, values in self.logits(unit).items()
        }

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and fp16 ``model.safetensors``."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {"attributes": self.attributes, "width": self.width}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        state = {k: v.half() if v.is_floating_point() else v for k, v in self.state_dict().items()}
        save_file(state, folder / "model.safetensors")

    @classmethod
    def from_pretrained(cls, folder: Path) -> "AttributeNet":
        """Load what :meth:`save` wrote, in float32 and evaluation mode."""
        config = json.loads((Path(folder) / "config.json").read_text())
        net = cls(**config)
        net.load_state_dict(load_file(Path(folder) / "model.safetensors"))
        return net.float().eval()


def resize_to_world(unit: Tensor) -> Tensor:
    """Resize pictures of any size to 64×64 (area), as the oracle reads them."""
    return unit if unit.shape[-2:] == (64, 64) else F.interpolate(unit, (64, 64), mode="area")
