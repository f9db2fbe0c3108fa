"""A folder of one's own to work in: settings, data, profiles, a Snakefile that includes the workflow."""

import shlex
from pathlib import Path

from pipeline_steps import artifacts
from pipeline_steps.cli import LOG, run_step
from pipeline_steps.errors import UserError
from pipeline_steps.home import HOME

SNAKEFILE = """\
# SCoFT over the pictures of this folder; its settings stand in config/config.yaml.
from pipeline_steps.home import HOME


include: HOME / "workflow/Snakefile"


# What is made where no target is named. Rules of your own go below it.
rule default:
    default_target: True
    input:
        rules.all.input,
"""
GITIGNORE = """\
.snakemake/
/results*/
/models
# What people entrusted
/data/
/answers/
/codes.txt
/codes.html
/*.zip
*.sqlite*
"""


def new_project(folder: Path) -> None:
    """Write a folder to work in; the workflow itself stays where it is installed.

    Args:
        folder: new, or without what is written into it.

    Raises:
        UserError: one of its files is there already; nothing is written.
    """
    files = {"Snakefile": SNAKEFILE, ".gitignore": GITIGNORE}
    copies = {"config/config.yaml": "config/config.yaml"} | {
        f"profiles/{name}/config.yaml": f"workflow/profiles/{name}/config.yaml"
        for name in ("default", "slurm")
    }
    files |= {file: (HOME / origin).read_text(encoding="utf-8") for file, origin in copies.items()}
    for file in files:
        if (folder / file).exists():
            raise UserError(f"{folder / file}: is there already; name another folder")
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        artifacts.write_text(folder / file, text)
    there = shlex.quote(str(folder))
    LOG.info("wrote %s; now: cd %s && python -m pipeline_steps.new_culture --help", folder, there)


if __name__ == "__main__":
    run_step(new_project)
