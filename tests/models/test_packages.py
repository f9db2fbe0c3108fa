"""The packages themselves at their own size: checkpoints of random weights in the packages' own formats.

They take half a gigabyte each and are left out unless asked for: ``pytest -m slow``.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline_steps.config import ModelRef
from pipeline_steps.errors import UserError
from pipeline_steps.models import encoders, extractors, readers
from pipeline_steps.models.store import locate

pytestmark = pytest.mark.slow


def picture(seed: int, side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def test_midas_detector_of_controlnet_aux_reads_its_checkpoint(tmp_path):
    from controlnet_aux.midas.midas.dpt_depth import DPTDepthModel

    torch.manual_seed(0)
    network = DPTDepthModel(path=None, backbone="vitb_rn50_384", non_negative=True)
    file = tmp_path / readers.MIDAS_CHECKPOINT
    torch.save(network.state_dict(), file)
    assert file.stat().st_size == pytest.approx(493e6, rel=0.01)
    estimate = readers.depth_estimator(ModelRef(path=str(file)))
    found = estimate([picture(1), picture(2)])
    assert [depth.size for depth in found] == [(64, 64)] * 2
    assert all(depth.mode == "L" and depth.getextrema()[1] > depth.getextrema()[0] for depth in found)


@pytest.mark.parametrize("kind", extractors.DREAMSIM_TYPES)
def test_dreamsim_reads_its_checkpoint_and_is_differentiable(kind, tmp_path):
    dreamsim_checkpoint(tmp_path, kind)
    embed, side = extractors.dreamsim(ModelRef(path=str(tmp_path)))
    pictures = torch.rand(2, 3, side, side, requires_grad=True)
    found = embed(pictures)
    assert found.shape == (2, 512) and torch.isfinite(found).all()
    (gradient,) = torch.autograd.grad(found.square().sum(), pictures)
    assert gradient.abs().max() > 0


def dreamsim_checkpoint(folder: Path, kind: str) -> None:
    """Write the backbone's weights and the LoRA as the package's archive holds them."""
    from dreamsim.feature_extraction.vision_transformer import vit_base
    from dreamsim.model import PerceptualModel, dreamsim_args
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    backbone = vit_base(patch_size=32)
    backbone.pos_drop = torch.nn.LayerNorm(backbone.embed_dim)
    weights = backbone.state_dict() | {"proj": torch.randn(backbone.embed_dim, 512) / 28}
    torch.save({"state_dict": weights}, folder / f"{kind}_pretrain.pth.tar")
    settings = dreamsim_args["model_config"][kind]
    model = PerceptualModel(**settings, device="cpu", load_dir=str(folder), normalize_embeds=True)
    adapted = get_peft_model(model, LoraConfig(r=16, lora_alpha=8, target_modules=["qkv"]))
    adapted.save_pretrained(folder / f"{kind}_single_lora")


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
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.manual_seed(0)
    own = FeatureExtractorInceptionV3.__new__(FeatureExtractorInceptionV3)
    loaded = torch.load

    def nothing(*_, **__):
        raise FileNotFoundError

    try:  # the constructor builds the network, then reads the file: stop it there
        torch.load = nothing
        with pytest.raises(FileNotFoundError):
            own.__init__("inception-v3-compat", ["2048"], feature_extractor_weights_path="none")
    finally:
        torch.load = loaded
    file = tmp_path / "weights-inception-2015-12-05-6726825d.pth"
    torch.save(own.state_dict(), file)
    encode = encoders.kid_encoder(ModelRef(path=str(file)))
    rgb = torch.stack([torch.from_numpy(np.asarray(picture(seed))).permute(2, 0, 1) for seed in (1, 2)])
    assert encode(rgb).shape == (2, 2048)
    torch.save({"weights": picture(1)}, file)
    with pytest.raises(UserError, match=r"models.inception: .* holds more than tensors"):
        encoders.kid_encoder(ModelRef(path=str(file)))
