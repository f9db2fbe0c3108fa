"""Captions, with the embedded BLIP."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BlipForConditionalGeneration, BlipProcessor, LogitsProcessor, TopPLogitsWarper
from transformers.models.blip.modeling_blip import BlipVisionModel

from pipeline_steps.artifacts import CAPTIONS, IMAGES, Origin, encode_picture
from pipeline_steps.config import CaptionConfig, Models
from pipeline_steps.negatives.caption import caption
from pipeline_steps.seeds import generator

PICTURES, CAPTIONS_EACH = 3, 4


@pytest.fixture
def pictures():
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(PICTURES)]


class Noise(LogitsProcessor):
    """Gumbel noise of one stream a row, added to all words."""

    def __init__(self, streams):
        self.streams = streams

    def __call__(self, input_ids, scores):
        uniform = torch.stack([torch.rand(scores.shape[1], generator=stream) for stream in self.streams])
        return scores - torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))


def one_by_one(pictures) -> list[str]:
    """What the model says by greedy search of a noised row for each caption, its picture encoded anew."""
    folder = Models().captioner.path
    model, processor = (
        BlipForConditionalGeneration.from_pretrained(folder),
        BlipProcessor.from_pretrained(folder),
    )
    found = []
    for number, picture in enumerate(pictures):
        pixels = processor(images=picture, return_tensors="pt").pixel_values
        for index in range(CAPTIONS_EACH):
            noise = Noise([generator(7, "caption", "korea", f"p{number}", index)])
            words = model.eval().generate(
                pixel_values=pixels, logits_processor=[TopPLogitsWarper(0.9), noise], max_new_tokens=12
            )
            found.append(processor.decode(words[0], skip_special_tokens=True).strip())
    return found


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_picture_is_looked_at_once_for_all_its_captions(pictures, batch_size, tmp_path, monkeypatch):
    about = dict.fromkeys(IMAGES.schema.names) | {"crop": [0, 0, 64, 64], "split": "train", "caption": "c"}
    about |= {"source_width": 64, "source_height": 64}
    rows = [
        about | {"image_id": f"p{n}", "source_sha256": str(n), "image": encode_picture(picture, f"{n}.png")}
        for n, picture in enumerate(pictures)
    ]
    IMAGES.write(tmp_path / "i.parquet", rows, Origin("korea", "f" * 64))
    seen, look = [], BlipVisionModel.forward
    monkeypatch.setattr(
        BlipVisionModel,
        "forward",
        lambda self, pixel_values, **more: seen.append(len(pixel_values)) or look(self, pixel_values, **more),
    )
    settings = CaptionConfig(captions_per_image=CAPTIONS_EACH, max_new_tokens=12, batch_size=batch_size)
    caption(tmp_path / "i.parquet", tmp_path / "c.parquet", "korea", 7, Models().captioner, settings)
    assert sum(seen) == PICTURES
    found = [row["caption"] for row in CAPTIONS.rows(tmp_path / "c.parquet")]
    assert found == one_by_one(pictures) and len(set(found)) > PICTURES
