"""The trainer: restart, batch arrangements, failure, and the LoRA other programs load."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch

from pipeline_steps.artifacts import LORA, TARGETS, TRAIN_CACHE, TRAIN_LOG, Origin
from pipeline_steps.config import BaseRef, ExportConfig, ModelRef, TrainConfig, WatchConfig
from pipeline_steps.errors import UserError
from pipeline_steps.method.processes import Diffusion
from pipeline_steps.models import extractors
from pipeline_steps.models.families import family_of
from pipeline_steps.training.checkpoints import Checkpoints
from pipeline_steps.training.dataset import TrainingSet
from pipeline_steps.training.export import export
from pipeline_steps.training.train import build_objective, train
from pipeline_steps.training.trainer import LossScale, Processes, Trainer, schedule_factor

BASE, CLIP = BaseRef(path="resources/mini/base"), ModelRef(path="resources/mini/clip")
ORIGIN = Origin("wales", "f" * 64)
PICTURES, NEGATIVES = 6, 8
NOISE = Diffusion(torch.linspace(0.999, 0.005, 1000))


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """A training cache and targets of random numbers, shaped as the embedded family's are."""
    g = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    ids = {"image_ids": json.dumps([f"picture-{i}" for i in range(PICTURES)])}
    cache = {
        "latents_mean": numbers(PICTURES, 2, 8, 8, 8),
        "latents_std": numbers(PICTURES, 2, 8, 8, 8).abs() * 0.01,
        "text.encoder_hidden_states": numbers(PICTURES, 77, 64),
        "text_blip.encoder_hidden_states": numbers(PICTURES, 3, 77, 64),
        "text_null.encoder_hidden_states": numbers(77, 64),
    }
    members = torch.full((PICTURES, 3), -1)
    for row in range(NEGATIVES):  # the last picture keeps none
        members[row % (PICTURES - 1), row // (PICTURES - 1)] = row
    unit = torch.nn.functional.normalize
    targets = {
        "views": torch.tensor([[[0.0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]]]).repeat(PICTURES, 1, 1),
        "negatives_of": members,
        "positive.0": unit(numbers(PICTURES, 2, 2, 65, 96), dim=-1),
        "negative.0": unit(numbers(NEGATIVES, 2, 2, 65, 96), dim=-1),
    }
    paths = {"train_cache": tmp_path / "cache.safetensors", "targets": tmp_path / "targets.safetensors"}
    TRAIN_CACHE.write(paths["train_cache"], cache, ORIGIN, ids)
    TARGETS.write(paths["targets"], targets, ORIGIN, ids)
    return paths


def settings(**changes) -> TrainConfig:
    base = {
        "updates": 6,
        "batch_size": 2,
        "perceptual_every": 2,
        "perceptual": {"layers": [2], "views": 2},
        "denoising": {"steps": 3},
    }
    return TrainConfig.model_validate(base | changes)


def run(inputs, folder: Path, config: TrainConfig, variant="scoft_mpc", **watch) -> Path:
    lora = folder / "lora.safetensors"
    train(
        lora=lora, train_log=folder / "train_log.parquet", culture="wales", variant=variant, seed=3,
        base=BASE, config=config, extractor=CLIP, **inputs,
        watch=WatchConfig.model_validate({"tensorboard": False, **watch}),
    )  # fmt: skip
    return lora


KILLED_IN_THE_SIXTH_UPDATE = """
import os, runpy, signal, sys
from pipeline_steps.cli import limit_threads

limit_threads(int(sys.argv[sys.argv.index("--threads") + 1]))  # before torch comes, as the step does
from pipeline_steps.training.trainer import Trainer

update = Trainer.update
def update_or_die(self, number, data):
    return update(self, number, data) if number < 5 else os.kill(os.getpid(), signal.SIGKILL)

Trainer.update = update_or_die
runpy.run_module("pipeline_steps.training.train", run_name="__main__")
"""
"""The step's own command line, with a power cut."""


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(inputs, tmp_path):
    config = settings(updates=8, ema_decay=0.9)
    watch = WatchConfig(checkpoint_every=2, checkpoints_kept=1, tensorboard=False)
    whole = run(inputs, tmp_path / "whole", config)
    folder = tmp_path / "killed"
    arguments = [
        "--train-cache", inputs["train_cache"], "--targets", inputs["targets"],
        "--lora", folder / "lora.safetensors", "--train-log", folder / "train_log.parquet",
        "--culture", "wales", "--variant", "scoft_mpc", "--seed", "3",
        "--threads", str(torch.get_num_threads()),
        "--base", BASE.model_dump_json(), "--extractor", CLIP.model_dump_json(),
        "--config", config.model_dump_json(), "--watch", watch.model_dump_json(),
    ]  # fmt: skip
    arguments = [str(part) for part in arguments]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_IN_THE_SIXTH_UPDATE, *arguments], capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (folder / "lora.safetensors").exists()
    assert [path.name for path in folder.glob("checkpoints/*/*.safetensors")] == ["0000004.safetensors"]
    command = [sys.executable, "-m", "pipeline_steps.training.train", *arguments]
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "going on from" in again.stderr
    assert (folder / "lora.safetensors").read_bytes() == whole.read_bytes()
    assert TRAIN_LOG.read(folder / "train_log.parquet") == TRAIN_LOG.read(
        tmp_path / "whole/train_log.parquet"
    )
    assert not (folder / "checkpoints").exists()


