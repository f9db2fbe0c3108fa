"""Where the package keeps its workflow, presets, prompts, wordings, templates and embedded models."""

import json
from importlib.metadata import distribution
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
HOME = next(
    folder for folder in (_PACKAGE / "_shipped", _PACKAGE.parent) if (folder / "workflow/Snakefile").is_file()
)
"""The folder that holds workflow/, config/, resources/ and envs/: inside an installed package, or the
repository that the package is run from."""
SHIPPED = ("config/presets", "envs", "resources", "workflow")
"""What is looked up there."""


def find(path: Path | str) -> Path:
    """Return where a file or folder lies that a setting, a rule or a step's default names.

    A relative path is the user's, in the working directory. One that is not there, and that begins as
    what the package brings, is the package's own.
    """
    path = Path(path)
    if any(path.is_relative_to(folder) for folder in SHIPPED) and not _is_there(path):
        return HOME / path if _is_there(HOME / path) else path
    return path


def other_copy() -> Path | None:
    """Return the working directory's own copy of the package where it says something else than this one.

    ``python -m`` runs that copy's steps, while Snakemake plans with the one that is installed: so it is
    where a clone was updated and not installed again.
    """
    here = Path.cwd() / _PACKAGE.name
    if not (here / "__init__.py").is_file() or here.resolve() == _PACKAGE:
        return None
    own = {path.relative_to(_PACKAGE): path.read_bytes() for path in _PACKAGE.rglob("*.py")}
    there = {path.relative_to(here): path.read_bytes() for path in here.rglob("*.py")}
    return here if any(own.get(name) != code for name, code in there.items()) else None


def source() -> str:
    """Return what pip installs this very package from: the repository, or what it was installed from."""
    if _PACKAGE.parent == HOME:
        return str(HOME)
    package = distribution("scoft-pipeline")
    origin = json.loads(package.read_text("direct_url.json") or "{}")
    if commit := origin.get("vcs_info"):
        return f"{commit['vcs']}+{origin['url']}@{commit['commit_id']}"
    return origin.get("url", f"scoft-pipeline=={package.version}")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long a name, or not ours to look at
        return False
