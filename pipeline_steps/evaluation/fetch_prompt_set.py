"""A set of prompts from a data set on the Hugging Face hub."""

import shutil
import tempfile
from pathlib import Path

from pipeline_steps.artifacts import appears_whole
from pipeline_steps.cli import run_step
from pipeline_steps.config import HUB_FILE
from pipeline_steps.errors import UserError
from pipeline_steps.inputs.text import clean_text


def fetch_prompt_set(source: str, file: Path) -> None:
    """Fetch one file of a data set as it is.

    Args:
        source: "hub:owner/name/file", or "hub:owner/name@revision/file" for a branch, tag or commit.
        file: to write.

    Raises:
        UserError: no such data set, revision or file, no right to read it, or no connection.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError, HTTPError

    found = HUB_FILE.fullmatch(source)
    if not found:
        raise UserError(f"{source}: is written hub:owner/name/file or hub:owner/name@revision/file")
    name, revision, inside = found.groups()
    with tempfile.TemporaryDirectory() as folder, appears_whole(file) as part:
        try:
            path = hf_hub_download(name, inside, repo_type="dataset", revision=revision, local_dir=folder)
        except (HFValidationError, HTTPError, OSError) as error:
            reason = clean_text(str(error))[:200]
            raise UserError(
                f"{source}: cannot be fetched from the hub ({reason}); check its name, its revision, your "
                "connection, and for a closed one your token (hf auth login)"
            ) from error
        shutil.copyfile(path, part)


if __name__ == "__main__":
    run_step(fetch_prompt_set, network=True)
