"""BLIP captions of the training pictures (paper §4.2)."""

from pathlib import Path

from pipeline_steps import artifacts
from pipeline_steps.artifacts import CAPTIONS, IMAGES, WHOLE, Shard
from pipeline_steps.cli import run_step
from pipeline_steps.config import CaptionConfig, ModelRef
from pipeline_steps.seeds import generator


def caption(
    images: Path,
    captions: Path,
    culture: str,
    seed: int,
    captioner: ModelRef,
    config: CaptionConfig,
    shard: Shard = WHOLE,
) -> None:
    """Draw k captions c_blip^i of every training picture by nucleus sampling.

    Each caption has its own random stream, bound to (seed, culture, image id, index), so that
    captions do not depend on the batch size.

    Args:
        images: table of pictures; its ``train`` rows are captioned.
        captions: table to write, k rows per picture.
        culture: its name.
        seed: the run's seed.
        captioner: BLIP or BLIP-2.
        config: how many, how drawn.
        shard: which share of the pictures.
    """
    import torch
    from transformers import LogitsProcessorList, TopPLogitsWarper

    from pipeline_steps.method.sampling import GumbelNoise
    from pipeline_steps.models import readers

    origin = artifacts.same_origin((IMAGES, images), culture=culture)
    model, processor = readers.captioner(captioner)
    k = config.captions_per_image

    @torch.inference_mode()
    def describe(rows: list[artifacts.Row]) -> list[str]:
        pictures = [artifacts.decode_picture(row["image"]) for row in rows]
        inputs = processor(images=pictures, return_tensors="pt").to(model.device, model.dtype)
        streams = [generator(seed, "caption", culture, row["image_id"], i) for row in rows for i in range(k)]
        tokens = model.generate(
            pixel_values=inputs.pixel_values,
            logits_processor=LogitsProcessorList([TopPLogitsWarper(config.top_p), GumbelNoise(streams)]),
            # A picture is looked at once for all its captions, which the streams draw.
            do_sample=True,
            num_return_sequences=k,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            num_beams=1,
            max_new_tokens=config.max_new_tokens,
        )
        return [text.strip() for text in processor.batch_decode(tokens, skip_special_tokens=True)]

    with CAPTIONS.writer(captions, origin) as table:
        for batch in artifacts.train_batches(images, config.batch_size, "caption", shard):
            found = iter(describe(batch))
            for row in batch:
                for index in range(k):
                    table.add({"image_id": row["image_id"], "index": index, "caption": next(found)})


if __name__ == "__main__":
    run_step(caption, lever="lower caption.batch_size")
