"""Collected answers, in whatever form they came, as one checked table."""

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from pipeline_steps.artifacts import ANSWERS, REJECTED, Origin, Row
from pipeline_steps.cli import run_step
from pipeline_steps.config import SurveyConfig
from pipeline_steps.errors import UserError
from pipeline_steps.inputs.text import clean_text, read_lines, shown
from pipeline_steps.inputs.values import RejectedError
from pipeline_steps.survey.answer_files import read_answers
from pipeline_steps.survey.answers import Answer, Page, Pages
from pipeline_steps.survey.codes import LEAST, most_together, read_codes
from pipeline_steps.survey.rounds import asked_in, earlier_rounds, pages_in
from pipeline_steps.survey.shown import ITEMS

LOG = logging.getLogger(__name__)
SHOWN = 20
"""Findings written to the log; all of them stand in the table."""
Finding = tuple[str, int, str]
"""File, row and reason."""


def survey_import(
    folder: Path,
    pages: list[Path],
    answers: Path,
    rejected: Path,
    config: SurveyConfig,
    codes: Path | None = None,
    survey: Path | None = None,
) -> None:
    """Read every file of a folder, keep the good answers, and say of each other what is wrong.

    Accepted: the survey page's JSON; the generic long CSV, Excel or Parquet (participant, culture,
    page, item, picture, rank; optionally years); Mechanical Turk's CSV as the paper's authors used it;
    Label Studio's JSON, JSON-MIN or CSV with a Ranker per item; SurveyJS results with a ranking per
    page and item.
    Several answers to one question: equal ones count once, contradicting ones not at all, so that
    the order of rows and files changes nothing. A later file of the survey page replaces an earlier one only
    where both carry the same key, which the device keeps that saved them: by its date alone anybody could
    replace anybody's.

    Args:
        folder: the answers, also in sub-folders.
        pages: of every culture surveyed: the present ones, or those of an earlier round.
        answers: table to write.
        rejected: table to write: file, row and reason of what was left out, in full and without codes.
        config: least years, failed checks allowed.
        codes: those handed out, one a line: answers under any other are left out, and all of one that
            answered pages of several cultures; without them, these are as many people.
        survey: folder of all cultures' rounds; an answer to a page of one that is not summed up says so.

    Raises:
        UserError: no folder, no good answer at all, or simulated answers among real ones.
    """
    known = pages_in(pages)
    admitted = read_codes(codes) if codes else None
    found, findings = _collect(folder, known)
    who = {answer.participant for answer in found}
    good = _check_each(found, known, config, admitted, asked_in(survey) if survey else {}, findings)
    if admitted is not None:
        good = _check_cultures(good, known, findings)
    good = _settle_repeats(good, findings)
    good = _check_attention(good, known, config.failed_checks, findings)
    _say(findings)
    _say_alike(folder, good)
    if not good:
        raise UserError(
            f"{folder}: no usable answer ({len(findings)} left out); put the collected files there"
            + (f"; the first fault: {_line(findings[0])}" if findings else "")
        )
    if len({answer.simulated for answer in good}) > 1:
        made_up = next(answer.file for answer in good if answer.simulated)
        raise UserError(f"{folder}: simulated answers ({made_up}) lie among real ones; move them out")

    began = {(answer.participant, answer.began) for answer in good if answer.began}
    note = {
        "simulated": good[0].simulated,
        "rejected": len(findings),
        "codes": admitted is not None,
        "together": most_together([time for _, time in began]),
        "rounds": earlier_rounds(pages),
    }
    numbers = _numbers(who, read_lines(codes) if codes else [], findings)
    REJECTED.write(rejected, _counted(findings, numbers), extra=note)
    rows = [_row(answer, known[answer.page]) for answer in good]
    rows.sort(key=lambda row: tuple(row[name] for name in ANSWERS.key))
    cultures = ",".join(sorted({row["culture"] for row in rows}))
    ANSWERS.write(answers, rows, Origin(cultures, "answers"), note)


def _collect(folder: Path, known: Pages) -> tuple[list[Answer], list[Finding]]:
    """Read every file, those of hidden names excepted."""
    found: list[Answer] = []
    findings: list[Finding] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."):
        name = shown(str(path.relative_to(folder)))
        notes: list[str] = []
        try:
            for row, answer in read_answers(path, name, known, notes):
                if isinstance(answer, Answer):
                    found.append(answer)
                else:
                    findings.append((name, row, clean_text(answer)))
        except RejectedError as error:
            findings.append((name, 0, clean_text(str(error))))
        for note in notes:
            LOG.info("%s: %s", name, note)
    return found, findings


def _numbers(who: set[str], codes: list[str], findings: list[Finding]) -> dict[str, int]:
    """Number the codes in their file's order, then everybody else; the longest name comes first.

    A file that cannot be read says in its name alone whose it is.
    """
    known = dict.fromkeys([*codes, *sorted(who)])
    for file in sorted({file for file, *_ in findings}):
        named = re.search(rf"survey-\w+-([\w-]{{{LEAST},}})[^/]*\.json$", file)
        if named and not any(name in named[1] for name in known if len(name) >= LEAST):
            known[named[1]] = None
    numbers = {name: number for number, name in enumerate(known, 1)}
    return dict(sorted(numbers.items(), key=lambda item: -len(item[0])))


