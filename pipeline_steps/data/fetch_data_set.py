"""Pictures from a data set on the Hugging Face hub."""

import shutil
from pathlib import Path

from pipeline_steps.cli import LOG, run_step
from pipeline_steps.config import HUB
from pipeline_steps.errors import UserError
from pipeline_steps.inputs.text import clean_text

UNREAD = ["*.py", "*.zip", "*.tar", "*.tar.gz", "*.tgz", "*.7z"]
"""Programs are never run and archives never unpacked, so they are not fetched either."""


def fetch_data_set(data_set: str, folder: Path) -> None:
    """Fetch a data set's files as they are; ``ingest`` then reads the folder like any other.

    Args:
        data_set: "hub:owner/name", or "hub:owner/name@revision" for a branch, tag or commit.
        folder: where the files shall lie; it must not be there yet.

    Raises:
        UserError: no such data set or revision, no right to read it, or no connection.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError

    name, _, revision = data_set.removeprefix(HUB).partition("@")
    try:
        snapshot_download(
            name, repo_type="dataset", revision=revision or None, local_dir=folder, ignore_patterns=UNREAD
        )
    except (HFValidationError, HTTPError, OSError) as error:
        reason = clean_text(str(error))[:200]
        raise UserError(
            f"{data_set}: cannot be fetched from the hub ({reason}); check its name, its revision, your "
            "connection, and for a closed one your token (hf auth login)"
        ) from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    LOG.info("%s: %d files", data_set, sum(path.is_file() for path in folder.rglob("*")))


if __name__ == "__main__":
    run_step(fetch_data_set, network=True)
