"""What each run changes of the configuration, without Snakemake."""

from pipeline_steps.config import PipelineConfig, TrainConfig
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


def test_a_point_of_fig7_has_its_whole_schedule():
    """The warm-up too, which a shorter training would not take otherwise."""
    train = {"updates": 600, "warmup": 60}
    raw = {"cultures": {"korea": CULTURE}, "train": train, "evaluation": {"fig7_updates": [30, 600]}}
    runs = all_runs(PipelineConfig.model_validate(raw))
    for updates, warmup in ((30, 3), (600, 60)):
        found = [run.settings.train for name, run in runs.items() if name.endswith(f"_first_{updates}/")]
        assert found and {(each.updates, each.warmup) for each in found} == {(updates, warmup)}
        TrainConfig.model_validate(found[0].model_dump())


def test_what_another_setting_switches_off_makes_no_training_anew():
    """Of what a training reads its rule is made; each pair differs in one setting that it does not read."""

    def read(losses, **train):
        return TrainConfig.model_validate(train).read_by(losses)

    mp, mpc = ("ldm", "m", "p"), ("ldm", "m", "p", "c")
    assert read(mp, weight_c=0.5) == read(mp) and read(mpc, weight_c=0.5) != read(mpc)
    difference = {"contrast": "difference"}
    assert read(mp, weight_c=0.5, **difference) != read(mp, **difference)
    assert read(mpc, contrast_lambda=1, **difference) == read(mpc, **difference)
    assert read(mpc, contrast_lambda=1) != read(mpc)
    assert read(("ldm",), prior_every=2) == read(("ldm",))
    assert read(("ldm",), prior_every=2, weight_prior=0.1) != read(("ldm",), weight_prior=0.1)
