"""What a caption still needs, said while it is written: the pipeline's own findings."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline_steps.cli import LOG
from pipeline_steps.config import BaseRef
from pipeline_steps.data.checks import nameless, too_long
from pipeline_steps.data.findings import Finding
from pipeline_steps.errors import UserError


@dataclass(frozen=True)
class Captions:
    """What a culture's captions are held against.

    Attributes:
        called: what a caption may call the culture.
        suffix: of the culture's prompts.
        limit: tokens that are read; 0: not known before the models are fetched.
        count: tokens of a caption.
    """

    called: tuple[str, ...]
    suffix: str = ""
    limit: int = 0
    count: Callable[[str], int] = len

    def hints(self, caption: str) -> dict[str, Any]:
        """Return the number of tokens, how many are read, and whether thing and culture are named."""
        words = _words(caption) - _words(self.suffix)
        others = [word for word in words if len(word) > 1 and not any(name in word for name in self.called)]
        return {
            "tokens": self.count(caption) if self.limit else None,
            "limit": self.limit,
            "names_culture": nameless("", caption, self.called) is None,
            "names_thing": bool(others),
        }

    def findings(self, picture: str, caption: str) -> list[Finding]:
        """Return what the data report would say of a caption."""
        found = [nameless(picture, caption, self.called)]
        if self.limit:
            found.append(too_long(picture, self.count(caption), self.limit))
        return [finding for finding in found if finding]


def captions_for(base: BaseRef, called: tuple[str, ...], suffix: str) -> Captions:
    """Return how captions are read by the model that is to be mended.

    Args:
        base: the model; where it has not been fetched yet, tokens are not counted.
        called: what a caption may call the culture.
        suffix: of the culture's prompts.
    """
    from pipeline_steps.models.families import family_of

    try:
        tokenizer = family_of(base).tokenizer()
    except UserError as error:
        LOG.warning("the captions' lengths are not counted: %s", error)
        return Captions(called, suffix)
    limit = int(tokenizer.model_max_length)
    return Captions(called, suffix, limit, lambda text: len(tokenizer(text, verbose=False).input_ids))


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))
