"""Time and memory of one update: the authors' arrangement of the loop against the trainer.

    python -m benchmarks.train_step                      embedded family, on whatever this machine has
    python -m benchmarks.train_step --variant ldm
    python -m benchmarks.train_step --width 320          SD 1.5's sizes, random weights (wants a GPU)
    python -m benchmarks.train_step --width 320 --dry    count FLOPs, run nothing

All have the same networks, pictures and settings (config/presets/authors.yaml, effective batch 4) and run
in processes of their own, taking turns; ``trainer_by_time`` takes ten inner steps at most, by a picture's t,
``trainer_late`` looks at late t alone besides. benchmarks/authors.py is theirs. JSON goes to standard output.
"""

import copy
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import cyclopts
import torch
import yaml
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from peft import LoraConfig
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, CLIPTextModel

from benchmarks.authors import NEGATIVES, PICTURES, Authors, Material, Stopwatch, unet_section
from benchmarks.counting import flops, matmul_rate, synchronise
from pipeline_steps import artifacts
from pipeline_steps.artifacts import CAPTIONS, IMAGES, NEGATIVES_KEPT, Origin
from pipeline_steps.config import BaseRef, CacheConfig, ModelRef, PerceptualConfig, TargetsConfig, TrainConfig
from pipeline_steps.method.pictures import to_unit
from pipeline_steps.models import extractors, loading
from pipeline_steps.models.families import family_of
from pipeline_steps.training.cache import cache
from pipeline_steps.training.dataset import TrainingSet
from pipeline_steps.training.parallel import Processes
from pipeline_steps.training.targets import targets
from pipeline_steps.training.train import build_objective
from pipeline_steps.training.trainer import Trainer

MINI = Path("resources/mini")
CUDA = torch.cuda.is_available()
DTYPE = "float16" if CUDA else "float32"
EFFECTIVE_BATCH, CAPTIONS_EACH = PICTURES, 5
Variant = Literal["ldm", "scoft_m", "scoft_mp", "scoft_mpc"]
BY_TIME = {"denoising": {"steps": 10, "by_time": True}}
TRAINERS: dict[str, tuple[int, dict[str, Any]]] = {
    "trainer": (EFFECTIVE_BATCH, {}),
    "trainer_micro_batch_1": (1, {}),
    "trainer_by_time": (EFFECTIVE_BATCH, BY_TIME),
    "trainer_late": (EFFECTIVE_BATCH, BY_TIME | {"perceptual_from": 0.5}),
}
"""Pictures of a micro-batch and what is not the authors' about the looks, by arrangement."""


def settings(micro_batch: int, **looks: Any) -> TrainConfig:
    """The authors' settings in micro-batches; one CLIP stands for the three networks of DreamSim."""
    section = yaml.safe_load(Path("config/presets/authors.yaml").read_text())["train"]
    section["perceptual"] = {"extractor": "clip", "layers": [-1]}
    section |= looks | {"denoising": section["denoising"] | looks.get("denoising", {})}
    section |= {"batch_size": micro_batch, "accumulation": EFFECTIVE_BATCH // micro_batch}
    return TrainConfig.model_validate(section)


# --- networks and data, as folders and files like any other run's ------------------------------


def networks(width: int | None) -> tuple[UNet2DConditionModel, AutoencoderKL, CLIPModel]:
    """The shapes of the embedded family, or of SD 1.5 and CLIP ViT-B/32 scaled to a UNet of ``width``.

    SD 1.5's own width is 320. The text tower of CLIP ViT-L/14, SD's text encoder, has the same shape
    as CLIP's here but for its 12 heads.
    """
    if width is None:
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(MINI / "base/unet"))
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(MINI / "base/vae"))
        return unet, vae, CLIPModel(CLIPConfig.from_pretrained(MINI / "clip"))

    def scaled(size: int) -> int:
        return max(32, size * width // 320 // 32 * 32)

    unet = UNet2DConditionModel(
        sample_size=scaled(512) // 8,
        block_out_channels=(width, 2 * width, 4 * width, 4 * width),
        cross_attention_dim=scaled(768),
        attention_head_dim=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(scaled(128), scaled(256), scaled(512), scaled(512)),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        sample_size=scaled(512),
    )
    tower = {"hidden_size": scaled(768), "intermediate_size": 4 * scaled(768), "num_hidden_layers": 12}
    tower["num_attention_heads"] = scaled(768) // 32 if scaled(768) < 768 else 12
    vision = tower | {"image_size": 224, "patch_size": 32}
    return unet, vae, CLIPModel(CLIPConfig(text_config=tower, vision_config=vision, projection_dim=512))


def build(width: int, folder: Path) -> None:
    """Save random networks of some width in the hub's layout."""
    torch.manual_seed(0)
    unet, vae, clip = networks(width)
    dtype = getattr(torch, DTYPE)
    unet.to(dtype).save_pretrained(folder / "base/unet")
    vae.to(dtype).save_pretrained(folder / "base/vae")
    clip.to(dtype).save_pretrained(folder / "clip")
    text = CLIPTextModel(clip.config.text_config)
    text.to(dtype).save_pretrained(folder / "base/text_encoder")
    DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").save_pretrained(
        folder / "base/scheduler"
    )
    for name in ("base/tokenizer", "base/model_index.json", "clip/preprocessor_config.json"):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to((MINI / name).resolve())


