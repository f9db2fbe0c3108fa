"""What `python -m benchmarks.gpu` measures, each in a process of its own."""

import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
import yaml
from torch import Tensor

from benchmarks import counting, shapes
from benchmarks.authors import NEGATIVES, PICTURES, Authors, Material, Stopwatch
from benchmarks.counting import synchronise
from pipeline_steps.method.perceptual import vit_features
from pipeline_steps.method.scoft import Batch, Looks, Objective
from pipeline_steps.training.parallel import Processes
from pipeline_steps.training.trainer import Trainer

AUTHORS = Path(__file__).parent.parent / "config/presets/authors.yaml"
DEFAULTS = {
    "optimiser": "adamw",
    "warmup": 0,
    "weight_decay": 1e-2,
    "max_gradient_norm": 1.0,
    "lora_alpha": None,
    "lora_targets": ("to_q", "to_k", "to_v", "to_out.0"),
    "contrast_lambda": 0.5,
    "contrast_margin": 0.0,
    "perceptual_clip": None,
    "contrast_share": None,
    "prior_every": 1,
    "snr_gamma": None,
    "ema_decay": None,
    "gradient_checkpointing": False,
    "compile": False,
}
"""What config/presets/authors.yaml leaves as it is; the project's own settings need pydantic."""
SEEN_BY = {"extractor": "clip", "layers": [-1]}
"""The extractor of S in what is timed: one network where the authors' DreamSim is three of its kind."""
RANKS = {"zimage": {"lora_rank": 16}}
"""Where a model's preset has another rank than the authors'."""
GB = 1e9


def settings(**changed: Any) -> SimpleNamespace:
    """Return the section "train" of the authors' preset, with some settings changed."""
    preset = yaml.safe_load(AUTHORS.read_text(encoding="utf-8"))["train"]
    return SimpleNamespace(**DEFAULTS | preset | {"perceptual": SEEN_BY} | changed)


def objective(variant: str, config: Any) -> Objective:
    """Return the losses of a variant, ldm or scoft_mpc, under the authors' settings."""
    full, inner = variant == "scoft_mpc", config.denoising
    return Objective(
        a=config.weight_ldm,
        b=config.weight_m * full,
        p=config.weight_p * full,
        c=config.weight_c * full,
        lam=config.contrast_lambda,
        margin=config.contrast_margin,
        hinge=config.contrast == "hinge",
        steps=inner["steps"],
        scale=inner["guidance_scale"],
        by_time=inner["by_time"],
        record=inner["record"],
    )


def accelerator() -> torch.device:
    """Return the GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def machine() -> dict[str, Any]:
    """Say what this is measured on, how fast its products are, and what a context takes of the memory."""
    device, versions = accelerator(), {"torch": torch.__version__, "diffusers": diffusers.__version__}
    rate = counting.matmul_rate(device) / 1e12
    if device.type == "cpu":
        return {"gpu": "none (CPU, tiny size)", "driver": None, "matmul_tflops": rate, **versions}
    free, total = torch.cuda.mem_get_info()
    driver = "unknown"
    if program := shutil.which("nvidia-smi"):
        command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.split("\n")[0]
    return {
        "gpu": torch.cuda.get_device_name(),
        "driver": driver,
        "memory_gb": total / GB,
        "context_gb": (total - free - torch.cuda.memory_reserved()) / GB,
        "matmul_tflops": rate,
        **versions,
    }


def operations(model: str, variant: str, tiny: bool) -> dict[str, float]:
    """Count an update's operations in both arrangements, in TFLOP, on networks without weights."""
    config = settings(**RANKS.get(model, {}))
    with torch.device("meta"):
        networks = shapes.build(model, torch.device("meta"), torch.float32, tiny)
        found = counting.parts(networks, config, merged=False)
    total = counting.update(found, objective(variant, config), config, NEGATIVES, PICTURES)
    return {name: value / 1e12 for name, value in total.items()}


