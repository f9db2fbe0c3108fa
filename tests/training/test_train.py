"""The trainer: restart, batch arrangements, failure, and the LoRA other programs load."""

import json
import math
import os
import signal
import subprocess
import sys
from itertools import chain
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch

from pipeline_steps.artifacts import LORA, NEGATIVE_CACHE, TARGETS, TRAIN_CACHE, TRAIN_LOG, Origin
from pipeline_steps.config import BaseRef, ExportConfig, ModelRef, TrainConfig, WatchConfig
from pipeline_steps.errors import UserError
from pipeline_steps.method.processes import Diffusion
from pipeline_steps.models import extractors
from pipeline_steps.models.families import family_of
from pipeline_steps.planning.footprint import footprint
from pipeline_steps.training.checkpoints import Checkpoints
from pipeline_steps.training.dataset import TrainingSet
from pipeline_steps.training.export import export
from pipeline_steps.training.made_with import check_made_with, made_with
from pipeline_steps.training.parallel import Processes
from pipeline_steps.training.train import build_objective, train
from pipeline_steps.training.trainer import LossScale, Trainer, schedule_factor

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


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "processes", "every"),
    [(1, 4, 4, 8), (1, 4, 8, 8), (1, 8, 4, 8), (2, 4, 2, 8), (1, 4, 4, 10), (4, 1, 1, 8)],
)
def test_processes_share_an_updates_pictures_and_looks(batch_size, accumulation, processes, every):
    group = [Processes(1) for _ in range(processes)]
    for rank, process in enumerate(group):
        process.rank, process.count = rank, processes
    size = batch_size * accumulation * processes
    for update in range(5):
        shares = [
            [
                n
                for part in range(accumulation)
                for n in process.micro_batch(update, part, batch_size, accumulation)
            ]
            for process in group
        ]
        assert sorted(chain.from_iterable(shares)) == list(range(update * size, (update + 1) * size))
        at_once = [sum(number % every == 0 for number in share) for share in shares]
        assert max(at_once) == -(-sum(at_once) // processes)  # nobody waits for one who looks twice


def test_an_epoch_shows_every_picture_once_in_an_order_of_its_own(inputs):
    data = TrainingSet(inputs["train_cache"], None, "wales", 3, settings(), NOISE)
    assert sorted(data.order(0)) == sorted(data.order(1)) == list(range(PICTURES))
    assert data.order(0) != data.order(1)
    one, other = (data.batch([n], torch.device("cpu")) for n in (2, 2 + PICTURES))
    assert not torch.equal(one.noise, other.noise)


def test_timesteps_are_drawn_from_the_whole_schedule_and_from_it_alone(inputs):
    data = TrainingSet(inputs["train_cache"], None, "wales", 3, settings(), Diffusion(NOISE.alpha_bars[:4]))
    drawn = data.batch(range(10 * PICTURES), torch.device("cpu")).t
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


def test_a_damaged_checkpoint_is_not_the_newest(tmp_path):
    checkpoints = Checkpoints(tmp_path, {}, ORIGIN, kept=1)
    checkpoints.save(100, {"weight.0000": torch.zeros(4)}, [])
    checkpoints.latest().write_bytes(b"")
    assert checkpoints.restore() == ({}, [])
    checkpoints.save(20, {"weight.0000": torch.ones(4)}, [{"update": 19}])
    assert checkpoints.latest().name == "0000020.safetensors"
    assert checkpoints.restore()[1] == [{"update": 19}]
    checkpoints.remove()
    assert not tmp_path.exists()


def test_a_checkpoint_that_cannot_be_read_for_now_stays(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, {}, ORIGIN, kept=2)
    checkpoints.save(100, {"weight.0000": torch.ones(4)}, [{"update": 99}])

    def refuse(*_, **__):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("safetensors.safe_open", refuse)
        with pytest.raises(
            UserError, match=r"0000100\.safetensors: cannot be read now .*Too many open files"
        ):
            checkpoints.restore()
    assert checkpoints.restore()[1] == [{"update": 99}]


def test_of_a_damaged_checkpoint_the_copy_at_the_address_is_taken(tmp_path):
    def checkpoints():
        return Checkpoints(tmp_path / "here", {}, ORIGIN, 2, str(tmp_path / "there"))

    for update in (50, 100):
        checkpoints().save(update, {"weight.0000": torch.full((4,), float(update))}, [{"update": update}])
    for path in checkpoints().folder.glob("*.safetensors"):
        path.write_bytes(b"")  # as a power cut leaves what had been renamed and not yet written
    state, rows = checkpoints().restore()
    assert rows == [{"update": 100}] and state["weight.0000"].tolist() == [100.0] * 4


def test_moments_come_back_in_their_parameters_memory_order():
    """On CUDA convolutions are channels last; AdamW walks the memory of a parameter and of its moments."""
    config = settings(lora_targets=["to_q", "conv1"], lora_rank=4, learning_rate=0.01)

    def trained(first, last, state=None):
        trainer = new_trainer(config, "ldm")
        trainer.denoiser.to(memory_format=torch.channels_last)
        if state:
            trainer.restore(state)
        for update in range(first, last):
            gradient = []
            for number, parameter in enumerate(trainer.parameters):
                noise = torch.randn(
                    parameter.shape, generator=torch.Generator().manual_seed(100 * update + number)
                )
                gradient.append(torch.empty_like(parameter, requires_grad=False).copy_(noise))
            trainer._step(gradient, 1.0, 0.01, update)
        return trainer

    whole = trained(0, 4)
    assert any(not parameter.is_contiguous() for parameter in whole.parameters)
    stored = {name: tensor.contiguous() for name, tensor in trained(0, 2).state().items()}  # as a file has it
    resumed = trained(2, 4, stored)
    for parameter, other in zip(whole.parameters, resumed.parameters, strict=True):
        assert torch.equal(parameter, other)


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
    files.makedirs(f"{root}/another")
    files.pipe_file(f"{root}/another/0000050.json", b"of a project of the same address, which goes on")
    monkeypatch.setattr(Trainer, "update", lambda self, n, data: begun.append(n) or make(self, n, data))
    other = run(cache, tmp_path / "other", config, "ldm", **watch)
    assert begun == [2, 3] and other.read_bytes() == whole.read_bytes()
    assert [path.removeprefix(root) for path in files.find(root)] == ["/another/0000050.json"]


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


def test_pictures_decoded_one_by_one_take_the_memory_of_one():
    """Three more add their own pixels and latents; decoded together they add all that the decoder makes."""

    def peak(count: int, checkpointing: bool) -> int:
        trainer = new_trainer(settings(gradient_checkpointing=checkpointing), "scoft_mpc")
        latents = torch.zeros(count, 8, 8, 8, requires_grad=True)
        assert trainer.decode is not None
        return footprint(
            lambda: trainer.decode(latents * 1), lambda seen: torch.autograd.grad(seen.sum(), latents)
        ).peak

    pixels = 3 * 64 * 64 * 4
    assert peak(4, True) - peak(1, True) < 3 * 4 * pixels  # drawn, put together, and their gradients
    assert peak(1, True) < 0.5 * peak(1, False)
    assert peak(4, False) > 3.5 * peak(1, False)


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
        [0, 1], trainer.device
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
        decay = min(0.5, (1 + update) / (10 + update))  # .1, .18
        mean = [decay * x + (1 - decay) * p.detach() for x, p in zip(mean, trainer.parameters, strict=True)]
    trained = [p.detach().clone() for p in trainer.parameters]
    saved = trainer.lora_weights()
    names = [name for name, p in trainer.denoiser.named_parameters() if p.requires_grad]
    ours = {name.replace(".default.weight", ".weight"): x for name, x in zip(names, mean, strict=True)}
    for name, weight in saved.items():
        torch.testing.assert_close(
            weight, next(x for own, x in ours.items() if own.endswith(name.removeprefix("unet."))),
            rtol=1e-5, atol=1e-7,
        )  # fmt: skip
    assert all(torch.equal(x, p) for x, p in zip(trained, trainer.parameters, strict=True))


def test_files_of_another_model_or_another_s_are_refused(inputs, tmp_path):
    """Each says what made it; what an earlier version wrote does not."""
    config = settings(perceptual_every=1)
    for kind, name, told in (
        (TRAIN_CACHE, "train_cache", made_with(BASE)),
        (TARGETS, "targets", made_with(CLIP, config.perceptual)),
    ):
        about = kind.metadata(inputs[name])
        kind.write(inputs[name], kind.read(inputs[name]), ORIGIN, {"image_ids": about["image_ids"]} | told)
    run(inputs, tmp_path, config)
    with pytest.raises(
        UserError, match=r"made with layers \[2\], and this training has layers \[1\]; delete .*targets"
    ):
        run(inputs, tmp_path, settings(perceptual={"layers": [1], "views": 2}))
    with pytest.raises(UserError, match=r'made with model "base", and this training has model "base_flow"'):
        check_made_with(
            TRAIN_CACHE, inputs["train_cache"], made_with(BaseRef(path="resources/mini/base_flow"))
        )


def test_the_loss_scale_halves_at_an_overflow_and_doubles_after_a_good_while():
    scale = LossScale(enabled=True)
    assert not scale.accept(float("inf"))
    assert scale.value == 2.0**15
    assert all(scale.accept(1.0) for _ in range(2000))
    assert scale.value == 2.0**16
    assert LossScale(enabled=False).accept(float("inf"))


@pytest.mark.parametrize(("vae", "extractor"), [("float16", "float32"), ("float32", "float16")])
def test_whatever_looks_in_float16_has_a_loss_scale(vae, extractor):
    trainer = new_trainer(settings(), "scoft_mpc")
    assert not trainer.loss_scale.enabled
    autoencoder = family_of(BASE).vae().to(getattr(torch, vae))
    trainer.look(autoencoder, None, getattr(torch, extractor))
    assert trainer.loss_scale.enabled and trainer.loss_scale.value > 1


def test_a_float16_gradient_that_no_loss_scale_mends_ends_the_run(inputs, tmp_path, monkeypatch):
    """Two overflows bring the scale from 4 to 1; the third cannot come from the scale."""

    def scale(_):  # on a CPU float16 itself takes minutes
        found = LossScale(enabled=True)
        found.value = 4.0
        return found

    def overflow(trainer, parts, weights, scale, totals):
        torch._foreach_add_(totals["diffusion"], float("inf"))

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
    norms = {"gradient_norm"} | {f"gradient_norm_{part}" for part in ("diffusion", "perceptual", "contrast")}
    looks = {f"look_{part}" for part in ("share", "positive", "negative", "active")}
    assert set(board.Tags()["scalars"]) == {"loss", "learning_rate"} | parts | norms | looks
    assert [event.step for event in board.Scalars("loss_p")] == [0, 1, 2]
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


def test_a_stretched_schedule_ends_before_zero():
    config = settings(updates=100, schedule_stretch=4.0)
    assert schedule_factor(config, 100) == pytest.approx(0.854, abs=1e-3)


def parts_of_an_update(inputs, config, variant="scoft_mpc", number=0):
    """The gradient that the optimiser gets, and its log."""
    trainer = new_trainer(config, variant)
    data = TrainingSet(inputs["train_cache"], inputs["targets"], "wales", 3, config, NOISE)
    row = trainer.update(number, data)
    return torch.cat([p.grad.flatten() for p in trainer.parameters]), row


def test_each_perceptual_gradient_is_a_share_of_the_diffusion_gradient(inputs):
    """g = g_d + ‖g_d‖ (share_P · ĝ_P + share_C · ĝ_C), each gradient apart being that of its loss alone."""
    loose = {"max_gradient_norm": 1e9, "perceptual_every": 1, "contrast_margin": 1.0}
    apart = {}
    for name, weights in {
        "d": {"weight_p": 0.0, "weight_c": 0.0},
        "p": {"weight_ldm": 0.0, "weight_m": 0.0, "weight_c": 0.0},
        "c": {"weight_ldm": 0.0, "weight_m": 0.0, "weight_p": 0.0},
    }.items():
        config = settings(**loose, **weights, perceptual_share=None, contrast_share=None)
        apart[name] = parts_of_an_update(inputs, config)[0]
    found, row = parts_of_an_update(inputs, settings(**loose, perceptual_share=0.5, contrast_share=0.25))
    unit = {name: g / g.norm() for name, g in apart.items()}
    expected = apart["d"] + apart["d"].norm() * (0.5 * unit["p"] + 0.25 * unit["c"])
    assert (found - expected).norm() <= 1e-4 * expected.norm()
    names = {"d": "diffusion", "p": "perceptual", "c": "contrast"}
    half, row_of_half = parts_of_an_update(
        inputs, settings(**loose, perceptual_share=0.5, contrast_share=None)
    )  # L_C keeps its nominal weight, and is in no other's norm
    expected = apart["d"] + apart["d"].norm() * 0.5 * unit["p"] + apart["c"]
    assert (half - expected).norm() <= 1e-4 * expected.norm()
    assert row_of_half["gradient_norm_diffusion"] == pytest.approx(float(apart["d"].norm()), rel=1e-4)
    for part, name in names.items():
        assert row[f"gradient_norm_{name}"] == pytest.approx(float(apart[part].norm()), rel=1e-4)


def test_without_shares_one_backward_pass_of_the_sum_does(inputs, monkeypatch):
    passes, make = [], torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: (passes.append(1), make(*a, **k))[1])
    nominal = {"max_gradient_norm": 1e9, "perceptual_share": None, "contrast_share": None}
    whole, row = parts_of_an_update(inputs, settings(**nominal))
    assert len(passes) == 1 and row["gradient_norm_diffusion"] is None and row["loss_p"] > 0
    passes.clear()
    # A clip that never bites takes them apart and adds the same up.
    apart, _ = parts_of_an_update(inputs, settings(**nominal, perceptual_clip=1e9))
    assert len(passes) == 3
    assert (whole - apart).norm() <= 1e-5 * whole.norm()