def prepare(folder: Path, width: int | None, pictures: int, seen: PerceptualConfig | None = None) -> None:
    """Write pictures, captions and negatives, then the trainer's cache and targets by their steps.

    Other pictures serve as x⁻ and other captions as c_blip: what they say takes no time.
    """
    if width is not None:
        build(width, folder)
    side = AutoencoderKL.load_config(_base(folder, width).path, subfolder="vae")["sample_size"]
    notes = [json.loads(line) for line in (MINI / "ccub/korea/metadata.jsonl").read_text().splitlines()]
    notes = [note for note in notes if note["split"] == "train"][:pictures]
    cells = [
        artifacts.encode_picture(
            Image.open(MINI / "ccub/korea" / note["file_name"]).convert("RGB").resize((side, side)), ""
        )
        for note in notes
    ]
    ids = [f"{number:04d}" for number in range(len(notes))]
    origin, blank = Origin("korea", "benchmark"), dict.fromkeys(IMAGES.schema.names)
    size = {"source_width": side, "source_height": side, "crop": [0, 0, side, side], "source_sha256": ""}
    IMAGES.write(
        folder / "images.parquet",
        (
            blank | size | {"image_id": key, "image": cell, "caption": note["text"], "split": "train"}
            for key, cell, note in zip(ids, cells, notes, strict=True)
        ),
        origin,
    )
    CAPTIONS.write(
        folder / "captions.parquet",
        (
            {"image_id": key, "index": k, "caption": notes[(row + k + 1) % len(notes)]["text"]}
            for row, key in enumerate(ids)
            for k in range(CAPTIONS_EACH)
        ),
        origin,
    )
    NEGATIVES_KEPT.write(
        folder / "negatives_kept.parquet",
        (
            {
                "image_id": key,
                "index": k,
                "image": cells[(row + k + 1) % len(cells)],
                "prompt": "",
                "seed": 0,
                "distance": 1.0,
            }
            for row, key in enumerate(ids)
            for k in range(NEGATIVES)
        ),
        origin,
    )
    base = _base(folder, width)
    cache(
        folder / "images.parquet", folder / "captions.parquet", folder / "cache.safetensors", "korea", base,
        CacheConfig(batch_size=4),
    )  # fmt: skip
    targets(
        folder / "images.parquet", folder / "negatives_kept.parquet", folder / "targets.safetensors", "korea",
        1, _clip(folder, width), seen or settings(1).perceptual, TargetsConfig(batch_size=4),
    )  # fmt: skip


def _base(folder: Path, width: int | None) -> BaseRef:
    return BaseRef(path=str(MINI / "base" if width is None else folder / "base"), dtype=DTYPE)


def _clip(folder: Path, width: int | None) -> ModelRef:
    return ModelRef(path=str(MINI / "clip" if width is None else folder / "clip"), dtype=DTYPE)


# --- the two arrangements ---------------------------------------------------------------------


def material(folder: Path, width: int | None) -> Material:
    """What the authors' loop works with: pictures are decoded whenever they are used."""
    base = _base(folder, width)
    family, side = family_of(base), loading.device()
    rows = IMAGES.read(folder / "images.parquet")
    text = loading.frozen(
        CLIPTextModel.from_pretrained(base.path, subfolder="text_encoder", dtype=getattr(torch, DTYPE))
    )
    tokenizer = AutoTokenizer.from_pretrained(MINI / "base/tokenizer")
    options = {"padding": "max_length", "max_length": 77, "truncation": True, "return_tensors": "pt"}

    def pictures(row: int, count: int) -> Tensor:
        cells = [rows[(row + k) % len(rows)]["image"] for k in range(count)]
        return to_unit([artifacts.decode_picture(cell) for cell in cells]).to(side)

    def encode(prompt: str) -> dict[str, Tensor]:
        return {"encoder_hidden_states": text(tokenizer(prompt, **options).input_ids.to(side))[0]}

    return Material(
        family=family,
        denoiser=family.denoiser(),
        vae=family.vae(),
        noise_process=family.noise_process(),
        extract=extractors.feature_extractor(_clip(folder, width), settings(1).perceptual),
        pictures=pictures,
        encode=encode,
        captions=[row["caption"] for row in rows],
    )


