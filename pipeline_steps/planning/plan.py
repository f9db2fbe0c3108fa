"""What a configuration will cost before anything is fetched or run: operations, memory, disk and time."""

from pathlib import Path

from pipeline_steps import artifacts
from pipeline_steps.cli import run_step
from pipeline_steps.config import PipelineConfig
from pipeline_steps.errors import UserError
from pipeline_steps.planning.cards import CARDS, CONTEXT, FRAGMENTS, GB, SIZES, UTILISATION
from pipeline_steps.planning.measured import training_share
from pipeline_steps.planning.stages import STAGES, VARIANT_TRAININGS, Stage


def plan(settings: PipelineConfig, plan: Path) -> None:
    """Estimate every stage of one culture and write a table.

    Operations and activations are counted by running the networks' own code on the meta device, at
    the configured resolution and batch sizes; what they assume is written under the table. Stages
    whose networks are neither fetched nor published here are named as unknown.

    Args:
        settings: the whole configuration.
        plan: Markdown file to write; it is printed as well.
    """
    import torch

    stages, unknown = [], []
    with torch.device("meta"):
        for name, estimate in STAGES.items():
            try:
                stages.append(estimate(settings))
            except UserError as error:
                unknown.append(f"{name}: {error}")
    text = _table(settings, stages, unknown)
    artifacts.write_text(plan, text)
    print(text)


def _table(settings: PipelineConfig, stages: list[Stage], unknown: list[str]) -> str:
    config, card = settings.plan, CARDS[settings.plan.gpu]
    assumed = config.utilisation or UTILISATION
    measured = None if config.utilisation else training_share(settings)
    share, where = measured or (assumed, "")
    shares = {stage.name: share if stage.name.startswith("train") else assumed for stage in stages}
    spent = {stage.name: stage.flops / (card.tflops * 1e12 * shares[stage.name]) / 3600 for stage in stages}
    reached = f"Measured: {share:.1%} is what {where}.\n" if where else ""
    rows = [
        f"| {stage.name} | {stage.flops / 1e15:.4g} | {stage.memory(stage.activations) / GB:.1f} | "
        f"{stage.disk / GB:.3g} | {spent[stage.name]:.3g} | "
        + " | ".join(stage.fit(size * GB) for size in SIZES)
        + " |"
        for stage in stages
    ]
    hours = {name.split()[0]: spent[name] for name in spent}
    once = sum(hours.values()) - hours.get("sample", 0.0)
    every = once + (VARIANT_TRAININGS - 1) * hours.get("train", 0.0) + 5 * hours.get("sample", 0.0)
    cultures = len(settings.cultures)
    elsewhere = ", but in training" if where else ""
    heads = " | ".join(f"{size} GB" for size in SIZES)
    missing = "".join(f"- Unknown: {line}\n" for line in unknown)
    return f"""# Plan

One culture of {config.pictures} training pictures at {settings.data.resolution} pixels, \
{config.prompts} prompts, on one {config.gpu}
({card.memory} GB, {card.tflops:g} TFLOPS). These are estimates, not measurements.

| stage | PFLOP | memory, GB | disk, GB | hours | {heads} |
|---|---|---|---|---|{"---|" * len(SIZES)}
{chr(10).join(rows)}

- GPU hours from the pictures to `lora.safetensors`: {once:.3g} a culture, \
{once * cultures:.3g} for {cultures} culture{"s" * (cultures > 1)}.
- With all four trainings and the pictures of five variants, at most: {every:.3g} a culture, \
{every * cultures:.3g} for {cultures}.
- Disk of one culture: {sum(stage.disk for stage in stages) / GB:.3g} GB.
{missing}
The last columns say whether a stage fits into a card, and if not as configured, what to set.
`filter`, `features` and scoring take little beside these and are left out.

Counted: operations and living tensors of the networks' own code at these sizes, attention as fused
kernels do it. Assumed: {assumed:.0%} of the card's peak is reached{elsewhere}; CUDA takes \
{CONTEXT / GB:.1f} GB; the allocator holds
{FRAGMENTS:.2f} bytes for each in use; memory grows with the batch; of the extractors of S
clip_conv and lpips are counted themselves, all others as CLIP.
{reached}Not counted: in training with 16-bit weights, norms and sums are kept in 32 bits.
"""


if __name__ == "__main__":
    run_step(plan)