def test_one_picture_in_so_many_is_looked_at(inputs, tmp_path):
    config = settings(perceptual_every=3, perceptual_from=0.2, updates=9)
    run(inputs, tmp_path, config)
    rows = TRAIN_LOG.read(tmp_path / "train_log.parquet")
    data = TrainingSet(
        inputs["train_cache"], inputs["targets"], "wales", 3, config, family_of(BASE).noise_process()
    )
    for row in rows:
        numbers = range(2 * row["update"], 2 * row["update"] + 2)
        shares = data.noise_process.share(data.batch(numbers, torch.device("cpu")).t).tolist()
        due = [share for g, share in zip(numbers, shares, strict=True) if g % 3 == 0 and share >= 0.2]
        assert row["look_share"] == pytest.approx(due)
        assert (row["loss_p"] is None) == (not due)
        assert all(len(row[f"look_{name}"]) == len(due) for name in ("positive", "negative", "active"))
        if due:  # L_P is S⁺; the hinge is open for a share of the negatives, or there is none
            assert row["loss_p"] == pytest.approx(sum(row["look_positive"]) / len(due))
            assert all(value is None or 0 <= value <= 1 for value in row["look_active"])
    assert sum(len(row["look_share"]) for row in rows) >= 3


def cached_negatives(inputs, tmp_path):
    g = torch.Generator().manual_seed(9)
    members = TARGETS.read(inputs["targets"])["negatives_of"]
    tensors = {
        "latents_mean": torch.randn(NEGATIVES, 2, 8, 8, 8, generator=g),
        "latents_std": torch.zeros(NEGATIVES, 2, 8, 8, 8),
        "negatives_of": members,
    }
    path = tmp_path / "negative_cache.safetensors"
    ids = {"image_ids": TRAIN_CACHE.metadata(inputs["train_cache"])["image_ids"]}
    NEGATIVE_CACHE.write(path, tensors, ORIGIN, ids)
    return path, tensors