class Ours:
    """The trainer, with a stopwatch around its parts."""

    def __init__(
        self, folder: Path, width: int | None, variant: Variant, watch: Stopwatch, config: TrainConfig
    ) -> None:
        base = _base(folder, width)
        family, objective = family_of(base), build_objective(variant, config)
        parts = family.denoiser(), family, family.noise_process()
        self.trainer = Trainer(*parts, objective, config, 1, Processes(1))
        if objective.perceptual:
            extract = extractors.feature_extractor(_clip(folder, width), config.perceptual)
            self.trainer.look(family.vae(), extract)
            self.trainer.decode = watch.timed("decode", self.trainer.decode)
            self.trainer.extract = watch.timed("features", self.trainer.extract)
        self.data = TrainingSet(
            folder / "cache.safetensors",
            folder / "targets.safetensors" if objective.perceptual else None,
            "korea",
            1,
            config,
            self.trainer.noise_process,
        )
        self.data.batch = watch.timed("pictures and latents", self.data.batch)
        self.trainer.predict = watch.timed(unet_section, self.trainer.predict)
        self.trainer._accumulate = watch.timed("backward", self.trainer._accumulate)
        self.trainer._step = watch.timed("optimiser", self.trainer._step)
        self.parameters = self.trainer.parameters

    def update(self, number: int) -> None:
        """One update of the trainer."""
        self.trainer.update(number, self.data)


def measure(folder: Path, width: int | None, variant: Variant, arrangement: str, periods: int) -> dict:
    """Time whole periods of the perceptual term in this process."""
    torch.manual_seed(0)
    watch = Stopwatch()
    if arrangement == "authors":
        config = settings(1)
        loop = Authors(material(folder, width), build_objective(variant, config), config, watch)
    else:
        micro_batch, looks = TRAINERS[arrangement]
        loop = Ours(folder, width, variant, watch, settings(micro_batch, **looks))
    period = settings(1).perceptual_every
    loop.update(0)
    loop.update(1)
    loop.step = 0
    watch.seconds.clear()
    wall, cpu = [], []
    for _ in range(periods):
        synchronise()
        start = time.perf_counter(), time.process_time()
        for number in range(period):
            loop.update(number)
        synchronise()
        wall.append((time.perf_counter() - start[0]) / period)
        cpu.append((time.process_time() - start[1]) / period)
    where = {name: seconds / periods / period for name, seconds in watch.seconds.items()}
    where["rest"] = sum(wall) / periods - sum(where.values())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    gpu = torch.cuda.max_memory_allocated() / 2**20 if CUDA else None
    return {
        "seconds": min(wall),
        "cpu_seconds": min(cpu),
        "peak_mb": gpu if CUDA else memory,
        "where": where,
    }


# --- counting without running -----------------------------------------------------------------