class NestingOptimiser(torch.optim.Optimizer):
    """Keeps its state as bitsandbytes does: numbers, and a dictionary with a table all parameters share."""

    def __init__(self, parameters, config):
        super().__init__(parameters, {"lr": config.learning_rate})
        self.table = torch.tensor([0.5, 2.0])

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                kept = self.state[p]
                if not kept:
                    nested = {"moment": torch.zeros_like(p), "table": self.table}
                    kept |= {"step": 0, "share": 0.1, "quantised": nested}
                kept["step"] += 1
                kept["quantised"]["moment"].lerp_(p.grad, kept["share"])
                size = group["lr"] * kept["quantised"]["table"][kept["step"] % 2]
                p.data -= size * kept["quantised"]["moment"].sign()


def test_an_optimiser_that_nests_its_state_goes_on_with_the_same_bytes(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline_steps.training.trainer.build_optimiser", NestingOptimiser)
    cache = {"train_cache": inputs["train_cache"]}
    config = settings(batch_size=1, updates=3)
    whole = run(cache, tmp_path / "whole", config, "ldm")
    with monkeypatch.context() as interrupted:
        make = Trainer.update
        interrupted.setattr(Trainer, "update", lambda self, n, data: make(self, n, data) if n < 2 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(cache, tmp_path / "again", config, "ldm", checkpoint_every=1)
    assert list(tmp_path.glob("again/checkpoints/*/0000002.safetensors"))
    again = run(cache, tmp_path / "again", config, "ldm", checkpoint_every=1)
    assert again.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(("contrast", "p"), [("hinge", 0.2), ("difference", 0.25)])
def test_mp_is_mpc_without_negatives(contrast, p):
    """Where no negative is kept, the hinge is zero, and the authors' difference is S⁺ with the weight c."""
    config = settings(contrast=contrast, weight_p=0.2, weight_c=0.05)
    mp, mpc = (build_objective(variant, config) for variant in ("scoft_mp", "scoft_mpc"))
    assert (mp.p, mp.c) == (pytest.approx(p), 0) and (mpc.p, mpc.c) == (0.2, 0.05)


def new_trainer(config: TrainConfig, variant="scoft_mpc", base=BASE, seed=5) -> Trainer:
    """A trainer whose LoRA is no longer zero: where B is zero, A has no gradient yet."""
    objective = build_objective(variant, config)
    family = family_of(base)
    parts = family.denoiser(), family, family.noise_process()
    trainer = Trainer(*parts, objective, config, seed, Processes(config.processes))
    for parameter in trainer.parameters:
        parameter.data.normal_(std=0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    if objective.perceptual:
        trainer.look(family.vae(), extractors.feature_extractor(CLIP, config.perceptual))
    return trainer


def gradient(inputs, config: TrainConfig, base=BASE) -> list[torch.Tensor]:
    """The gradient of the first update, as the optimiser gets it."""
    trainer = new_trainer(config, base=base)
    trainer.update(0, TrainingSet(*inputs.values(), "wales", 3, config, NOISE))
    return [parameter.grad for parameter in trainer.parameters]


def assert_same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    difference = torch.stack([(x - y).norm() for x, y in zip(ours, theirs, strict=True)]).norm()
    assert difference <= 1e-4 * torch.stack([y.norm() for y in theirs]).norm()


def test_batch_size_accumulation_and_processes_do_not_change_the_gradient(inputs, tmp_path):
    whole = gradient(inputs, settings(batch_size=4))
    assert_same(gradient(inputs, settings(batch_size=1, accumulation=4)), whole)
    script = tmp_path / "two_processes.py"
    script.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from tests.training.test_train import gradient, settings\n"
        "paths = {'train_cache': Path(sys.argv[1]), 'targets': Path(sys.argv[2])}\n"
        "found = gradient(paths, settings(batch_size=2, processes=2))\n"
        "import torch.distributed as dist\n"
        "if dist.get_rank() == 0:\n"
        "    assert dist.get_world_size() == 2\n"
        "    torch.save(found, sys.argv[3])\n"
        "dist.barrier()\n"
    )
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", script,
        *inputs.values(), tmp_path / "gradient.pt",
    ]  # fmt: skip
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    }
    subprocess.run([str(part) for part in command], check=True, env=environment, capture_output=True)
    assert_same(torch.load(tmp_path / "gradient.pt", weights_only=True), whole)