@pytest.mark.parametrize("variant", ["dpo", "mapo"])
def test_a_baseline_trains_on_pictures_and_one_of_their_negatives(inputs, tmp_path, variant):
    path, tensors = cached_negatives(inputs, tmp_path)
    files = {"train_cache": inputs["train_cache"], "negative_cache": path}
    lora = run(files, tmp_path, settings(updates=2, batch_size=PICTURES), variant)
    assert all(tensor.isfinite().all() for tensor in LORA.read(lora).values())
    first = TRAIN_LOG.read(tmp_path / "train_log.parquet")[0]
    # B is zero, so the network is the un-tuned one: log 2 a pair; the last picture keeps no negative.
    share = (PICTURES - 1) / PICTURES
    if variant == "dpo":
        assert first["loss_dpo"] == pytest.approx(math.log(2) * share, rel=1e-5) and first["loss_ldm"] is None
    else:
        assert first["loss_mapo"] > 0 and first["loss_ldm"] > 0
    data = TrainingSet(files["train_cache"], None, "wales", 3, settings(), NOISE, path)
    batch, order = data.batch(range(PICTURES), torch.device("cpu")), data.order(0)
    for place, row in enumerate(order):
        own = [n for n in tensors["negatives_of"][row].tolist() if n >= 0]
        assert bool(batch.paired[place]) == bool(own)
        if own:
            assert any(torch.equal(batch.losers[place], tensors["latents_mean"][n, 0]) for n in own)


