"""The runs: the default one, the named ones, Fig. 7's trainings, and those that only draw other prompts."""

from typing import Any, NamedTuple

from pipeline_steps.config.pipeline import ABROAD, FIG7, PROMPT_SETS, PipelineConfig


class Run(NamedTuple):
    """What is the same in all of a run's files.

    Attributes:
        settings: the whole configuration with the run's changes made.
        prompt_set: which prompts it draws, where they are not the culture's test prompts.
        parent: folder of the run whose files it shares, as far as their settings are the same.
        abroad: the culture whose prompts it draws, where that is another one.
    """

    settings: PipelineConfig
    prompt_set: str | None = None
    parent: str = ""
    abroad: str | None = None


def all_runs(config: PipelineConfig) -> dict[str, Run]:
    """Return every run by its folder inside a culture's: "" for the default run, the parent of all."""
    runs = {name: Run(config.of_run(name)) for name in config.runs}
    runs |= {
        control_run(name, seed): Run(config.of_run(name, seed))
        for name, control in config.study.controls.items()
        for seed in control.seeds
    }
    runs |= _fig7(config)
    drawing = (*PROMPT_SETS, *config.evaluation.prompt_sets)
    runs |= {name: Run(_drawing(config, name), name) for name in drawing}
    runs |= {abroad_run(culture): Run(config, abroad=culture) for culture in config.cultures}
    return {"": Run(config)} | {folder(name): run for name, run in runs.items()}


def folder(name: str) -> str:
    """Return a run's folder inside a culture's."""
    return f"runs/{name}/"


def control_run(name: str, seed: str) -> str:
    """Return the name of the run of a control of the study with the seed of another run; "": its own."""
    return f"{name}_{seed}" if seed else name


def abroad_run(culture: str) -> str:
    """Return the name of the run in which every culture's LoRA draws this culture's prompts."""
    return f"{ABROAD}{culture}"


def fig7_name(extractor: str, record: str, updates: int) -> str:
    """Return the name of the run behind a point of Fig. 7."""
    return f"{FIG7}{extractor}_{record}_{updates}"


def fig7_lines(config: PipelineConfig) -> list[tuple[str, str]]:
    """Return Fig. 7's lines: every extractor with the first recording, the first one with every recording."""
    extractors = list(config.evaluation.fig7_extractors)
    return [(name, "first") for name in extractors] + [(extractors[0], name) for name in ("last", "random")]


def _fig7(config: PipelineConfig) -> dict[str, Run]:
    """Each point is a training of its own, with its whole schedule; those of an extractor share targets."""
    runs = {}
    for name, perceptual in config.evaluation.fig7_extractors.items():
        runs[f"{FIG7}{name}"] = Run(_training(config, {"perceptual": perceptual}))
    for extractor, record in fig7_lines(config):
        shared = runs[f"{FIG7}{extractor}"].settings
        for updates in config.evaluation.fig7_updates:
            denoising = config.train.denoising.model_copy(update={"record": record})
            # The whole schedule, so that the warm-up has the length of the training too.
            warmup = config.train.warmup * updates // config.train.updates
            settings = _training(shared, {"updates": updates, "warmup": warmup, "denoising": denoising})
            runs[fig7_name(extractor, record, updates)] = Run(settings, parent=folder(f"{FIG7}{extractor}"))
    return runs


def _training(config: PipelineConfig, changes: dict[str, Any]) -> PipelineConfig:
    return config.model_copy(update={"train": config.train.model_copy(update=changes)})


def _drawing(config: PipelineConfig, prompt_set: str) -> PipelineConfig:
    """Of MS-COCO's captions each is drawn once, of a further set each as often as it says."""
    further = config.evaluation.prompt_sets.get(prompt_set)
    count = 1 if prompt_set == "coco_prompts" else further and further.images_per_prompt
    if not count:
        return config
    return config.model_copy(update={"sample": config.sample.model_copy(update={"images_per_prompt": count})})
