"""The real pictures as the VAE shows them: what the best possible LoRA could draw."""

from pathlib import Path

from pipeline_steps import artifacts
from pipeline_steps.artifacts import IMAGES, WHOLE
from pipeline_steps.cli import run_step
from pipeline_steps.config import BaseRef, CacheConfig


def reconstruct(images: Path, reconstructed: Path, culture: str, base: BaseRef, config: CacheConfig) -> None:
    """Encode and decode every picture with the base model's autoencoder.

    KID to these leaves out what the autoencoder itself blurs, which no training of the denoiser can mend.

    Args:
        images: table of pictures.
        reconstructed: table to write: the same rows, other pixels.
        culture: its name.
        base: the model to be mended.
        config: batch size.
    """
    import torch
    from PIL import Image

    from pipeline_steps.method.pictures import to_pictures, to_unit
    from pipeline_steps.models.families import family_of

    origin = artifacts.same_origin((IMAGES, images), culture=culture)
    family = family_of(base)
    vae = family.vae()

    @torch.inference_mode()
    def look(unit: torch.Tensor) -> list[Image.Image]:
        mean, _ = family.encode_pictures(vae, unit)
        return to_pictures(family.decode_latents(vae, mean))

    rows, total = IMAGES.rows(images), IMAGES.count(images)
    # By it the features find the central square of pictures of several shapes.
    resolution = {name: side for name, side in IMAGES.note(images).items() if name == "resolution"}
    with IMAGES.writer(reconstructed, origin, resolution) as table:
        batches = artifacts.shard_batches(rows, total, config.batch_size, WHOLE, "reconstruct")
        for batch in artifacts.one_size(batches):
            pictures = look(to_unit([artifacts.decode_picture(row["image"]) for row in batch]))
            for row, picture in zip(batch, pictures, strict=True):
                table.add({**row, "image": artifacts.encode_picture(picture, row["image"]["path"])})


if __name__ == "__main__":
    run_step(reconstruct, lever="lower cache.batch_size, or set models.base.vae_slicing: true")
