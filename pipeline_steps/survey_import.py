"""Collected answers, in whatever form they came, as one checked table."""

import csv
import json
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_steps.artifacts import ANSWERS, PAGES, REJECTED, Origin, Row
from pipeline_steps.cli import run_step
from pipeline_steps.config import SurveyConfig
from pipeline_steps.errors import UserError
from pipeline_steps.survey_page import ITEMS

LOG = logging.getLogger(__name__)

GENERIC = ("participant", "culture", "page", "item", "picture", "rank")
"""Columns of the generic long form, one row per picture."""
SHOWN = 20
"""Findings written to the log; all of them stand in the table."""


class RejectedError(Exception):
    """This answer cannot be used; the message says why."""


@dataclass(frozen=True)
class Page:
    """What an answer can refer to: the pictures of a page in the order shown, and what they are."""

    culture: str
    prompt: str
    seed: int
    check: bool
    pictures: dict[str, str]  # picture to variant


@dataclass(frozen=True)
class Answer:
    """One participant's ranking of one page by one item, as a file gave it.

    Attributes:
        file: relative to the folder of answers.
        row: line, array element or task, from 1.
        participant: pseudonym.
        culture: the one declared, or "" where the form does not say.
        years: lived there, or None where the form does not say.
        page: name of the page.
        item: one of ITEMS.
        ranks: picture to rank; empty if left blank.
        revision: of several answers by one participant to one question the highest counts.
        simulated: the participant never lived.
    """

    file: str
    row: int
    participant: str
    culture: str
    years: float | None
    page: str
    item: str
    ranks: Mapping[str, Any]
    revision: int = 0
    simulated: bool = False


Pages = dict[str, Page]
Finding = tuple[str, int, str]
"""File, row and reason."""


def survey_import(
    folder: Path, pages: list[Path], answers: Path, rejected: Path, config: SurveyConfig
) -> None:
    """Read every file of a folder, keep the good answers, and say of each other what is wrong.

    Accepted: the survey page's JSON; the generic long CSV or Parquet (participant, culture, page,
    item, picture, rank; optionally years); Mechanical Turk's CSV as the paper's authors used it;
    Label Studio's JSON with a Ranker per item; SurveyJS results with a ranking per page and item.
    Several answers to one question: equal ones count once, contradicting ones not at all, so that
    the order of rows and files changes nothing.

    Args:
        folder: the answers, also in sub-folders.
        pages: pages of every culture surveyed.
        answers: table to write.
        rejected: table to write: file, row and reason of what was left out.
        config: least years, failed checks allowed.

    Raises:
        UserError: no folder, no good answer at all, or simulated answers among real ones.
    """
    known = _known(pages)
    found, findings = _collect(folder, known)
    good = _check_each(found, known, config, findings)
    good = _settle_repeats(good, findings)
    good = _check_attention(good, known, config.failed_checks, findings)
    _say(findings)
    if not good:
        raise UserError(
            f"{folder}: no usable answer ({len(findings)} left out); put the collected files there"
            + (f"; the first fault: {_line(findings[0])}" if findings else "")
        )
    if len({answer.simulated for answer in good}) > 1:
        made_up = next(answer.file for answer in good if answer.simulated)
        raise UserError(f"{folder}: simulated answers ({made_up}) lie among real ones; move them out")

    note = {"simulated": good[0].simulated, "rejected": len(findings)}
    REJECTED.write(rejected, _counted(findings), extra=note)
    rows = [_row(answer, known[answer.page]) for answer in good]
    rows.sort(key=lambda row: tuple(row[name] for name in ANSWERS.key))
    cultures = ",".join(sorted({row["culture"] for row in rows}))
    ANSWERS.write(answers, rows, Origin(cultures, "answers"), note)


def _collect(folder: Path, known: Pages) -> tuple[list[Answer], list[Finding]]:
    """Read every file, those of hidden names excepted."""
    found: list[Answer] = []
    findings: list[Finding] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."):
        name = str(path.relative_to(folder))
        try:
            for row, answer in _read(path, name, known):
                if isinstance(answer, Answer):
                    found.append(answer)
                else:
                    findings.append((name, row, answer))
        except RejectedError as error:
            findings.append((name, 0, str(error)))
    return found, findings