def count(width: int | None, variant: Variant) -> dict[str, float]:
    """FLOPs of an update in both arrangements, counted on networks without weights (device "meta")."""
    config = settings(1)
    with torch.device("meta"):
        unet, vae, clip = networks(width)
        for network in (unet, vae, clip):
            network.requires_grad_(False).eval()
        bare = unet
        unet = copy.deepcopy(unet)
        unet.add_adapter(LoraConfig(r=config.lora_rank, target_modules=list(config.lora_targets)))
        side = vae.config.sample_size
        z = torch.empty(1, unet.config.in_channels, side // 8, side // 8)
        text = torch.empty(1, 77, unet.config.cross_attention_dim)
        picture, t = torch.empty(1, 3, side, side), torch.zeros(1)
        looked_at = torch.empty(1, 3, *(clip.vision_model.config.image_size,) * 2)

        def call_unet(network: UNet2DConditionModel = unet) -> Tensor:
            return network(z, t, text).sample.sum()

        def decode() -> Tensor:
            return vae.decode(z.clone().requires_grad_()).sample.sum()

        def see() -> Tensor:
            return clip.vision_model(looked_at.clone().requires_grad_()).last_hidden_state.sum()

        tokens = torch.zeros(1, 77, dtype=torch.long)
        plain, recorded = flops(call_unet), flops(call_unet, backward=True)
        merged = flops(lambda: call_unet(bare)) if DTYPE == "float32" else plain
        parts = {
            "UNet, no gradient": plain,
            "UNet, no gradient, merged": merged,
            "UNet, recorded": recorded,
            "VAE encode": flops(lambda: vae.encode(picture).latent_dist.mean),
            "VAE decode, recorded": flops(decode, backward=True),
            "text encoder": flops(lambda: clip.text_model(tokens).last_hidden_state),
            "features": flops(see),
            "features, recorded": flops(see, backward=True),
        }
    objective = build_objective(variant, config)
    targets_seen = int(objective.p > 0) + 2 * NEGATIVES * int(objective.c > 0)
    blip = int(objective.b > 0)
    look = parts["VAE decode, recorded"] + parts["features, recorded"]
    steps = 2 * (objective.steps - 1)  # t < 20, which takes fewer, is one in fifty
    often = int(objective.perceptual) / config.perceptual_every
    theirs = parts["VAE encode"] + (1 + 2 * blip) * parts["text encoder"] + recorded + 2 * blip * plain
    theirs += often * (steps * plain + look + targets_seen * parts["features"])
    ours = recorded + blip * merged + often * ((1 + steps) * merged + look)
    return parts | {"authors": EFFECTIVE_BATCH * theirs, "trainer": EFFECTIVE_BATCH * ours}


def batch_efficiency(base: BaseRef) -> float:
    """How much faster a recorded UNet call is for a picture of four than for one alone."""
    unet = family_of(base).denoiser()
    unet.add_adapter(LoraConfig(r=8, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    side, width = unet.config.sample_size, unet.config.cross_attention_dim

    def seconds(n: int) -> float:
        z = torch.randn(n, unet.config.in_channels, side, side, device=unet.device, dtype=unet.dtype)
        text = torch.randn(n, 77, width, device=unet.device, dtype=unet.dtype)
        t, found = torch.full((n,), 500, device=unet.device), []
        for _ in range(8):
            synchronise()
            start = time.perf_counter()
            with torch.autocast(unet.device.type, unet.dtype, enabled=CUDA):
                output = unet(z, t, text).sample
            output.float().square().mean().backward()
            synchronise()
            found.append(time.perf_counter() - start)
        return min(found)

    return EFFECTIVE_BATCH * seconds(1) / seconds(EFFECTIVE_BATCH)


# --- command line -----------------------------------------------------------------------------


def compare(
    variant: Variant = "scoft_mpc",
    width: int | None = None,
    rounds: int = 3,
    periods: int = 1,
    threads: int = 2,
    pictures: int = 48,
    dry: bool = False,
) -> dict[str, Any]:
    """Compare the arrangements; each is timed ``rounds`` times in turn and its fastest period counts."""
    counted = count(width, variant)
    bound = counted["authors"] / counted["trainer"]
    report: dict[str, Any] = {
        "variant": variant,
        "networks": "embedded" if width is None else f"random, UNet width {width}",
        "gflop": {name: round(value / 1e9, 3) for name, value in counted.items()},
        "ratio_of_flops": round(bound, 3),
    }
    if dry:
        return report
    torch.set_num_threads(threads)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ("authors", *TRAINERS)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _child("prepare", folder, width, variant, pictures, threads)
        for _ in range(rounds):
            for arrangement, runs in found.items():
                runs.append(_child(arrangement, folder, width, variant, periods, threads))
        efficiency, rate = batch_efficiency(_base(folder, width)), matmul_rate(loading.device())
    best = {name: min(runs, key=lambda run: run["seconds"]) for name, runs in found.items()}
    for name in ("authors", "trainer", "trainer_micro_batch_1"):
        run = best[name]
        run["utilisation"] = counted["authors" if name == "authors" else "trainer"] / run["seconds"] / rate
    theirs, ours = best["authors"], best["trainer"]
    return report | {
        "device": torch.cuda.get_device_name() if CUDA else f"CPU, {threads} threads",
        "arrangements": best,
        "ratio": theirs["seconds"] / ours["seconds"],
        "ratio_of_cpu_seconds": {
            name: theirs["cpu_seconds"] / best[name]["cpu_seconds"] for name in TRAINERS
        },
        "batch_efficiency": efficiency,
        "bound": bound * efficiency,
        "matmul_gflops": rate / 1e9,
    }


def _child(
    what: str, folder: Path, width: int | None, variant: str, number: int, threads: int
) -> dict[str, Any]:
    job = json.dumps([what, str(folder), width, variant, number, threads])
    command = [sys.executable, "-m", "benchmarks.train_step", "child", job]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(found.stdout.splitlines()[-1])


def child(job: str) -> dict[str, Any]:
    """Do one part of :func:`compare` in a process of its own."""
    what, folder, width, variant, number, threads = json.loads(job)
    torch.set_num_threads(threads)
    if what == "prepare":
        prepare(Path(folder), width, number)
        return {}
    return measure(Path(folder), width, variant, what, number)


if __name__ == "__main__":
    app = cyclopts.App()
    app.default(compare)
    app.command(child)
    result = app(result_action="return_value")
    print(json.dumps(result, indent=None if "child" in sys.argv else 1))
