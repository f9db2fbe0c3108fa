"""Z-Image at tiny size: against its own pipelines, the equations, and the programs that load its LoRA."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import ZImageControlNetModel, ZImageImg2ImgPipeline
from safetensors.torch import load_file, save_file

from pipeline_steps import artifacts
from pipeline_steps.artifacts import CAPTIONS, DEPTH, IMAGES, KOHYA, LORA, NEGATIVES, SAMPLES, TRAIN_CACHE
from pipeline_steps.config import (
    BaseRef,
    CacheConfig,
    ExportConfig,
    ModelRef,
    NegativesConfig,
    SampleConfig,
    WatchConfig,
)
from pipeline_steps.config.checks import load_config, over_presets
from pipeline_steps.errors import UserError
from pipeline_steps.evaluation.sample import sample
from pipeline_steps.merge_shards import merge_shards
from pipeline_steps.method.denoising import aligned, denoise
from pipeline_steps.method.pictures import to_unit
from pipeline_steps.models import blueprints
from pipeline_steps.models.bases import published, refuse_ddpm
from pipeline_steps.models.families import FAMILIES, family_of
from pipeline_steps.models.families.flow import FlowFamily
from pipeline_steps.models.families.zimage import ZImage
from pipeline_steps.negatives.synthesize import synthesize
from pipeline_steps.training.cache import cache
from pipeline_steps.training.export import export
from pipeline_steps.training.train import train
from pipeline_steps.training.trainer import Trainer
from tests import ROOT
from tests.models.flow_family import (
    CLIP,
    ORIGIN,
    Raw,
    check_losses_and_one_update,
    new_trainer,
    picture,
    settings,
    write_inputs,
)
from tests.models.zimage_model import build, comfy_layers

SD_BASE = BaseRef(path="resources/mini/base")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return build(tmp_path_factory.mktemp("zimage"))


@pytest.fixture(scope="module")
def base(tiny):
    return BaseRef(path=str(tiny / "base"))


@pytest.fixture(scope="module")
def world(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_inputs(folder, base)
    return folder


@pytest.fixture(scope="module")
def trained(base, world, tmp_path_factory):
    """The folder of a LoRA of two updates, and what is made of it for other programs.

    The training has no text encoder: what it needs of prompts the cache holds.
    """
    folder = tmp_path_factory.mktemp("trained")
    text = shutil.ignore_patterns("text_encoder", "tokenizer")
    lean = BaseRef(path=str(shutil.copytree(base.path, folder / "lean/base", ignore=text)))
    train(
        world / "cache.safetensors", folder / "lora.safetensors", folder / "log.parquet", "wales",
        "scoft_mpc", 3, lean, settings(learning_rate=0.05, gradient_checkpointing=True),
        world / "targets.safetensors", CLIP, WatchConfig(sample_every=1, sample_pictures=2),
    )  # fmt: skip
    (folder / "card.md").write_text("# Data card\n")
    export(
        folder / "lora.safetensors", folder / "card.md", folder / "named.safetensors",
        folder / "kohya.safetensors", folder / "m.md", "wales", ", there", ExportConfig(),
    )  # fmt: skip
    return folder


def raw(trainer: Trainer) -> Raw:
    """Its networks, called as ``ZImagePipeline`` calls them, one picture at a time."""
    transformer, vae = trainer.denoiser, trainer.family.vae()
    pipeline = trainer.family.text_to_image()

    def say(prompt):
        return pipeline.encode_prompt([prompt], do_classifier_free_guidance=False)[0]

    def network(z, sigma, caption):
        return -transformer([z[0].unsqueeze(1)], 1 - sigma.reshape(1), caption).sample[0].squeeze(1)[None]

    def decode(z):
        return (vae.decode(z / 0.5 + 0.1).sample / 2 + 0.5).clamp(0, 1)

    return Raw(say, network, decode, 6.0)


@pytest.mark.parametrize("record", ["first", "last"])
def test_losses_and_one_update_agree_with_the_equations(base, world, record):
    changes = {"snr_gamma": 0.5} if record == "last" else {}
    denoising = {"steps": 3, "guidance_scale": 3.0, "record": record, "by_time": record == "last"}
    config = settings(denoising=denoising, contrast_margin=1.0, **changes)
    trainer = new_trainer(base, config)
    check_losses_and_one_update(trainer, raw(trainer), world)


def test_prediction_condition_and_steps_are_the_pipelines(base):
    """Prompts of different lengths, drawn from the same noise by diffusers' pipeline and by x̂'s way down."""
    family = family_of(base)
    pipeline, encode, process = family.text_to_image(), family.prompt_encoder(), family.noise_process()
    prompts = ["a red house, there, by night in wales and there again, a jar by a red house", "a jar"]
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    calls = {"num_inference_steps": 4, "guidance_scale": family.guidance(3.0), "height": 64, "width": 64}
    theirs = pipeline(list(prompts), latents=noise, output_type="latent", **calls).images
    with torch.inference_mode():
        text, null = encode(prompts), encode(["", ""])
        pairs = {name: aligned([value, null[name]]) for name, value in text.items()}
        ours = denoise(
            partial(family.predict, pipeline.transformer), noise, torch.ones(2),
            {name: both[0] for name, both in pairs.items()}, {name: both[1] for name, both in pairs.items()},
            process=process, steps=4, scale=3.0, record=torch.tensor([-1, -1]),
        )  # fmt: skip
        pictures = family.decode_latents(family.vae(), ours)
    assert text["mask"].sum(1).tolist()[0] > text["mask"].sum(1).tolist()[1]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    drawn = pipeline(list(prompts), latents=noise, output_type="pt", **calls).images
    torch.testing.assert_close(pictures, drawn, rtol=1e-3, atol=1e-3)
    assert drawn.std() > 0.01


def test_latents_and_back_are_the_pipelines(base):
    family = family_of(base)
    vae, unit = family.vae(), to_unit([picture(1), picture(2)])
    pipeline = ZImageImg2ImgPipeline.from_pipe(family.text_to_image())
    pipeline.scheduler.scale_noise = lambda latents, t, noise: latents
    with torch.inference_mode():
        theirs = pipeline.prepare_latents(
            pipeline.image_processor.preprocess(unit), None, 2, 4, 64, 64, torch.float32, vae.device,
            torch.Generator().manual_seed(0),
        )  # fmt: skip
        mean, std = family.encode_pictures(vae, unit)
        ours = mean + std * torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        plain = vae.decode(vae.encode(unit * 2 - 1).latent_dist.mode()).sample / 2 + 0.5
        torch.testing.assert_close(family.decode_latents(vae, mean), plain.clamp(0, 1), rtol=1e-4, atol=1e-4)


def test_its_lora_changes_the_pipelines_pictures_and_has_comfys_names(base, tiny, trained):
    weights, named = LORA.read(trained / "lora.safetensors"), KOHYA.read(trained / "kohya.safetensors")
    assert {name.split(".lora_")[0] for name in named if ".lora_" in name} == comfy_layers(tiny / "base")
    layer = "layers.1.attention.to_out.0"
    ours = weights[f"transformer.{layer}.lora_A.weight"]
    assert torch.equal(ours, named[f"diffusion_model.{layer}.lora_down.weight"])

    family = family_of(base)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    drawn = {}
    for name in ("without", "lora.safetensors", "kohya.safetensors"):
        pipeline = family.text_to_image()
        if name != "without":
            pipeline.load_lora_weights(trained, weight_name=name)
        drawn[name] = pipeline(
            "a jar", latents=noise, num_inference_steps=2, height=64, width=64, output_type="pt"
        ).images
    assert (drawn["lora.safetensors"] - drawn["without"]).abs().max() > 1e-3
    torch.testing.assert_close(drawn["lora.safetensors"], drawn["kohya.safetensors"], rtol=1e-4, atol=1e-5)


def test_pictures_are_drawn_with_it_and_a_lora_of_another_kind_is_refused(base, world, trained, tmp_path):
    (tmp_path / "prompts.txt").write_text("a house\n")
    found = []
    for lora in (None, trained / "lora.safetensors"):
        sample(
            world / "images.parquet", tmp_path / "prompts.txt", tmp_path / "s.parquet", "wales", 3, base,
            SampleConfig(images_per_prompt=2, steps=2, batch_size=2), lora=lora,
        )  # fmt: skip
        rows = SAMPLES.rows(tmp_path / "s.parquet")
        found.append(np.stack([np.asarray(artifacts.decode_picture(row["image"])) for row in rows]))
    assert found[0].shape == (2, 64, 64, 3) and not np.array_equal(*found)
    with pytest.raises(UserError, match=r"trained on .*lean/base, and models.base \(Stable Diffusion 1"):
        family_of(SD_BASE).text_to_image(trained / "lora.safetensors")
    save_file({"unet.mid.to_q.lora_A.weight": torch.zeros(2, 4)}, tmp_path / "sd.safetensors")
    with pytest.raises(UserError, match=r"another model, and models.base \(Z-Image\) has no layer 'unet.mid"):
        family_of(base).text_to_image(tmp_path / "sd.safetensors")


def test_a_lora_of_another_commit_of_its_model_is_refused(tmp_path, monkeypatch):
    training = {"base": {"path": SD_BASE.path, "commit": "a" * 40}}
    layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    weights = {f"{layer}.lora_A.weight": torch.zeros(2, 4), f"{layer}.lora_B.weight": torch.zeros(4, 2)}
    save_file(weights, tmp_path / "l.safetensors", {"scoft_training": json.dumps(training)})
    monkeypatch.setattr("pipeline_steps.models.families.family.commit", lambda ref: "b" * 40)
    with pytest.raises(UserError, match=rf"commit {'a' * 12} of .*base, which is at {'b' * 40} here"):
        family_of(SD_BASE).text_to_image(tmp_path / "l.safetensors")


@pytest.mark.parametrize("structure", ["depth", "noise"])
def test_negatives_by_either_structure(base, tiny, world, tmp_path, structure):
    source = world / "images.parquet"
    if structure == "depth":
        rows = [{"image_id": r["image_id"], "image": r["image"]} for r in IMAGES.rows(source)]
        DEPTH.write(tmp_path / "depth.parquet", rows, ORIGIN)
        source = tmp_path / "depth.parquet"
    found = []
    for size in (1, 4):
        out = tmp_path / f"{size}.parquet"
        config = NegativesConfig(structure=structure, per_positive=2, steps=2, batch_size=size)
        synthesize(
            world / "captions.parquet", source, out, "wales", ", there", 3, base,
            ModelRef(path=str(tiny / "controlnet")), config, offload=size == 4,
        )  # fmt: skip
        found.append([np.asarray(artifacts.decode_picture(r["image"]), int) for r in NEGATIVES.rows(out)])
    assert np.shape(found) == (2, 6, 64, 64, 3)
    assert np.abs(np.subtract(*found)).max() <= 2  # the batch changes nothing beyond rounding


def test_the_cache_pads_prompts_and_shards_merge_to_the_same_bytes(base, world, tmp_path):
    rows = CAPTIONS.read(world / "captions.parquet")
    rows[-1]["caption"] = "a house, there, by night in wales, a red house by a jar"
    CAPTIONS.write(tmp_path / "captions.parquet", rows, ORIGIN)
    paths = [tmp_path / f"{name}.safetensors" for name in ("whole", "1", "2", "merged")]
    for path, shard in zip(paths, ((1, 1), (1, 2), (2, 2)), strict=False):
        cache(
            world / "images.parquet", tmp_path / "captions.parquet", path, "wales", base,
            CacheConfig(batch_size=1), shard,
        )  # fmt: skip
    merge_shards("train_cache", paths[1:3], paths[3], "wales")
    assert paths[3].read_bytes() == paths[0].read_bytes()
    whole, first = TRAIN_CACHE.read(paths[0]), TRAIN_CACHE.read(paths[1])
    longest = whole["text_blip.mask"].shape[-1]
    assert longest > first["text_blip.mask"].shape[-1] and longest < 512
    assert {whole[f"{kind}.mask"].shape[-1] for kind in ("text", "text_blip", "text_null")} == {longest}


def test_the_published_control_is_one_file_and_needs_no_network(base, tiny, tmp_path, monkeypatch):
    """As ``from_single_file`` would ask the hub which version it is, were it not told."""
    file = tmp_path / "Control-2.1.safetensors"
    save_file(load_file(tiny / "controlnet/diffusion_pytorch_model.safetensors"), file)
    settings = blueprints.configuration(ModelRef(path=str(tiny / "controlnet")), "controlnet")
    with pytest.raises(UserError, match="is one file, whose configuration is not known here"):
        family_of(base)._control(ModelRef(path=str(file)))
    monkeypatch.setattr(blueprints, "lookup", lambda *_: settings)
    found = ZImage(base)._control(ModelRef(path=str(file)))
    ours = ZImageControlNetModel.from_pretrained(tiny / "controlnet").state_dict()
    assert all(torch.equal(value, found.state_dict()[name]) for name, value in ours.items())


def test_a_control_for_another_model_is_refused(base, tiny, tmp_path):
    with pytest.raises(UserError, match=r"is for another model .*a ControlNetModel, not a ZImageControl"):
        family_of(base).depth_to_image(ModelRef(path="resources/mini/controlnet"))
    with pytest.raises(UserError, match=r"Turbo.safetensors' is for the distilled model"):
        family_of(base).depth_to_image(ModelRef(path="models/Control-Turbo.safetensors"))
    shutil.copytree(tiny / "controlnet", tmp_path / "wide")
    file = tmp_path / "wide/config.json"
    file.write_text(file.read_text().replace('"dim": 32', '"dim": 64'))
    with pytest.raises(UserError, match=r"another model than models.base \(dim 64, not 32\); name its own"):
        family_of(base).depth_to_image(ModelRef(path=str(tmp_path / "wide")))


def test_encoding_leaves_the_prompts_as_they_are(base):
    prompts = ["a red house", "a jar"]
    encode = family_of(base).prompt_encoder()
    first, second = encode(prompts), encode(prompts)
    assert prompts == ["a red house", "a jar"]
    assert torch.equal(first["encoder_hidden_states"], second["encoder_hidden_states"])


def test_the_template_counts_among_the_tokens(base):
    tokenizer = family_of(base).tokenizer()
    framed = tokenizer.apply_chat_template(
        [{"role": "user", "content": "a jar"}], tokenize=False, add_generation_prompt=True
    )
    template = len(tokenizer(framed).input_ids) - len(tokenizer("a jar").input_ids)
    assert tokenizer.model_max_length == 512 - template > 490


PUBLISHED = {
    # billions of parameters of transformer and text encoder: their files' sizes in the hub's lists, halved
    "Tongyi-MAI/Z-Image": (12.31 / 2, 8.05 / 2, (2, 16, 128, 128), {"mask": (512,)}, 2560),
    "black-forest-labs/FLUX.2-klein-base-4B": (7.751 / 2, 8.05 / 2, (2, 128, 64, 64), {}, 7680),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_have_the_published_sizes_and_take_our_calls(name):
    transformer_size, text_size, latents, also, width = PUBLISHED[name]
    ref = BaseRef(path=name)
    family = family_of(ref)
    transformer = blueprints.diffusion(ref, "transformer", "transformer")
    text = blueprints.text_encoder(ref, "text_encoder")
    assert blueprints.parameters(transformer) / 1e9 == pytest.approx(transformer_size, rel=0.01)
    assert blueprints.parameters(text) / 1e9 == pytest.approx(text_size, rel=0.01)
    assert family.condition_shapes() == {"encoder_hidden_states": (512, width)} | also
    assert family.multiple() == 16
    names = {layer.rpartition(".attention.")[2] for layer, _ in transformer.named_modules()}
    assert all(any(name.endswith(wanted) for name in names) for wanted in family.lora_layers)
    vae = blueprints.diffusion(ref, "vae", "vae")
    with torch.device("meta"):
        mean, _ = family.encode_pictures(vae, torch.empty(2, 3, 1024, 1024))
        assert mean.shape == latents
        assert family.decode_latents(vae, mean).shape == (2, 3, 1024, 1024)
        condition = {key: torch.empty(2, *shape) for key, shape in family.condition_shapes().items()}
        assert family.predict(transformer, mean, torch.ones(2), condition).shape == latents


def test_the_presets_go_behind_those_of_the_training():
    for name in ("zimage", "flux2_klein"):
        for settings_of in ("paper", "authors"):
            raw = {"presets": [settings_of, name]}
            raw |= {"cultures": {"wales": {"suffix": ", in Wales", "images": "resources"}}}
            config = load_config(over_presets(raw))
            assert config.train.denoising.scheduler == "ddim" and config.data.resolution == 1024
            assert set(config.train.lora_targets) <= set(family_of(config.models.base).lora_layers)
        if config.negatives.structure == "depth":
            assert blueprints.configuration(config.models.controlnet, "controlnet")["control_in_dim"] == 33


def test_inner_steps_that_no_flow_has_are_refused_before_the_first_job(base, tmp_path):
    """By the index where the model is there, by its id where it is not; the families say which is a flow."""
    flows = []
    for file in sorted(Path("resources/published").glob("*.json")):
        index = json.loads(file.read_text()).get("model_index", {"ids": []})
        for known in filter(None, map(published, index["ids"])):
            flows.append(known.flow)
            assert known.flow == issubclass(FAMILIES[index["config"]["_class_name"]], FlowFamily)
    assert sum(flows) == 2 and len(flows) > 4
    for folder in (base.path, "resources/mini/flow"):
        config = load_config(over_presets({"presets": ["drawn"], "models": {"base": {"path": folder}}}))
        refuse_ddpm(config)
        run = config.model_copy(update={"runs": {"x": {"train": {"denoising": {"scheduler": "ddpm"}}}}})
        with pytest.raises(UserError, match=r"^runs.x.train.denoising.scheduler: 'ddpm' .* set ddim"):
            refuse_ddpm(run)
    command = [
        sys.executable, "-m", "snakemake", "-n", "--snakefile", str(ROOT / "Snakefile"), "--directory",
        str(tmp_path), "--configfile", str(tmp_path / "flow.yaml"), "--", "plan",
    ]  # fmt: skip
    for presets, right in ((["zimage", "authors"], False), (["authors", "zimage"], True)):
        settings = {"presets": presets, "cultures": {"wales": {"suffix": ", x", "images": str(ROOT)}}}
        (tmp_path / "flow.yaml").write_text(yaml.safe_dump(settings))
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        said = done.stderr + done.stdout
        assert (done.returncode == 0) == right
        assert ("name its preset last, e.g. presets: [authors, zimage], or set ddim" in said) != right


def test_a_distilled_model_is_refused():
    for path in ("Tongyi-MAI/Z-Image-Turbo", "/cache/models--Tongyi-MAI--Z-Image-Turbo/snapshots/0123abc"):
        with pytest.raises(UserError, match=r"is distilled .* name Tongyi-MAI/Z-Image"):
            ZImage(BaseRef(path=path)).refuse()
    for path in ("/data/turbo-disk/Z-Image", "/data/z-image-turbo-tests/models/Z-Image"):
        ZImage(BaseRef(path=path)).refuse()  # a disk may be called as it likes
