"""The package from its wheel, without the repository: deployed by snakedeploy, as a project, from a copy."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import yaml

from pipeline_steps.artifacts import LORA, TRAIN_LOG
from tests import ROOT

SCRIPTS = Path(sys.executable).parent
SNAKEMAKE = "python -m snakemake --cores 2"
GIT = "git -c user.name=test -c user.email=test@example.org"
ADDRESS = "https://github.com/example/scoft"
UPDATES = '{"updates":3}'
TINY = {
    "threads": 1,
    "data": {"resolution": 32},
    "caption": {"captions_per_image": 1, "max_new_tokens": 4},
    "negatives": {"per_positive": 1, "steps": 1},
    "filter": {"min_distance": 0.0},
    "train": {"updates": 2, "batch_size": 2, "perceptual_every": 2, "denoising": {"steps": 2}},
    "watch": {"tensorboard": False},
}


def do(folder: Path, environment: dict[str, str], command: str) -> str:
    """Run a command, none of whose words holds a space, and return what it says."""
    done = subprocess.run(command.split(), cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("deploy")


@pytest.fixture(scope="module")
def repository(place) -> Path:
    """A copy of what the repository holds, as a repository of its own with one tag."""
    folder = place / "repository"
    plain = dict(os.environ)
    held = do(ROOT, plain, f"{GIT} ls-files -z --cached --others --exclude-standard")
    for name in held.strip("\0").split("\0"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    for command in ("init --quiet", "add --all", "commit --quiet --message all", "tag v1"):
        do(folder, plain, f"{GIT} {command}")
    return folder


@pytest.fixture(scope="module")
def installed(place, repository) -> dict[str, str]:
    """The environment of a fresh interpreter with the wheel in it; what it needs it finds in this one."""
    plain = dict(os.environ)
    do(place, plain, f"{sys.executable} -m build --no-isolation --outdir {place}/dist {repository}")
    venv.create(place / "venv", with_pip=False)
    (wheel,) = (place / "dist").glob("*.whl")
    (site,) = (place / "venv").glob("lib/python*/site-packages")
    do(place, plain, f"{sys.executable} -m pip install --quiet --no-deps --target {site} {wheel}")
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    kept = {name: value for name, value in plain.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return kept | {
        "PATH": f"{place}/venv/bin{os.pathsep}{plain['PATH']}",
        "XDG_CACHE_HOME": f"{place}/cache",
        # git is told that the address is here
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{repository}.insteadOf",
        "GIT_CONFIG_VALUE_0": ADDRESS,
    }


def test_the_wheel_is_what_runs(place, installed):
    (place / "home.py").write_text("import pipeline_steps.home as it\nprint(it.HOME)\n")
    said = do(place, installed, "python home.py").strip()
    assert said.startswith(f"{place}/venv/") and said.endswith("/pipeline_steps/_shipped")


def test_snakedeploy_and_the_first_command_of_the_readme(place, installed):
    """The workflow from its repository, everything else from the wheel; the whole chain at tiny size."""
    folder = place / "deployed"
    do(place, installed, f"{SCRIPTS}/snakedeploy deploy-workflow {ADDRESS} {folder} --tag v1")
    module = 'github("example/scoft", path="workflow/Snakefile", tag="v1")'
    assert module in (folder / "workflow/Snakefile").read_text()
    config = folder / "config/config.yaml"
    assert yaml.safe_load(config.read_text())["presets"] == ["drawn"]
    shutil.rmtree(folder / "config/presets")  # those of the package serve as well
    config.write_text(yaml.safe_dump({"presets": ["drawn"]} | TINY))
    lora = "results/korea/lora.safetensors"
    do(folder, installed, f"{SNAKEMAKE} --config train={UPDATES} -- {lora}")
    assert TRAIN_LOG.count(folder / "results/korea/train_log.parquet") == 3
    assert LORA.note(folder / lora)


def test_a_project_from_the_wheel_alone(place, installed):
    do(place, installed, "python -m pipeline_steps.new_project project")
    do(place / "project", installed, f"{SNAKEMAKE} -- results/korea/data_card.md")
    assert (place / "project/results/korea/data_card.md").is_file()
    do(place / "project", installed, f"{SNAKEMAKE} --report all.html -- results/korea/data_card.md")
    assert (place / "project/all.html").is_file()


def test_a_copy_of_the_repository_is_read_from_anywhere_and_written_nowhere(place, installed, repository):
    def state() -> dict[Path, int]:
        return {path: path.lstat().st_mtime_ns for path in repository.rglob("*")}

    folder = place / "elsewhere"
    (folder / "config").mkdir(parents=True)
    (folder / "config/config.yaml").write_text("presets: [drawn]\n")
    before = state()
    where = f"--snakefile {repository}/workflow/Snakefile --directory {folder}"
    do(Path("/"), installed, f"{SNAKEMAKE} {where} -- results/india/data_card.md")
    assert (folder / "results/india/data_card.md").is_file()
    assert state() == before


def test_the_conda_environment_holds_the_package_that_planned(place, installed):
    """Its last line, by pip in a fresh interpreter that has the packages of the others; a step runs there."""
    *_, packages = yaml.safe_load((ROOT / "envs/pipeline.yaml").read_text())["dependencies"]
    (place / "last.txt").write_text(packages["pip"][-1] + "\n")
    (place / "source.py").write_text("import pipeline_steps.home as it\nprint(it.source())\n")
    origin = do(place, installed, "python source.py").strip()
    assert origin.startswith("file://") and origin.endswith(".whl")
    venv.create(place / "jobs", with_pip=False)
    (site,) = (place / "jobs").glob("lib/python*/site-packages")
    pip = f"{sys.executable} -m pip --python {place}/jobs/bin/python install --quiet --no-deps -r last.txt"
    do(place, installed | {"SCOFT_SOURCE": origin}, pip)
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = installed | {"PATH": f"{place}/jobs/bin{os.pathsep}{os.environ['PATH']}"}
    do(place, environment, "python -m pipeline_steps.new_project jobs_project")
    assert do(place, environment, "python source.py").strip() == origin
    assert (site / "pipeline_steps/_shipped/workflow/Snakefile").is_file()
