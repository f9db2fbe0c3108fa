"""The environments keep to pyproject, the one source of truth."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

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