def _counted(findings: list[Finding]) -> list[Row]:
    """One row for each different finding, in order, with how often it came."""
    return [
        {"file": file, "row": row, "reason": reason + (f" (×{count})" if count > 1 else "")}
        for (file, row, reason), count in sorted(Counter(findings).items())
    ]


def _row(answer: Answer, page: Page) -> Row:
    ranks = [answer.ranks[picture] for picture in page.pictures] if answer.ranks else None
    return {
        "culture": page.culture,
        "participant": answer.participant,
        "page": answer.page,
        "item": answer.item,
        "prompt": page.prompt,
        "variants": list(page.pictures.values()),
        "ranks": ranks,
        "file": answer.file,
    }


def _known(paths: list[Path]) -> Pages:
    """Read all pages."""
    known: Pages = {}
    for path in paths:
        culture = str(PAGES.note(path)["culture"])
        for row in PAGES.rows(path, ["picture", "variant", "prompt", "seed", "check"]):
            page = known.setdefault(row["page"], Page(culture, row["prompt"], row["seed"], row["check"], {}))
            page.pictures[row["picture"]] = row["variant"]
    return known


def _line(finding: Finding) -> str:
    file, row, reason = finding
    return f"{file}, row {row}: {reason}" if row else f"{file}: {reason}"


def _say(findings: list[Finding]) -> None:
    for finding in findings[:SHOWN]:
        LOG.warning("left out: %s", _line(finding))
    if len(findings) > SHOWN:
        LOG.warning("left out: %d more, see the table of rejected answers", len(findings) - SHOWN)


# --- forms ------------------------------------------------------------------------------------

Entries = Iterator[tuple[int, Answer | str]]
"""Row with its answer, or with the reason why it is none."""


def _read(path: Path, name: str, known: Pages) -> Entries:
    """Recognise a file's form by its ending and contents, and read it.

    Raises:
        RejectedError: the file as a whole cannot be read.
    """
    try:
        if path.suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                table = csv.DictReader(file)
                rows, columns = enumerate(table, 2), list(table.fieldnames or ())
                if "WorkerId" in columns:
                    yield from _mechanical_turk(rows, columns, name, known)
                else:
                    yield from _generic(rows, columns, name)
        elif path.suffix == ".parquet":
            yield from _parquet(path, name)
        elif path.suffix == ".json":
            content = json.loads(path.read_text(encoding="utf-8-sig"))
            if isinstance(content, dict) and content.get("format") == "scoft-survey":
                yield from _survey_page(content, name)
            elif isinstance(content, list) and any(
                isinstance(t, dict) and "annotations" in t for t in content
            ):
                yield from _label_studio(content, name)
            else:
                yield from _survey_js(content if isinstance(content, list) else [content], name)
        else:
            raise RejectedError(f"unknown kind of file '{path.suffix}'; .json, .csv and .parquet are read")
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError, RecursionError) as error:
        raise RejectedError(f"cannot be read ({str(error).splitlines()[0]})") from error


def _parquet(path: Path, name: str) -> Entries:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            note = json.loads((file.schema_arrow.metadata or {}).get(b"scoft", b"{}"))
            rows = (row for batch in file.iter_batches() for row in batch.to_pylist())
            simulated = bool(note.get("simulated"))
            yield from _generic(enumerate(rows, 1), file.schema_arrow.names, name, simulated)
    except pa.ArrowException as error:
        raise RejectedError(f"cannot be read ({str(error).splitlines()[0]})") from error