def test_the_un_tuned_network_is_the_one_without_its_lora(inputs):
    trainer = new_trainer(settings(), "ldm")
    batch = TrainingSet(inputs["train_cache"], None, "wales", 3, settings(), NOISE).batch(
        [0, 1], trainer.device
    )
    recorded = trainer.predict(batch.noise, batch.t, batch.text)
    base = trainer.predict_base(batch.noise, batch.t, batch.text)
    plain = family_of(BASE).denoiser()
    with torch.no_grad():
        expected = plain(batch.noise, batch.t, **batch.text).sample
    torch.testing.assert_close(base, expected)
    # In the middle of an update: the graph of the call before is whole.
    gradient = torch.autograd.grad((recorded - base).square().sum(), trainer.parameters)
    assert all(g.abs().max() > 0 for g in gradient)


def test_every_other_picture_takes_a_generic_caption_of_the_list(inputs):
    def batch_of(**changes):
        data = TrainingSet(inputs["train_cache"], None, "wales", 3, settings(**changes), NOISE)
        return data.batch(range(400), torch.device("cpu"))

    states, mask, sizes = "encoder_hidden_states", "mask", "time_ids"
    tensors = TRAIN_CACHE.read(inputs["train_cache"])
    tensors |= {f"text_blip.{mask}": torch.ones(PICTURES, 3, 77, dtype=torch.bool)}
    tensors |= {f"text_blip.{sizes}": torch.arange(PICTURES).view(-1, 1, 1).expand(-1, 3, 6)}
    ids = {"image_ids": TRAIN_CACHE.metadata(inputs["train_cache"])["image_ids"]}
    TRAIN_CACHE.write(inputs["train_cache"], tensors, ORIGIN, ids)
    plain = batch_of(weight_prior=1.0)
    listed = torch.randn(5, 77, 64)
    tensors |= {
        f"text_generic.{states}": listed,
        f"text_generic.{mask}": torch.zeros(5, 77, dtype=torch.bool),
    }
    TRAIN_CACHE.write(inputs["train_cache"], tensors, ORIGIN, ids)
    batch = batch_of(weight_prior=1.0)
    own, found = plain.generic[states], batch.generic[states]
    kept = (found == own).flatten(1).all(1)
    assert 140 < kept.sum() < 260
    taken = (found[~kept][:, None] == listed).flatten(2).all(2)
    assert taken.sum(1).eq(1).all() and taken.any(0).all()
    # The mask goes with its caption, what tells of the picture stays.
    assert batch.generic[mask].all(1).equal(kept) and not batch.generic[mask][~kept].any()
    assert batch.generic[sizes].equal(plain.generic[sizes]) and not batch_of().generic
    for name in ("z0", "noise", "t"):
        assert getattr(batch, name).equal(getattr(plain, name))


