"""What each run changes of the configuration, without Snakemake."""

from pipeline_steps.config import PipelineConfig
from pipeline_steps.config.runs import all_runs
from tests.config.test_config import CULTURE


def test_each_run_changes_what_it_is_for_and_nothing_else():
    config = PipelineConfig.model_validate(
        {
            "cultures": {"korea": CULTURE},
            "evaluation": {
                "fig7_extractors": {"clip": {}, "views": {"views": 4}},
                "fig7_updates": [300, 600],
                "prompt_sets": {
                    "own": {"path": "own.txt", "images_per_prompt": 3},
                    "as_ever": {"path": "ever.txt"},
                },
            },
        }
    )
    runs = all_runs(config)
    before = config.model_dump()

    def changed(name):
        """Paths of the settings that are not the default run's, with their values."""
        found, parts = {}, [((), before, runs[f"runs/{name}/" if name else ""].settings.model_dump())]
        while parts:
            path, one, other = parts.pop()
            if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
                parts += [((*path, key), one[key], other[key]) for key in one]
            elif one != other:
                found[".".join(path)] = other
        return found

    drawn = "sample.images_per_prompt"
    assert changed("") == changed("train_prompts") == changed("generic_prompts") == changed("as_ever") == {}
    assert changed("coco_prompts") == {drawn: 1} and changed("own") == {drawn: 3}
    assert changed("fig7_clip") == {} and changed("fig7_views") == {"train.perceptual.views": 4}
    assert changed("fig7_views_first_300") == {"train.perceptual.views": 4, "train.updates": 300}
    assert changed("fig7_clip_random_600") == {"train.denoising.record": "random", "train.updates": 600}
    assert runs["runs/fig7_views_first_300/"].parent == "runs/fig7_views/"
    assert [name for name in runs if "_last_" in name] == [f"runs/fig7_clip_last_{n}/" for n in (300, 600)]
