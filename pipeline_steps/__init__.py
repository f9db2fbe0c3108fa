"""SCoFT (Self-Contrastive Fine-Tuning, CVPR 2024) as a pipeline."""

__version__ = "0.1.0"