def test_a_lora_names_the_list_of_captions_that_it_was_held_to(inputs, tmp_path):
    tensors = TRAIN_CACHE.read(inputs["train_cache"])
    about = {
        "image_ids": TRAIN_CACHE.metadata(inputs["train_cache"])["image_ids"],
        "generic_captions": "5a17",
    }
    listed = {"text_generic.encoder_hidden_states": torch.randn(5, 77, 64)}
    TRAIN_CACHE.write(inputs["train_cache"], tensors | listed, ORIGIN, about)
    for weight, named in ((0.0, None), (1.0, "5a17")):
        lora = run(inputs, tmp_path / str(weight), settings(weight_prior=weight, updates=2), "ldm")
        training = json.loads(LORA.metadata(lora)["scoft_training"])
        assert training.get("generic_captions") == named


def test_the_prior_holds_generic_captions_to_the_un_tuned_network(inputs, tmp_path):
    rows = {}
    for weight in (0.0, 5.0):
        folder = tmp_path / str(weight)
        run(
            inputs, folder, settings(weight_prior=weight, prior_every=2, updates=6, learning_rate=0.02), "ldm"
        )
        rows[weight] = TRAIN_LOG.read(folder / "train_log.parquet")
    assert [row["loss_prior"] is None for row in rows[5.0]] == [False, True] * 3
    assert rows[5.0][0]["loss_prior"] == pytest.approx(0, abs=1e-9) and rows[5.0][2]["loss_prior"] > 0
    assert all(row["loss_prior"] is None for row in rows[0.0])
    assert (tmp_path / "0.0/lora.safetensors").read_bytes() != (
        tmp_path / "5.0/lora.safetensors"
    ).read_bytes()


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
