"""The curator's address: a secret that can be renewed."""

import hmac
import os
from dataclasses import dataclass
from pathlib import Path

from pipeline_steps.web.sessions import new_token


@dataclass
class Secret:
    """A secret in a file that nobody else may read.

    Attributes:
        path: of the file; it is made where it is missing.
    """

    path: Path

    def __post_init__(self) -> None:
        if not self.path.exists():
            self.renew()

    @property
    def value(self) -> str:
        """The secret."""
        return self.path.read_text(encoding="utf-8").strip()

    def renew(self) -> None:
        """Draw a new one; the old one opens nothing any more."""
        part = self.path.with_name(f".{self.path.name}.part")
        part.unlink(missing_ok=True)
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
            file.write(f"{new_token()}\n")
        part.replace(self.path)

    def is_it(self, given: str) -> bool:
        """Compare what somebody gave."""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.value.encode())
