r"""Writes envs/pipeline.yaml, the environment of ``--sdm conda``, from the one source of truth.

pyproject.toml says what works together, envs/requirements.lock which versions were resolved from it:

    uv pip compile --generate-hashes --no-annotate --extra survey --python-version 3.11 \
        --python-platform x86_64-manylinux_2_28 pyproject.toml -o envs/requirements.lock
    python envs/build.py

With ``--check`` nothing is written, and a difference ends with exit code 1.
"""

import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ENVS = Path(__file__).parent
PYTHON = "3.11"


def wanted() -> list[Requirement]:
    """Return what pyproject asks for: to run the workflow and to serve the survey."""
    project = tomllib.loads((ENVS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [
        Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["survey"]
    ]


def locked() -> dict[str, str]:
    """Return the version of each locked package."""
    text = (ENVS / "requirements.lock").read_text(encoding="utf-8")
    pins = re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pins}


def faults() -> list[str]:
    """Return where the lock does not keep to pyproject."""
    versions = locked()
    found = ((wish, versions.get(canonicalize_name(wish.name))) for wish in wanted())
    return [
        f"envs/requirements.lock: {wish} wanted, {version or 'nothing'} locked; resolve it anew"
        for wish, version in found
        if version is None or not wish.specifier.contains(version)
    ]


def environment() -> str:
    """Return the conda environment as YAML."""
    pins = "".join(f"      - {name}=={version}\n" for name, version in sorted(locked().items()))
    return (
        "# Written by envs/build.py from pyproject.toml and envs/requirements.lock; do not edit.\n"
        "channels:\n  - conda-forge\n  - nodefaults\n"
        f"dependencies:\n  - python={PYTHON}\n  - pip\n  - pip:\n{pins}"
        # The workflow says what it was itself installed from.
        "      - ${SCOFT_SOURCE}\n"
    )


def main() -> None:
    """Write or check the environment."""
    found, target = faults(), ENVS / "pipeline.yaml"
    if "--check" not in sys.argv:
        target.write_text(environment(), encoding="utf-8")
    elif target.read_text(encoding="utf-8") != environment():
        found.append("envs/pipeline.yaml: is not what envs/build.py writes; run python envs/build.py")
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
