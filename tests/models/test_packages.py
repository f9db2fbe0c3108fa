"""The packages themselves at their own size: checkpoints of random weights in the packages' own formats.

They take half a gigabyte each and are left out unless asked for: ``pytest -m slow``.
"""

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline_steps.config import ModelRef
from pipeline_steps.errors import UserError
from pipeline_steps.models import encoders, extractors, readers
from pipeline_steps.models.store import locate
from tests.real_size import build

pytestmark = pytest.mark.slow


def picture(seed: int, side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def test_midas_detector_of_controlnet_aux_reads_its_checkpoint(tmp_path):
    torch.manual_seed(0)
    file = tmp_path / readers.MIDAS_CHECKPOINT
    build.depth(file)
    assert file.stat().st_size == pytest.approx(493e6, rel=0.01)
    estimate = readers.depth_estimator(ModelRef(path=str(file)))
    found = estimate([picture(1), picture(2)])
    assert [depth.size for depth in found] == [(64, 64)] * 2
    assert all(depth.mode == "L" and depth.getextrema()[1] > depth.getextrema()[0] for depth in found)


@pytest.mark.parametrize("kind", extractors.DREAMSIM_TYPES)
def test_dreamsim_reads_its_checkpoint_and_is_differentiable(kind, tmp_path):
    torch.manual_seed(0)
    build.dreamsim_checkpoint(tmp_path, kind)
    embed, side = extractors.dreamsim(ModelRef(path=str(tmp_path)))
    pictures = torch.rand(2, 3, side, side, requires_grad=True)
    found = embed(pictures)
    assert found.shape == (2, 768 + 512 + 512 if kind == "ensemble" else 512)
    assert torch.isfinite(found).all()
    (gradient,) = torch.autograd.grad(found.square().sum(), pictures)
    assert gradient.abs().max() > 0


def test_an_ensemble_without_dinos_backbone_says_where_it_is_to_be_had(tmp_path):
    for file in extractors.DREAMSIM_TYPES["ensemble"]:
        torch.save({"student": {}}, tmp_path / file)
    with pytest.raises(UserError, match=r"holds DINO's head alone; put dino_vitbase16_pretrain.pth of dl"):
        extractors.dreamsim(ModelRef(path=str(tmp_path)))


def test_lpips_takes_its_vgg_from_torchvisions_file_and_downloads_nothing(tmp_path, monkeypatch):
    from torchvision.models import vgg16

    torch.manual_seed(0)
    own = vgg16()
    torch.save(own.state_dict(), tmp_path / "vgg16.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    ref = ModelRef(path=str(tmp_path / "vgg16.pth"))
    network = extractors._lpips(locate(ref, "lpips"))
    assert not (tmp_path / "home").exists()
    unit = torch.rand(1, 3, 64, 64)
    last = network.net(unit)[-1]
    torch.testing.assert_close(last, own.features[:30](unit))
    # Its learned weights are those of its package, which are not negative.
    assert all((linear.model[-1].weight >= 0).all() for linear in network.lins)
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "vgg16.pth")
    with pytest.raises(UserError, match=r"is no VGG-16 of torchvision; name https://download.pytorch.org"):
        extractors._lpips(tmp_path / "vgg16.pth")


def test_inception_of_torch_fidelity_reads_its_file_and_nothing_but_tensors(tmp_path):
    torch.manual_seed(0)
    file = tmp_path / "weights-inception-2015-12-05-6726825d.pth"
    build.inception(file)
    encode = encoders.kid_encoder(ModelRef(path=str(file)))
    rgb = torch.stack([torch.from_numpy(np.asarray(picture(seed))).permute(2, 0, 1) for seed in (1, 2)])
    assert encode(rgb).shape == (2, 2048)
    torch.save({"weights": picture(1)}, file)
    with pytest.raises(UserError, match=r"models.inception: .* holds more than tensors"):
        encoders.kid_encoder(ModelRef(path=str(file)))
