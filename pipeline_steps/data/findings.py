"""What was odd about what somebody handed in."""

from dataclasses import dataclass

from pipeline_steps.inputs.text import clean_text

LEFT_OUT, MEND, NOTE = 0, 1, 2
"""Severities of a finding: not in the data set; in it but to be mended; worth knowing."""


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is odd: how bad, of what kind, in which file, and a line on mending it."""

    severity: int
    kind: str
    file: str
    line: str

    def __post_init__(self) -> None:
        # It may quote what cannot be stored: JSON can spell half a character.
        object.__setattr__(self, "line", clean_text(self.line))
