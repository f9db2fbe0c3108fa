"""The environments keep to pyproject, the one source of truth."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from snakemake.cli import get_argument_parser

from tests import ROOT


def check(root: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, root / "envs/build.py", "--check"]
    return subprocess.run(command, capture_output=True, text=True)


def copy(folder: Path) -> Path:
    shutil.copytree(ROOT / "envs", folder / "envs")
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_nothing_has_drifted():
    done = check(ROOT)
    assert done.returncode == 0, done.stderr


def test_drift_is_noticed(tmp_path):
    root = copy(tmp_path)
    project = root / "pyproject.toml"
    project.write_text(re.sub(r'"numpy[^"]*"', '"numpy>=99"', project.read_text()))
    assert "numpy>=99 wanted" in check(root).stderr
    project.write_text(project.read_text().replace('"numpy>=99"', '"numpy>=2", "no-such-package"'))
    assert "no-such-package wanted, nothing locked" in check(root).stderr

    shutil.copy(ROOT / "pyproject.toml", root)
    environment = root / "envs/pipeline.yaml"
    environment.write_text(environment.read_text().replace("numpy==2", "numpy==1"))
    assert "run python envs/build.py" in check(root).stderr


def test_environment_is_pinned_and_every_lock_line_has_a_hash():
    environment = yaml.safe_load((ROOT / "envs/pipeline.yaml").read_text())
    python, pip, packages = environment["dependencies"]
    assert python == "python=3.11" and pip == "pip"
    *pinned, package = packages["pip"]
    assert all(re.fullmatch(r"[a-z0-9-]+==[^ ]+", line) for line in pinned)
    assert package == "${SCOFT_SOURCE}"  # what workflow/rules/common.smk says
    lock = (ROOT / "envs/requirements.lock").read_text()
    pins = re.findall(r"^\S+==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", lock, re.MULTILINE)
    assert len(pins) == len(pinned) > 100
    assert "://" not in lock  # nobody's own registry


def test_container_installs_the_lock_on_the_same_python():
    recipe = (ROOT / "envs/Dockerfile").read_text()
    assert "FROM python:3.11-" in recipe
    assert "COPY envs/requirements.lock /tmp/requirements.lock" in recipe
    assert "pip install --no-cache-dir --require-hashes -r /tmp/requirements.lock" in recipe


def test_the_kubernetes_job_says_what_snakemake_knows():
    """Of a file that nobody could try: its flags are there, and it names one image."""
    *_, job = yaml.safe_load_all((ROOT / "envs/kubernetes.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    flags = [word.partition("=") for word in container["args"] if word.startswith("--") and word != "--"]
    values = {flag: value for flag, _, value in flags}
    assert values["--container-image"] == container["image"]
    known = get_argument_parser()._option_string_actions
    assert [flag for flag in values if flag not in known and not flag.startswith("--kubernetes-")] == []
    assert {"SCOFT_MODELS", "AWS_ENDPOINT_URL"} <= {*container["args"]} & {
        e["name"] for e in container["env"]
    }


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_types_are_checked_strictly_where_the_mathematics_and_the_contracts_are():
    mypy = project()["tool"]["mypy"]
    assert mypy["strict"] and mypy["packages"] == ["pipeline_steps"]
    ours, forgiven = set(), set()
    for part in mypy["overrides"]:
        if any(name.startswith("pipeline_steps") for name in part["module"]):
            ours |= set(part["module"])
            assert all(value is True for name, value in part.items() if name != "module"), part
        if part.get("ignore_missing_imports"):
            forgiven |= set(part["module"])
    strict = {"artifacts", "config", "method", "models.families"}
    assert ours == {f"pipeline_steps.{name}.*" for name in strict}
    assert all((ROOT / "pipeline_steps" / name.replace(".", "/")).is_dir() for name in strict)
    assert not any(name.startswith(("*", "pipeline_steps", "tests")) for name in forgiven)


def test_ci_checks_what_the_readme_and_the_commit_hooks_check():
    lines = [line.replace(" --quiet", "") for line in (ROOT / ".ci/run").read_text().splitlines()]
    (command,) = re.findall(
        r"^python -m pip install .*pytest$", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    checks = ["ruff check .", "ruff format --check .", "snakefmt --check Snakefile workflow", "mypy"]
    assert {*checks, *command.split(" && ")} <= set(lines)

    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    assert all(hook["language"] == "system" for hook in hooks[0]["hooks"])
    tools = {hook["entry"].split()[0] for hook in hooks[0]["hooks"]}
    assert tools == {check.split()[0] for check in checks}
    wanted = {Requirement(line).name for line in project()["project"]["optional-dependencies"]["test"]}
    assert tools <= wanted


def test_github_runs_the_same_script_from_the_oldest_python_on():
    (job,) = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert os.access(ROOT / ".ci/run", os.X_OK)
    oldest = project()["project"]["requires-python"].removeprefix(">=")
    assert job["strategy"]["matrix"]["python"] == [oldest, "3.12"]
