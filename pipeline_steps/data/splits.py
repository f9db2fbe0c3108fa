"""Which pictures are trained on and which are scored against, as folders and files say it."""

import re
from pathlib import PurePosixPath

SPLITS = {"train": "train", "training": "train"} | dict.fromkeys(
    ("test", "testing", "validation", "valid", "val", "dev", "eval"), "test"
)
"""What a split may be called, and which of ours it is."""
TABLES = (".parquet", ".arrow")


def split_of(path: PurePosixPath) -> str | None:
    """Return the split that a path says, or None.

    The nearest folder that is called like a split decides. Of a table a word of its own name comes first
    (``train-00000-of-00002.parquet``); of a picture it says nothing: ``train.jpg`` may show a train.

    Args:
        path: of a picture or a table, relative to the culture's folder.
    """
    words = re.split(r"[-_. ]", path.stem.lower()) if path.suffix.lower() in TABLES else []
    names = [*words, *(part.lower() for part in reversed(path.parts[:-1]))]
    return next((SPLITS[name] for name in names if name in SPLITS), None)