def test_an_epoch_shows_every_picture_once_in_an_order_of_its_own(inputs):
    data = TrainingSet(inputs["train_cache"], None, "wales", 3, settings(), NOISE)
    assert sorted(data.order(0)) == sorted(data.order(1)) == list(range(PICTURES))
    assert data.order(0) != data.order(1)
    one, other = (data.batch([n], False, torch.device("cpu")) for n in (2, 2 + PICTURES))
    assert not torch.equal(one.noise, other.noise)


def test_timesteps_are_drawn_from_the_whole_schedule_and_from_it_alone(inputs):
    data = TrainingSet(inputs["train_cache"], None, "wales", 3, settings(), Diffusion(NOISE.alpha_bars[:4]))
    drawn = data.batch(range(10 * PICTURES), False, torch.device("cpu")).t
    assert set(drawn.tolist()) == {0, 1, 2, 3}


def test_a_layer_that_the_denoiser_has_not_is_named(inputs, tmp_path):
    cache = {"train_cache": inputs["train_cache"]}
    with pytest.raises(UserError, match=r"lora_targets: .* no layer 'to_qq'; those .* are to_q, to_k, to_v"):
        run(cache, tmp_path, settings(lora_targets=["to_k", "to_qq"]), "ldm")


def test_nan_stops_with_the_update_and_the_losses_named(inputs, tmp_path):
    tensors = TRAIN_CACHE.read(inputs["train_cache"])
    tensors["latents_mean"][:] = float("nan")
    ids = {"image_ids": TRAIN_CACHE.metadata(inputs["train_cache"])["image_ids"]}
    TRAIN_CACHE.write(inputs["train_cache"], tensors, ORIGIN, ids)
    with pytest.raises(
        UserError, match=r"'wales' diverged at update 0 \(.*loss_ldm nan.*last good checkpoint: none"
    ):
        run(inputs, tmp_path, settings())


def test_training_that_moves_nothing_is_an_error(inputs, tmp_path):
    with pytest.raises(UserError, match="left the LoRA as it began"):
        run(inputs, tmp_path, settings(learning_rate=1e-300, updates=1))


def test_nan_names_the_last_good_checkpoint(inputs, tmp_path):
    config = settings(batch_size=1)
    tensors = TRAIN_CACHE.read(inputs["train_cache"])
    order = TrainingSet(inputs["train_cache"], None, "wales", 3, config, NOISE).order(0)
    tensors["latents_mean"][order[3]] = float("inf")  # the fourth picture to come
    ids = {"image_ids": TRAIN_CACHE.metadata(inputs["train_cache"])["image_ids"]}
    TRAIN_CACHE.write(inputs["train_cache"], tensors, ORIGIN, ids)
    with pytest.raises(UserError, match=r"at update 3 \(.*last good checkpoint: .*0000003.safetensors"):
        run({"train_cache": inputs["train_cache"]}, tmp_path, config, "ldm", checkpoint_every=1)
    kept = sorted(path.name for path in tmp_path.glob("checkpoints/*/*"))
    assert kept == [f"000000{n}.{kind}" for n in (2, 3) for kind in ("json", "safetensors")]


