"""What text encoders will not read."""

import logging
from typing import Any

LOG = logging.getLogger(__name__)


def warn_if_long(tokenizer: Any, prompt: str) -> None:
    """Say that a text encoder will not read a prompt to its end."""
    count, limit = len(tokenizer(prompt).input_ids), tokenizer.model_max_length
    if count > limit:
        LOG.warning("'%s…' has %d tokens: only the first %d are read", prompt[:60], count, limit)