class Data:
    """Random batches of the shapes, precisions and places that a training cache's have."""

    def __init__(self, networks: shapes.Networks, dtype: torch.dtype) -> None:
        self.shape, self.process = networks.latents_shape, networks.noise_process
        self.condition = {name: value.cpu() for name, value in networks.encode().items()}
        vision = networks.vision.config
        positions = (vision.image_size // vision.patch_size) ** 2 + 1
        self.features = torch.randn(1 + NEGATIVES, 1, positions, vision.hidden_size).to(dtype)
        self.stochastic = self.process.stochastic and settings().denoising["scheduler"] == "ddpm"
        self.times = torch.Generator().manual_seed(0)

    def __len__(self) -> int:
        return 150

    def batch(self, numbers: Sequence[int], device: torch.device, looks: bool = False) -> Batch:
        """Draw a batch, on the CPU as the training set does."""
        n = len(numbers)
        latents, noise = (torch.randn(n, *self.shape).to(device) for _ in range(2))
        text = {name: value.repeat_interleave(n, 0).to(device) for name, value in self.condition.items()}
        batch = Batch(
            z0=latents,
            noise=noise,
            t=torch.cat([self.process.draw(self.times) for _ in range(n)]).to(device),
            text=text,
            blip={name: value[:, None] for name, value in text.items()},
            null=text,
        )
        seen = [place for place, number in enumerate(numbers) if number % settings().perceptual_every == 0]
        if looks and seen:
            k = len(seen)
            batch.looks = Looks(
                rows=torch.tensor(seen).to(device),
                boxes=torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(k, 1, 4).to(device),
                positive=[self.features[:1].expand(k, -1, -1, -1).to(device)],
                negative=[self.features[None, 1:].expand(k, -1, -1, -1, -1).to(device)],
                present=torch.ones(k, NEGATIVES, dtype=torch.bool, device=device),
                record_draw=torch.rand(k).to(device),
                noise=(lambda _: torch.randn(k, *self.shape).to(device)) if self.stochastic else None,
            )
        return batch


def _extractor(networks: shapes.Networks, config: Any) -> Callable[[Tensor], tuple[Tensor, ...]]:
    return vit_features(networks.vision, config.perceptual["layers"], networks.vision.config.image_size)


def authors(networks: shapes.Networks, variant: str, config: Any) -> Callable[[int], Any]:
    """Return one update in the authors' arrangement."""
    pictures = torch.rand(1 + NEGATIVES, 3, networks.side, networks.side)
    device = networks.denoiser.device
    material = Material(
        networks,
        networks.denoiser,
        networks.vae,
        networks.noise_process,
        _extractor(networks, config),
        lambda row, count: pictures[:count].to(device),
        lambda text: networks.encode(),
        ["a picture"],
    )
    return Authors(material, objective(variant, config), config, _Unwatched()).update


class _Unwatched(Stopwatch):
    """Lets the GPU run ahead, which a stopwatch for each section would not."""

    def section(self, name: str) -> Any:
        return nullcontext()


def trainer(networks: shapes.Networks, variant: str, config: Any) -> Callable[[int], Any]:
    """Return one update of the trainer's."""
    losses, dtype = objective(variant, config), networks.denoiser.dtype
    data = Data(networks, dtype)
    networks.texts.clear()  # the cache holds what they say
    found = Trainer(networks.denoiser, networks, networks.noise_process, losses, config, 1, Processes(1))
    if losses.perceptual:
        found.look(networks.vae, _extractor(networks, config))
    else:
        networks.vae = networks.vision = None
    return lambda number: found.update(number, data)


def update(
    model: str,
    arrangement: str,
    variant: str,
    dtype: str,
    batch: int,
    tiny: bool,
    slicing: bool = False,
    periods: int = 1,
    **levers: Any,
) -> dict[str, Any]:
    """Time whole periods of the perceptual term, after one update of each kind.

    Returns:
        Seconds: ``first`` of the first update, which compiles; ``seconds`` a mean over a period, and the
        medians ``plain`` and ``perceptual`` of updates without and with x̂. Bytes at the peak, in
        GB: in tensors, and held by the allocator. How often the network was compiled.
    """
    torch.manual_seed(0)
    config = settings(batch_size=batch, accumulation=PICTURES // batch, **levers)
    networks = shapes.build(model, accelerator(), getattr(torch, dtype), tiny, slicing)
    run = (authors if arrangement == "authors" else trainer)(networks, variant, config)
    _forget_peak()
    period, seconds, rows = config.perceptual_every, [], []
    # Two of each kind where it compiles: the first batch of another size is compiled anew.
    warm = [_seconds(lambda number=number: run(number)) for number in (0, 1, *(period, 1) * config.compile)]
    for _ in range(periods):
        for number in range(period):
            seconds.append(_seconds(lambda number=number: rows.append(run(number))))
    whole = [sum(seconds[i * period : (i + 1) * period]) / period for i in range(periods)]
    found = {
        "first": warm[0],
        "seconds": min(whole),
        "finite": all(row["loss"] == row["loss"] for row in rows if row),
    } | _memory()
    looked = [any(n % period == 0 for n in range(PICTURES * i, PICTURES * (i + 1))) for i in range(period)]
    for name, wanted in (("plain", False), ("perceptual", True)):
        found[name] = statistics.median(s for i, s in enumerate(seconds) if looked[i % period] == wanted)
    if config.compile:
        found["compilations"] = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    return found


def _seconds(run: Callable[[], Any]) -> float:
    synchronise()
    start = time.perf_counter()
    run()
    synchronise()
    return time.perf_counter() - start


def _forget_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _memory() -> dict[str, float]:
    if not torch.cuda.is_available():
        return {}
    return {
        "tensors_gb": torch.cuda.max_memory_allocated() / GB,
        "held_gb": torch.cuda.max_memory_reserved() / GB,
    }


def flow_pipeline(networks: shapes.FlowNetworks) -> Callable[..., Any]:
    """Return diffusers' pipeline of Z-Image over random networks, as a function likewise."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=networks.noise_process.shift)
    made = diffusers.ZImagePipeline(
        scheduler, networks.vae, text_encoder=None, tokenizer=None, transformer=networks.denoiser
    )
    made.set_progress_bar_config(disable=True)

    def draw(batch: int, steps: int, guidance: float) -> None:
        texts = [list(networks.encode(batch)["encoder_hidden_states"]) for _ in range(2)]
        made(
            prompt_embeds=texts[0],
            negative_prompt_embeds=texts[1],
            num_inference_steps=steps,
            guidance_scale=guidance - 1,
            height=networks.side,
            width=networks.side,
        )

    return draw


def pipeline(networks: shapes.Networks, control: Any | None) -> Callable[..., Any]:
    """Return diffusers' own pipeline over random networks, as a function of a batch, steps and guidance."""
    if isinstance(networks, shapes.FlowNetworks):
        return flow_pipeline(networks)
    large = len(networks.texts) == 2
    name = f"StableDiffusion{'XL' if large else ''}{'ControlNet' if control else ''}Pipeline"
    scheduler = diffusers.DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        algorithm_type="dpmsolver++",
        steps_offset=1,
    )
    parts: dict[str, Any] = dict.fromkeys(("text_encoder", "tokenizer", "feature_extractor"))
    parts |= dict.fromkeys(("text_encoder_2", "tokenizer_2")) if large else {"safety_checker": None}
    parts |= {"add_watermarker": False} if large else {"requires_safety_checker": False}
    parts |= {"controlnet": control} if control else {}
    made = getattr(diffusers, name)(
        vae=networks.vae, unet=networks.denoiser, scheduler=scheduler, **parts
    )  # fmt: skip
    made.set_progress_bar_config(disable=True)
    depth = torch.rand(1, 3, networks.side, networks.side)

    def draw(batch: int, steps: int, guidance: float) -> None:
        condition, empty = networks.encode(batch), networks.encode(batch)
        given = {
            "prompt_embeds": condition["encoder_hidden_states"],
            "negative_prompt_embeds": empty["encoder_hidden_states"],
        }
        if large:
            given["pooled_prompt_embeds"] = condition["text_embeds"]
            given["negative_pooled_prompt_embeds"] = empty["text_embeds"]
        given |= {"image": depth.expand(batch, -1, -1, -1)} if control else {}
        given |= {} if control else {"height": networks.side, "width": networks.side}
        made(num_inference_steps=steps, guidance_scale=guidance, **given)

    return draw


def draw(
    model: str,
    what: str,
    batch: int,
    steps: int,
    guidance: float,
    tiny: bool,
    lora: bool,
    slicing: bool = False,
) -> dict[str, Any]:
    """Time a batch of pictures: samples, with a LoRA or without, or negatives with depth control."""
    torch.manual_seed(0)
    run = _drawing(model, what, tiny, lora, slicing)
    run(batch, 2, guidance)
    seconds = min(_seconds(lambda: run(batch, steps, guidance)) for _ in range(2))
    return {"seconds": seconds, "pictures_per_minute": 60 * batch / seconds} | _memory()


def _drawing(model: str, what: str, tiny: bool, lora: bool, slicing: bool) -> Callable[..., Any]:
    device, dtype = accelerator(), _precision(model)
    networks = shapes.build(model, device, dtype, tiny, slicing)
    control = shapes.controlnet(model, device, dtype, tiny) if what == "negatives" else None
    if lora:
        config = settings(**RANKS.get(model, {}))
        networks.denoiser.add_adapter(counting.lora(config.lora_rank, config.lora_targets))
    return pipeline(networks, control)


def _precision(model: str) -> torch.dtype:
    """Return the precision of a model's preset; a CPU's is 32 bits."""
    if not torch.cuda.is_available():
        return torch.float32
    return torch.bfloat16 if model == "zimage" else torch.float16


def fits(
    model: str, stage: str, caps: Sequence[float], tiny: bool, batch: int, slicing: bool, **levers: Any
) -> dict[str, Any]:
    """Find the smallest card on which a stage runs, its allocator held to the card less the context.

    Args:
        model: its name.
        stage: train, sample, negatives or cache.
        caps: memory of cards in GiB, rising.
        tiny: whether this is a test.
        batch: pictures at once.
        slicing: decode and encode one by one.
        levers: further settings of the training.

    Returns:
        ``cap``: the smallest that sufficed, or None; and the memory it took under that cap.
    """
    for cap in caps:
        _hold(cap)
        try:
            _stage(model, stage, tiny, batch, slicing, levers)
            return {"cap": cap} | _memory()
        except torch.OutOfMemoryError:
            pass
        _forget_peak()
    return {"cap": None}


def _hold(cap: float) -> None:
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        context = total - free - torch.cuda.memory_reserved()
        torch.cuda.set_per_process_memory_fraction(min(1.0, (cap * 2**30 - context) / total))


def _stage(model: str, stage: str, tiny: bool, batch: int, slicing: bool, levers: dict[str, Any]) -> None:
    device, dtype = accelerator(), _precision(model)
    if stage == "train":
        levers = RANKS.get(model, {}) | levers
        config = settings(batch_size=batch, accumulation=PICTURES // batch, **levers)
        networks = shapes.build(model, device, dtype, tiny, slicing)
        run = trainer(networks, "scoft_mpc", config)
        for number in (0, 1, config.perceptual_every):
            run(number)
    elif stage == "cache":
        networks = shapes.build(model, device, dtype, tiny, slicing)
        networks.denoiser = None
        _forget_peak()
        with torch.inference_mode():
            networks.encode(batch)
            networks.encode_pictures(
                networks.vae, torch.rand(2 * batch, 3, networks.side, networks.side, device=device)
            )
    else:
        _drawing(model, stage, tiny, stage == "sample", slicing)(batch, 2, 4.5)
