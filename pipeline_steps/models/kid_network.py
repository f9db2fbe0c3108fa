"""The embedded feature network for KID, as torch-fidelity wants it."""

from pathlib import Path

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from pipeline_steps.models.oracle import AttributeNet, resize_to_world


class EmbeddedExtractor(FeatureExtractorBase):
    """Reads uint8 pictures (n, 3, h, w); its one feature, "grid", is (n, 64 · width).

    Args:
        name: the name it is registered under.
        features_list: ["grid"].
        feature_extractor_weights_path: the network's folder.
        kwargs: torch-fidelity's further settings, which mean nothing here.
    """

    def __init__(
        self, name: str, features_list: list[str], feature_extractor_weights_path: str, **kwargs: object
    ) -> None:
        super().__init__(name, features_list)
        self.network = AttributeNet.from_pretrained(Path(feature_extractor_weights_path))

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """Return the names of the features."""
        return ("grid",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """Return the feature for any metric."""
        return "grid"

    @staticmethod
    def can_be_compiled() -> bool:
        """Compiling so small a network takes longer than running it."""
        return False

    def forward(self, input: Tensor) -> tuple[Tensor]:
        """Return the features of uint8 pictures (n, 3, h, w)."""
        return (self.network.features(resize_to_world(input.to(torch.float32) / 255)),)