def test_damaged_and_foreign_checkpoints_are_passed_over(tmp_path):
    def checkpoints(identity):
        return Checkpoints(tmp_path, {"seed": identity}, ORIGIN, kept=3)

    for update in (1, 2, 3):
        checkpoints(7).save(update, {"weight.0000": torch.full((4,), float(update))}, [{"update": update}])
    newest = checkpoints(7).folder / "0000003.safetensors"
    newest.write_bytes(newest.read_bytes()[:-2] + b"xx")
    newest.with_name("0000002.json").write_text('{"identity": {"seed"')
    state, rows = checkpoints(7).restore()
    assert state["weight.0000"].tolist() == [1.0] * 4
    assert rows == [{"update": 1}]
    assert checkpoints(8).restore() == ({}, [])
    checkpoints(8).save(1, {"weight.0000": torch.zeros(4)}, [])  # fewer updates, and newer all the same
    assert checkpoints(8).restore()[0] and checkpoints(7).restore()[1] == rows


@pytest.mark.parametrize("address", ["memory://checkpoints/{name}", "{folder}/shared"])
def test_a_training_goes_on_on_another_machine(inputs, tmp_path, monkeypatch, address):
    """From what it has left at an address: of its own folder nothing is there."""
    cache = {"train_cache": inputs["train_cache"]}
    config = settings(batch_size=1, updates=4)
    address = address.format(name=tmp_path.name, folder=tmp_path)
    whole = run(cache, tmp_path / "whole", config, "ldm")
    begun = []
    make = Trainer.update
    watch = {"checkpoint_every": 1, "checkpoints_kept": 2, "checkpoints": address}
    with monkeypatch.context() as interrupted:
        interrupted.setattr(Trainer, "update", lambda self, n, data: make(self, n, data) if n < 3 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(cache, tmp_path / "one", config, "ldm", **watch)
    files, root = fsspec.url_to_fs(address)
    kept = [f"000000{n}.{kind}" for n in (2, 3) for kind in ("json", "safetensors")]
    assert sorted(path.rpartition("/")[2] for path in files.find(root)) == kept
    (newest,) = (path for path in files.find(root) if path.endswith("0000003.safetensors"))
    files.pipe_file(newest, files.cat_file(newest)[:-9])  # arrived half
    monkeypatch.setattr(Trainer, "update", lambda self, n, data: begun.append(n) or make(self, n, data))
    other = run(cache, tmp_path / "other", config, "ldm", **watch)
    assert begun == [2, 3] and other.read_bytes() == whole.read_bytes()
    assert not files.exists(root)


def test_a_copy_that_fails_ends_nothing_and_an_address_that_cannot_be_read_all(tmp_path, caplog, monkeypatch):
    """Begun anew in silence, a training would lose what it had."""

    def refuse(*arguments, **options):
        raise PermissionError("not yours")

    checkpoints = Checkpoints(tmp_path / "here", {}, ORIGIN, 1, f"memory://refused/{tmp_path.name}")
    monkeypatch.setattr(checkpoints.store.files, "put_file", refuse)
    checkpoints.save(1, {"weight.0000": torch.zeros(4)}, [])
    assert "0000001.safetensors was not copied to memory://refused" in caplog.text
    assert checkpoints.restore()[0]
    monkeypatch.setattr(checkpoints.store.files, "exists", refuse)
    with pytest.raises(UserError, match=r"watch.checkpoints: memory://refused/.* cannot be read \(not yours"):
        checkpoints.restore()


def test_gradient_checkpointing_does_not_change_the_gradient(inputs):
    plain = gradient(inputs, settings())
    assert_same(gradient(inputs, settings(gradient_checkpointing=True)), plain)


def test_under_bfloat16_the_lora_stays_float32_and_learns_in_the_same_direction(inputs):
    half = BaseRef(path=BASE.path, dtype="bfloat16")
    ours, whole = (gradient(inputs, settings(), base) for base in (half, BASE))
    assert all(x.dtype == torch.float32 for x in ours)
    ours, whole = (torch.cat([x.flatten() for x in g]) for g in (ours, whole))
    assert torch.nn.functional.cosine_similarity(ours, whole, dim=0) > 0.98


def test_calls_without_gradient_agree_and_leave_the_network_as_it_was(inputs):
    trainer = new_trainer(settings(), "ldm")
    before = {name: weight.clone() for name, weight in trainer.denoiser.state_dict().items()}
    batch = TrainingSet(inputs["train_cache"], None, "wales", 3, settings(), NOISE).batch(
        [0, 1], False, trainer.device
    )
    recorded = trainer.predict(batch.noise, batch.t, batch.text).detach()
    with torch.no_grad():
        merged = trainer.predict(batch.noise, batch.t, batch.text)
        trainer.denoiser.disable_adapters()
        untuned = trainer.predict(batch.noise, batch.t, batch.text)
    torch.testing.assert_close(merged, recorded, rtol=1e-4, atol=1e-4)
    assert (untuned - recorded).abs().max() > 0.1
    after = trainer.denoiser.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


def test_the_average_is_that_of_the_updates(inputs):
    config = settings(ema_decay=0.5, batch_size=1)
    trainer, data = (
        new_trainer(config, "ldm"),
        TrainingSet(inputs["train_cache"], None, "wales", 3, config, NOISE),
    )
    mean = [x.clone() for x in trainer.average]
    for update in range(2):
        trainer.update(update, data)
        mean = [0.5 * x + 0.5 * p.detach() for x, p in zip(mean, trainer.parameters, strict=True)]
    trained = [p.detach().clone() for p in trainer.parameters]
    trainer.lora_weights()  # puts the average in the place of the last weights
    assert not all(torch.equal(x, p) for x, p in zip(trained, trainer.parameters, strict=True))
    torch.testing.assert_close([p.detach() for p in trainer.parameters], mean, rtol=1e-5, atol=1e-7)


def test_the_loss_scale_halves_at_an_overflow_and_doubles_after_a_good_while():
    scale = LossScale(enabled=True)
    assert not scale.accept(float("inf"))
    assert scale.value == 2.0**15
    assert all(scale.accept(1.0) for _ in range(2000))
    assert scale.value == 2.0**16
    assert LossScale(enabled=False).accept(float("inf"))


def test_a_float16_gradient_that_no_loss_scale_mends_ends_the_run(inputs, tmp_path, monkeypatch):
    """Two overflows bring the scale from 4 to 1; the third cannot come from the scale."""

    def scale(_):  # on a CPU float16 itself takes minutes
        found = LossScale(enabled=True)
        found.value = 4.0
        return found

    def overflow(trainer, loss, total, retain=False):
        torch._foreach_add_(total, float("inf"))

    monkeypatch.setattr("pipeline_steps.training.trainer.LossScale", scale)
    monkeypatch.setattr(Trainer, "_accumulate", overflow)
    message = r"at update 2 \(loss [\d.]+, .*\): not finite: gradient_norm, gradient_norm_diffusion; last"
    with pytest.raises(UserError, match=message):
        run({"train_cache": inputs["train_cache"]}, tmp_path, settings(batch_size=1), "ldm")


@pytest.mark.parametrize(
    ("package", "changes", "watch", "message"),
    [
        (
            "wandb",
            {},
            {"wandb": "scoft"},
            "watch.wandb: 'scoft', but the package wandb is not installed; pip",
        ),
        (
            "bitsandbytes",
            {"optimiser": "adamw_8bit"},
            {},
            "'adamw_8bit' wants the package bitsandbytes, which",
        ),
    ],
)
def test_a_missing_package_is_named_before_training(
    inputs, tmp_path, monkeypatch, package, changes, watch, message
):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.optim", None)
    with pytest.raises(UserError, match=message):
        run({"train_cache": inputs["train_cache"]}, tmp_path, settings(**changes), "ldm", **watch)
    assert not (tmp_path / "train_log.parquet").exists()


def test_the_boards_show_each_part_and_samples_and_do_not_change_the_lora(inputs, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = settings(updates=3)
    watched = run(inputs, tmp_path / "watched", config, tensorboard=True, sample_every=2, sample_pictures=2)
    alone = run(inputs, tmp_path / "alone", config)
    assert watched.read_bytes() == alone.read_bytes()
    board = EventAccumulator(str(tmp_path / "watched/tensorboard/scoft_mpc")).Reload()
    parts = {f"loss_{part}" for part in ("ldm", "m", "p", "c")}
    norms = {"gradient_norm", "gradient_norm_diffusion", "gradient_norm_perceptual"}
    assert set(board.Tags()["scalars"]) == {"loss", "learning_rate"} | parts | norms
    assert [event.step for event in board.Scalars("loss_p")] == [0, 2]
    grids = board.Images("samples")
    assert [(grid.step, grid.width, grid.height) for grid in grids] == [(1, 128, 64), (2, 128, 64)]
    assert grids[0].encoded_image_string != grids[1].encoded_image_string


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_schedules_begin_at_the_peak_and_end_at_zero(schedule):
    config = settings(schedule=schedule, updates=100, warmup=10)
    assert schedule_factor(config, 0) == pytest.approx(0.1)
    assert schedule_factor(config, 10) == 1
    assert schedule_factor(config, 99) < 0.02
    assert schedule_factor(config, 100) == pytest.approx(0)


def test_the_perceptual_gradient_is_a_share_of_the_diffusion_gradient(inputs, tmp_path):
    run(inputs, tmp_path, settings(perceptual_share=0.5, updates=2, max_gradient_norm=1e9))
    first, second = TRAIN_LOG.read(tmp_path / "train_log.parquet")
    # The sum of g and a vector of half its length is between half and one and a half of it.
    assert 0.5 < first["gradient_norm"] / first["gradient_norm_diffusion"] < 1.5
    assert first["gradient_norm"] != pytest.approx(first["gradient_norm_diffusion"], rel=1e-6)
    assert second["loss_c"] is None
    assert second["gradient_norm"] == pytest.approx(second["gradient_norm_diffusion"], rel=1e-6)


def picture(lora: Path | None) -> np.ndarray:
    pipeline = family_of(BASE).text_to_image(lora)
    return pipeline(
        "a house", num_inference_steps=4, generator=torch.Generator().manual_seed(0), output_type="np"
    ).images


def test_the_lora_loads_in_diffusers_and_with_kohya_keys(inputs, tmp_path):
    """Both files change the picture, and in the same way; alpha differs from the rank on purpose."""
    lora = run(inputs, tmp_path, settings(lora_rank=4, lora_alpha=2.0, learning_rate=0.05))
    card = tmp_path / "data_card.md"
    card.write_text("# Data card: wales\n\n## Consent\n\nasked\n\nlicence: CC-BY-4.0\n")
    export(
        lora, card, tmp_path / "named.safetensors", tmp_path / "kohya.safetensors",
        tmp_path / "model_card.md",
        "wales", ", in Wales", ExportConfig(),
    )  # fmt: skip
    plain, ours, theirs = picture(None), picture(lora), picture(tmp_path / "kohya.safetensors")
    assert np.abs(ours - plain).mean() > 0.01
    np.testing.assert_allclose(theirs, ours, atol=1e-4)
    told = (tmp_path / "model_card.md").read_text()
    for part in (ORIGIN.fingerprint, "wales", "asked", "CC-BY-4.0", "Intended use", "Limits", BASE.path):
        assert part in told
    about = json.loads(LORA.metadata(lora)["scoft_training"])
    assert about["settings"]["lora_rank"] == 4
    assert (about["seed"], about["base"]["path"], about["variant"]) == (3, BASE.path, "scoft_mpc")
    assert about["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_every_layer_of_the_lora_is_loaded(inputs, tmp_path):
    """Attention and other layers in one file: diffusers must load them all."""
    layers = ["to_q", "ff.net.2", "proj_in", "conv1"]
    lora = run(inputs, tmp_path, settings(lora_targets=layers, learning_rate=0.05), "ldm")
    trained = {name: weight for name, weight in LORA.read(lora).items() if "lora_B" in name}
    loaded = family_of(BASE).text_to_image(lora).unet.state_dict()
    assert all(any(f".{layer}.lora_B" in name for name in trained) for layer in layers)
    for name, weight in trained.items():
        key = name.removeprefix("unet.").replace("lora_B.weight", "lora_B.default_0.weight")
        assert weight.any() and torch.equal(loaded[key], weight), name