def _generic(
    rows: Iterator[tuple[int, dict[str, Any]]],
    columns: list[str],
    name: str,
    simulated: bool = False,
) -> Entries:
    """One row per picture: rows of one participant, page and item belong together."""
    missing = sorted(set(GENERIC) - set(columns))
    if missing:
        raise RejectedError(f"no column {', '.join(map(repr, missing))}; needed are {', '.join(GENERIC)}")
    groups: dict[tuple[str, ...], list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for number, row in rows:
        try:
            if None in row or None in (row[column] for column in GENERIC[:-1]):
                raise RejectedError("the number of fields differs from the header's")
            key = tuple(_text(row[column], column) for column in GENERIC[:4])
            _text(row["picture"], "picture")
            groups[key].append((number, row))
        except RejectedError as error:
            yield number, str(error)
    for (participant, culture, page, item), group in groups.items():
        number = group[0][0]
        try:
            # The second time a picture comes begins a second answer.
            answers: list[dict[str, Any]] = []
            for _, row in group:
                place = next((a for a in answers if row["picture"] not in a), None)
                if place is None:
                    answers.append(place := {})
                place[row["picture"]] = _rank(row["rank"])
            years = _years(group[0][1].get("years"))
        except RejectedError as error:
            yield number, str(error)
            continue
        for ranks in answers:
            given = {} if all(rank is None for rank in ranks.values()) else ranks
            yield (
                number,
                Answer(name, number, participant, culture, years, page, item, given, simulated=simulated),
            )


def _survey_page(content: dict[str, Any], name: str) -> Entries:
    """The file the survey page saves."""
    if content.get("version") != 1 or not isinstance(content.get("answers"), list):
        raise RejectedError("not a file of this survey's version 1")
    simulated, exported = bool(content.get("simulated")), content.get("exported")
    revision = exported if isinstance(exported, int) else 0
    for number, entry in enumerate(content["answers"], 1):
        try:
            who = (_text(content.get("participant"), "participant"), _text(content.get("culture"), "culture"))
            years = _years(content.get("years"))
            page, item = (_text(entry[key], key) for key in ("page", "item"))
            ranks = {picture: _rank(rank) for picture, rank in (entry["ranks"] or {}).items()}
        except RejectedError as error:
            yield number, str(error)
            continue
        except (KeyError, TypeError, AttributeError):
            yield number, "needs page, item and ranks"
            continue
        yield number, Answer(name, number, *who, years, page, item, ranks, revision, simulated)


def _mechanical_turk(
    rows: Iterator[tuple[int, dict[str, Any]]], columns: list[str], name: str, known: Pages
) -> Entries:
    """Mechanical Turk's results in the authors' form: a row per page, the answers as JSON in one cell."""
    needed = ["WorkerId", "HITId", "Input.prompt", "Input.seed", "Answer.taskAnswers"]
    missing = sorted(set(needed) - set(columns))
    if missing:
        raise RejectedError(f"no column {', '.join(map(repr, missing))}")
    images = sorted((c for c in columns if re.fullmatch(r"Input\.img\d+", c)), key=lambda c: int(c[9:]))
    for number, row in rows:
        try:
            participant = _text(row["WorkerId"], "WorkerId")
            shown = [row[column] or "" for column in images]
            page = _turk_page(shown, row["Input.prompt"], row["Input.seed"], known)
            pictures = [_turk_picture(image, known[page]) for image in shown]
            given = json.loads(row["Answer.taskAnswers"] or "")
            given = given[0] if isinstance(given, list) and given else given
            if not isinstance(given, dict):
                raise RejectedError("Answer.taskAnswers holds no answers")
        except json.JSONDecodeError:
            yield number, "Answer.taskAnswers is no JSON"
            continue
        except RejectedError as error:
            yield number, str(error)
            continue
        first = 0 if any(str(key).startswith("promptrow0-") for key in given) else 1
        for place, item in enumerate(ITEMS, first):
            try:
                ranks = {
                    picture: _choice(given.get(f"promptrow{place}-img{image}-rating"))
                    for image, picture in enumerate(pictures, 1)
                }
            except RejectedError as error:
                yield number, f"{item}: {error}"
                continue
            blank = all(rank is None for rank in ranks.values())
            yield number, Answer(name, number, participant, "", None, page, item, {} if blank else ranks)


def _turk_page(images: list[str], prompt: str | None, seed: str | None, known: Pages) -> str:
    """Find the page by its pictures' names, or by prompt and seed."""
    stems = {Path(image).stem for image in images}
    for name, page in known.items():
        if stems == set(page.pictures):
            return name
    for name, page in known.items():
        if (
            page.prompt == (prompt or "").strip()
            and str(page.seed) == (seed or "").strip()
            and not page.check
        ):
            return name
    raise RejectedError(f"unknown page (prompt {prompt!r}, seed {seed!r})")


def _turk_picture(image: str, page: Page) -> str:
    """Find the picture by its name, or by the variant's name at the beginning, as the authors named files."""
    stem = Path(image).stem
    if stem in page.pictures:
        return stem
    fits = [(len(v), picture) for picture, v in page.pictures.items() if stem.startswith(f"{v}_")]
    if not fits:
        raise RejectedError(f"unknown picture {image!r}")
    return max(fits)[1]


def _choice(value: Any) -> int | None:
    """A rating as text, number, or radio buttons ({"1": false, "2": true})."""
    if isinstance(value, dict):
        chosen = [key for key, on in value.items() if on is True]
        if len(chosen) > 1:
            raise RejectedError(f"several ranks for one picture: {', '.join(sorted(chosen))}")
        value = chosen[0] if chosen else None
    return _rank(value)


def _label_studio(tasks: list[Any], name: str) -> Entries:
    """Label Studio's JSON: a task per page (data.page), a Ranker named after each item."""
    for number, task in enumerate(tasks, 1):
        try:
            page = _text(task["data"]["page"], "data.page")
            annotations = list(task["annotations"])
        except (KeyError, TypeError):
            yield number, "needs data.page and annotations"
            continue
        except RejectedError as error:
            yield number, str(error)
            continue
        for annotation in annotations:
            try:
                if annotation.get("was_cancelled"):
                    continue
                by = annotation["completed_by"]
                participant = _text(by["id"] if isinstance(by, dict) else by, "completed_by")
                culture = str(task["data"].get("culture") or "")
                results = {
                    r["from_name"]: r["value"]["ranker"]
                    for r in annotation["result"]
                    if r["type"] == "ranker"
                }
                for item in sorted({*ITEMS, *results}):
                    ranks = _by_order(_ranked(results.get(item, [])))
                    yield number, Answer(name, number, participant, culture, None, page, item, ranks)
            except (KeyError, TypeError, AttributeError) as error:
                yield number, f"not a Label Studio ranking ({error!r})"
            except RejectedError as error:
                yield number, str(error)


def _ranked(value: Any) -> list[Any]:
    """A Ranker's list; older and newer versions wrap it in a dictionary with one list, the best first."""
    if isinstance(value, dict):
        filled = [part for part in value.values() if part]
        if len(filled) > 1:
            raise RejectedError("a ranking in several buckets; use a Ranker without buckets")
        value = filled[0] if filled else []
    if not isinstance(value, list):
        raise RejectedError(f"a ranking is a list, not {value!r}")
    return value


def _survey_js(responses: list[Any], name: str) -> Entries:
    """SurveyJS results: participant, culture and, per page and item, a ranking "page/item", best first."""
    for number, response in enumerate(responses, 1):
        if not isinstance(response, dict) or not any("/" in str(key) for key in response):
            yield number, "no known form: needs questions named 'page/item'"
            continue
        try:
            participant = _text(response.get("participant"), "participant")
            culture, years = str(response.get("culture") or ""), _years(response.get("years"))
        except RejectedError as error:
            yield number, str(error)
            continue
        for question, value in response.items():
            page, slash, item = question.rpartition("/")
            if not slash:
                continue
            try:
                ranks = _by_order(_ranked(value or []))
                yield number, Answer(name, number, participant, culture, years, page, item, ranks)
            except RejectedError as error:
                yield number, f"{question}: {error}"


def _by_order(pictures: list[Any]) -> dict[str, int]:
    if len({str(picture) for picture in pictures}) < len(pictures):
        raise RejectedError("no permutation: a picture stands in the list twice")
    return {str(picture): rank for rank, picture in enumerate(pictures, 1)}


def _text(value: Any, what: str) -> str:
    text = "" if value is None else str(value).strip()
    if not text or len(text) > 200:
        raise RejectedError(f"{what} is {'missing' if not text else 'longer than 200 letters'}")
    return text


def _rank(value: Any) -> int | None:
    """A rank, or None for a blank."""
    if value is None or (isinstance(value, str) and not value.strip()) or value != value:
        return None
    try:
        number = float(value)
        if isinstance(value, bool) or number != int(number):
            raise ValueError
        return int(number)
    except (TypeError, ValueError, OverflowError):
        raise RejectedError(f"{value!r} is no rank") from None


def _years(value: Any) -> float | None:
    if value is None or value == "" or value != value:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise RejectedError(f"years {value!r} is no number") from None


# --- checks -----------------------------------------------------------------------------------


def _check_each(
    found: list[Answer], known: Pages, config: SurveyConfig, findings: list[Finding]
) -> list[Answer]:
    """Keep the answers that are good by themselves."""
    good = []
    for answer in found:
        fault = _fault(answer, known, config.min_years)
        if fault:
            findings.append((answer.file, answer.row, fault))
        else:
            good.append(answer)
    return good


def _fault(answer: Answer, known: Pages, min_years: float) -> str:
    """Say what is wrong with an answer, or ""."""
    page = known.get(answer.page)
    if page is None:
        return f"unknown page '{answer.page}'; are the pages those that were shown?"
    if answer.culture and answer.culture != page.culture:
        return f"wrong culture: '{answer.culture}' answered a page of '{page.culture}'"
    if answer.item not in ITEMS:
        return f"unknown item '{answer.item}'; items are {', '.join(ITEMS)}"
    if answer.years is not None and answer.years < min_years:
        return (
            f"participant '{answer.participant}' lived there {answer.years:g} years, fewer than {min_years:g}"
        )
    unknown = sorted(answer.ranks.keys() - page.pictures.keys())
    if unknown:
        return f"unknown picture '{unknown[0]}' on page '{answer.page}'"
    ranks = [answer.ranks.get(picture) for picture in page.pictures]
    if answer.ranks and sorted(rank or 0 for rank in ranks) != list(range(1, len(ranks) + 1)):
        given = ", ".join("–" if rank is None else str(rank) for rank in ranks)
        return f"no permutation: {answer.item} of page '{answer.page}' is ranked {given}"
    return ""


def _settle_repeats(good: list[Answer], findings: list[Finding]) -> list[Answer]:
    """Keep one answer to each question: the last revision, unless its copies contradict one another."""
    # Not by declared culture: a page has one culture, and not every form names it.
    groups: dict[tuple[str, str, str], list[Answer]] = defaultdict(list)
    for answer in good:
        groups[answer.participant, answer.page, answer.item].append(answer)
    kept = []
    for answers in groups.values():
        last = max(answer.revision for answer in answers)
        newest = [answer for answer in answers if answer.revision == last]
        filled = [answer for answer in newest if answer.ranks] or newest
        filled.sort(key=lambda answer: (answer.file, answer.row))
        if any(answer.ranks != filled[0].ranks for answer in filled):
            findings += [
                (
                    a.file,
                    a.row,
                    f"double answer: {a.item} of page '{a.page}' by '{a.participant}', contradicting",
                )
                for a in filled
            ]
            filled = []
        kept += filled[:1]
        for answer in answers:
            if not any(answer is other for other in filled[:1]) and (filled or answer not in newest):
                why = "the same again" if answer.revision == last else "replaced by a later one"
                text = (
                    f"double answer: {answer.item} of page '{answer.page}' by '{answer.participant}', {why}"
                )
                findings.append((answer.file, answer.row, text))
    return kept


def _check_attention(good: list[Answer], known: Pages, allowed: int, findings: list[Finding]) -> list[Answer]:
    """Leave out check pages, and everything by those who failed too many of them."""

    def who(answer: Answer) -> tuple[str, str]:
        return known[answer.page].culture, answer.participant

    failed: dict[tuple[str, str], set[str]] = defaultdict(set)
    for answer in good:
        expected = {picture: rank for rank, picture in enumerate(known[answer.page].pictures, 1)}
        if known[answer.page].check and answer.ranks != expected:
            failed[who(answer)].add(answer.page)
    kept = []
    for answer in good:
        if len(failed[who(answer)]) > allowed:
            text = f"participant '{answer.participant}' failed {len(failed[who(answer)])} attention checks"
            findings.append((answer.file, answer.row, text))
        elif not known[answer.page].check:
            kept.append(answer)
    return kept


if __name__ == "__main__":
    run_step(survey_import)