def _public(text: str, numbers: dict[str, int]) -> str:
    """Put "person 7" in the place of a participant: whoever reads a code can answer in its owner's name."""
    folded = text.casefold()
    for name, number in numbers.items():
        if name.casefold() not in folded:
            continue
        text = text.replace(f"participant '{name}'", f"'{name}'").replace(f"'{name}'", f"person {number}")
        if len(name) >= LEAST:  # a short one is no key, and may be any word's part
            text = re.sub(re.escape(name), f"person {number}", text, flags=re.IGNORECASE)
    return text


def _counted(findings: list[Finding], numbers: dict[str, int]) -> list[Row]:
    """One row for each different finding, in order, with how often it came."""
    rows: list[Row] = []
    for (file, row, text), count in sorted(Counter(findings).items()):
        reason = text + (f" (×{count})" if count > 1 else "")
        public = {"public_file": _public(file, numbers), "public_reason": _public(reason, numbers)}
        rows.append({"file": file, "row": row, "reason": reason, **public})
    return rows


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


def _line(finding: Finding) -> str:
    file, row, reason = finding
    return f"{file}, row {row}: {reason}" if row else f"{file}: {reason}"


def _say(findings: list[Finding]) -> None:
    for finding in findings[:SHOWN]:
        LOG.warning("left out: %s", _line(finding))
    if len(findings) > SHOWN:
        LOG.warning("left out: %d more, see the table of rejected answers", len(findings) - SHOWN)


def _say_alike(folder: Path, good: list[Answer]) -> None:
    """Name participants who differ by capitals alone: they count as different people."""
    spelled: dict[str, set[str]] = defaultdict(set)
    for answer in good:
        spelled[answer.participant.casefold()].add(answer.participant)
    for names in spelled.values():
        if len(names) > 1:
            who = " and ".join(f"'{name}'" for name in sorted(names))
            text = "count as different people; where they are one, write one name in all files"
            LOG.warning("%s: %s %s", folder, who, text)


def _check_each(
    found: list[Answer],
    known: Pages,
    config: SurveyConfig,
    admitted: frozenset[str] | None,
    asked: Mapping[str, tuple[str, str]],
    findings: list[Finding],
) -> list[Answer]:
    """Keep the answers that are good by themselves."""
    good = []
    for answer in found:
        fault = _fault(answer, known, config.min_years, asked)
        if admitted is not None and answer.participant not in admitted:
            fault = f"participant '{answer.participant}' is none of the codes handed out"
        if fault:
            findings.append((answer.file, answer.row, fault))
        else:
            good.append(answer)
    return good


def _check_cultures(good: list[Answer], known: Pages, findings: list[Finding]) -> list[Answer]:
    """Leave out everything under a code that answered pages of several cultures: a person is of one."""
    cultures: dict[str, set[str]] = defaultdict(set)
    for answer in good:
        cultures[answer.participant].add(known[answer.page].culture)
    kept = []
    for answer in good:
        if len(several := sorted(cultures[answer.participant])) > 1:
            text = f"participant '{answer.participant}' answered pages of {' and '.join(several)}, not of one"
            findings.append((answer.file, answer.row, text))
        else:
            kept.append(answer)
    return kept


def _fault(answer: Answer, known: Pages, min_years: float, asked: Mapping[str, tuple[str, str]]) -> str:
    """Say what is wrong with an answer, or ""."""
    page = known.get(answer.page)
    if page is None and answer.page in asked:
        culture, name = asked[answer.page]
        if culture not in {surveyed.culture for surveyed in known.values()}:
            return (
                f"page '{answer.page}' was asked of '{culture}', which is not surveyed now; name it in "
                "survey.cultures, or, where the culture was renamed, give it this name again"
            )
        return (
            f"page '{answer.page}' was asked in another round; to sum that one up, set survey.rounds: "
            f'{{{culture}: "{name}"}}'
        )
    if page is None:
        return f"unknown page '{answer.page}'; are the pages those that were shown?"
    if answer.culture and answer.culture.casefold() != page.culture.casefold():
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
        return (
            f"no permutation: {answer.item} of page '{answer.page}' is ranked {given}; write each of 1 to "
            f"{len(ranks)} once, or none"
        )
    return ""


def _settle_repeats(good: list[Answer], findings: list[Finding]) -> list[Answer]:
    """Keep one answer to each question: each device's last, unless these contradict one another."""
    # Not by declared culture: a page has one culture, and not every form names it.
    groups: dict[tuple[str, str, str], list[Answer]] = defaultdict(list)
    for answer in good:
        groups[answer.participant, answer.page, answer.item].append(answer)
    kept = []
    for answers in groups.values():
        last: dict[str, int] = {}
        for answer in answers:
            last[answer.key] = max(answer.revision, last.get(answer.key, 0))
        newest = [answer for answer in answers if answer.revision == last[answer.key]]
        filled = [answer for answer in newest if answer.ranks] or newest
        filled.sort(key=lambda answer: (answer.file, answer.row))
        if any(answer.ranks != filled[0].ranks for answer in filled):
            findings += [
                (
                    a.file,
                    a.row,
                    f"double answer: {a.item} of page '{a.page}' by '{a.participant}', contradicting; if "
                    "they are two people under one name, give each a code of their own",
                )
                for a in filled
            ]
            filled = []
        kept += filled[:1]
        for answer in answers:
            if not any(answer is other for other in filled[:1]) and (filled or answer not in newest):
                why = "the same again" if answer.revision == last[answer.key] else "replaced by a later one"
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
