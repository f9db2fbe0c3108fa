"""What the curator sees of the whole: who gave how much, the balance, and which pictures look alike."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline_steps.data.checks import duplicate
from pipeline_steps.data.collection.captions import Captions
from pipeline_steps.data.collection.store import Contributor
from pipeline_steps.data.collection.wording import ERAS
from pipeline_steps.data.duplicates import SIDE, same_looking
from pipeline_steps.data.findings import MEND, NOTE, Finding

PICTURES = (150, 200)
"""Of a culture (paper §3)."""
EACH = (20, 30)
"""Of one person."""
PEOPLE = 5
"""Contributors at least, ..."""
YEARS = 5
"""... who lived so many years in the culture."""

Picture = Mapping[str, Any]


@dataclass
class Person:
    """What somebody gave: how many pictures in which state."""

    person: Contributor
    states: Counter[str] = field(default_factory=Counter)

    @property
    def given(self) -> int:
        """Pictures that were not declined."""
        return self.states.total() - self.states["declined"]


@dataclass(frozen=True)
class Filter:
    """Which pictures are asked for; an empty text stands for all."""

    state: str = ""
    contributor: str = ""
    category: str = ""
    era: str = ""
    odd: str = ""

    def takes(self, picture: Picture, findings: Sequence[Finding]) -> bool:
        """Whether a picture is asked for."""
        wanted = {name: value for name, value in vars(self).items() if value and name != "odd"}
        fits = all(picture[name] == value for name, value in wanted.items())
        return fits and (not self.odd or bool(findings))


def people(everybody: Iterable[Contributor], pictures: Iterable[Picture]) -> list[Person]:
    """Return who gave how much, in the order of the invitations."""
    found = {one.contributor: Person(one) for one in everybody}
    for picture in pictures:
        found[picture["contributor"]].states[picture["state"]] += 1
    return list(found.values())


def balance(pictures: Iterable[Picture], categories: Iterable[str]) -> dict[str, list[int]]:
    """Count the pictures of every category by era: given and not declined, and accepted, in turns."""
    counts: Counter[tuple[str, str, bool]] = Counter()
    for picture in pictures:
        if picture["state"] != "declined":
            counts[picture["category"], picture["era"], picture["state"] == "accepted"] += 1
    return {
        category: [
            number
            for era in ERAS
            for number in (
                counts[category, era, True] + counts[category, era, False],
                counts[category, era, True],
            )
        ]
        for category in categories
    }


def missing(found: Sequence[Person], table: Mapping[str, Sequence[int]]) -> list[tuple[str, dict[str, Any]]]:
    """Return what there is too little of, held against the paper: which sentence, and what fills it in."""
    lines: list[tuple[str, dict[str, Any]]] = []
    accepted = sum(person.states["accepted"] for person in found)
    if accepted < PICTURES[0]:
        lines.append(("accepted", {"count": accepted, "least": PICTURES[0], "most": PICTURES[1]}))
    rooted = [one for one in found if one.given and (one.person.years or 0) >= YEARS]
    if len(rooted) < PEOPLE:
        lines.append(("people", {"count": len(rooted), "years": YEARS, "least": PEOPLE}))
    lines += [
        ("much_of_one", {"contributor": one.person.contributor, "count": one.given, "most": EACH[1]})
        for one in found
        if one.given > EACH[1]
    ]
    few = [name for name, counts in table.items() if sum(counts[1::2]) < PICTURES[0] / len(table) / 2]
    if few and len(few) < len(table):
        lines.append(("categories", {"categories": ", ".join(few)}))
    return lines


def findings(
    pictures: Sequence[Picture], captions: Captions, difference: float
) -> tuple[dict[str, list[Finding]], list[list[Picture]]]:
    """Say what is odd about each picture, and put those that look alike beside each other.

    Args:
        pictures: all that are described.
        captions: what captions are held against.
        difference: up to which pictures may look the same; see :func:`same_looking`.

    Returns:
        Findings by picture, and the pictures in groups: of one, or of those that look alike.
    """
    standing = sorted(
        (picture for picture in pictures if picture["state"] != "declined"),
        key=lambda picture: (picture["given"], picture["picture"]),
    )
    smalls = [np.frombuffer(one["small"], np.uint8).reshape(SIDE, SIDE, 3) for one in standing]
    alike = same_looking([one["name"] for one in standing], smalls, difference)
    found = {one["picture"]: list(_of(one, captions)) for one in pictures}
    groups: dict[Any, list[Picture]] = defaultdict(list)
    leader = {standing[i]["picture"]: standing[first]["picture"] for i, first in alike.items()}
    for i, first in alike.items():
        one, twin = standing[i], standing[first]
        same = "is the same picture as" if one["name"] == twin["name"] else "looks the same as"
        for this, other in ((one, twin), (twin, one)):
            found[this["picture"]].append(duplicate(this["name"], f"{other['contributor']}'s", same))
    for picture in pictures:
        groups[leader.get(picture["picture"], picture["picture"])].append(picture)
    return found, list(groups.values())


def _of(picture: Picture, captions: Captions) -> Iterable[Finding]:
    for severity, kind, line in picture["findings"]:
        yield Finding(severity, kind, picture["name"], line)
    yield from captions.findings(picture["name"], picture["caption"])
    if picture["people"] == "not asked":
        yield Finding(
            MEND, "people", picture["name"], "people can be recognised and were not asked; may it be here?"
        )
    if picture["origin"] == "other" and not picture["licence"]:
        yield Finding(NOTE, "ownership", picture["name"], "somebody else's picture, without a licence")
