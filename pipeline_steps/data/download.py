"""Pictures from a table of links, as the CCUB release has them."""

import csv
import hashlib
import io
import json
import re
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from tqdm import tqdm

from pipeline_steps import artifacts
from pipeline_steps.cli import LOG, run_step
from pipeline_steps.config import DataConfig
from pipeline_steps.data import picture_files as pictures
from pipeline_steps.data.fetching import FetchError, get, picture_session
from pipeline_steps.data.names import address_key, address_key_in, picture_names, withdrawn_names
from pipeline_steps.data.public_web import without_credentials
from pipeline_steps.data.rows import ANSWERS, NotTakenError, is_refused
from pipeline_steps.errors import UserError
from pipeline_steps.inputs.tables import csv_rows
from pipeline_steps.inputs.text import clean_text, read_lines, read_text
from pipeline_steps.inputs.values import RejectedError

HOSTS = 8
"""Servers asked at the same time; one connection to each."""
ATTEMPTS = 3
"""Per link, when the failure may pass."""
LONGEST_WAIT = 60.0
"""Seconds waited at most when a server asks to come back later."""
COLUMNS = ("url", "caption", "country_code", "category_code", "created_at", *ANSWERS)


@dataclass(frozen=True)
class Link:
    """One row of the table: its line, its address, and the other columns."""

    line: int
    url: str
    columns: dict[str, Any]


class WithdrawnError(FetchError):
    """Somebody wants this picture left out."""

    def __init__(self) -> None:
        super().__init__("is withdrawn or refused; left out")


def download(
    links: Path,
    metadata: Path,
    failures: Path,
    config: DataConfig,
    country: str | None = None,
    withdrawn: Path | None = None,
    pause: float = 1.0,
) -> None:
    """Fetch every picture that is not there yet, and describe them in a metadata.jsonl.

    Pictures lie in ``pictures`` beside ``metadata`` and stay there: a second run asks only for those
    that failed. A dead link costs its own picture and nothing else. What is withdrawn or refused is not
    asked for, and deleted where it is there; what has no clear answer is not asked for either, and where
    it is there left to ``ingest``. Addresses on a private network are not asked, and credentials in an
    address neither sent nor stored.

    Args:
        links: CSV file with columns ``url`` and ``caption`` (or the configured caption column); in the
            CCUB release also country_code, category_code and created_at.
        metadata: metadata.jsonl to write, in the order of the table, for ``ingest``.
        failures: CSV file to write: line, url, whether the failure may pass, reason.
        config: caption column, largest file, whether an answer in ``consent`` is required, servers that
            may lie on a private network.
        country: take only rows with this ``country_code``.
        withdrawn: list of pictures to leave out; see :func:`withdrawn_names`.
        pause: seconds before the second attempt; it doubles with each.

    Raises:
        UserError: the table cannot be understood, or not one picture could be fetched.
    """
    wanted = list(_links(links, country, config.caption_column))
    folder = metadata.parent / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    results, gone = _left_out(wanted, folder, withdrawn_names(withdrawn), config.require_consent)
    results |= _fetch_all([one for one in wanted if one.url not in results], folder, gone, config, pause)
    failed = [(one, found) for one in wanted if isinstance(found := results[one.url], FetchError)]
    out = [one for one, error in failed if isinstance(error, WithdrawnError)]
    for one, error in failed:
        if one not in out:
            LOG.warning("%s line %d: %s: %s", links.name, one.line, one.url, error)
    if len(failed) == len(wanted):
        raise UserError(f"{links}: none of {len(wanted)} pictures could be fetched; first: {failed[0][1]}")
    rows = (
        _row(one, found, metadata, config) for one in wanted if isinstance(found := results[one.url], Path)
    )
    artifacts.write_text(failures, _failure_table(failed))
    artifacts.write_text(metadata, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    counts = (len(wanted) - len(failed), len(out), len(failed) - len(out))
    LOG.info("%s: %d pictures, %d withdrawn or refused, %d not fetched (%s)", links.name, *counts, failures)
    if counts[-1]:
        LOG.info("to ask again for those alone that were not fetched: add -R download -- before the target")


def _links(path: Path, country: str | None, caption_column: str) -> Iterator[Link]:
    found = kept = 0
    notes: list[str] = []
    for line, row in csv_rows(path, read_text(path, notes), (*COLUMNS, caption_column)):
        if found == 0 and "url" not in row:
            names = ", ".join(str(name) for name in row)
            raise UserError(f"{path}: no column 'url' (there are: {names}); rename the one with the links")
        found += 1
        if country is None or str(row.get("country_code")).strip().lower() == country.lower():
            kept += 1
            row.pop(None, None)
            yield Link(line, without_credentials(clean_text(str(row.pop("url", None) or ""))), row)
    for note in notes:
        LOG.info("%s: %s", path.name, note)
    if kept == 0:
        which = f" of {found} with country_code '{country}'" if found else ""
        raise UserError(f"{path}: no row{which}; mend the table or 'country' of the culture")


def _left_out(
    links: list[Link], folder: Path, listed: Mapping[str, str], require_consent: bool
) -> tuple[dict[str, Path | FetchError], set[str]]:
    """Delete what is withdrawn or refused, with its identical copies.

    The SHA-256 of what was deleted stays beside ``folder``, so that a copy from another address is known.

    Returns:
        The addresses that are not asked, and why; the SHA-256 of pictures that are not kept.
    """
    there = {path: artifacts.file_sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}
    by_name = {p for p, d in there.items() if listed.keys() & picture_names(f"{folder.name}/{p.name}", d)}
    named = {address_key_in(name) for name in (*listed, *(path.name for path in by_name))}
    found: dict[str, Path | FetchError] = {}
    for link in links:
        try:
            if address_key(link.url) in named or is_refused(link.columns, require_consent):
                found[link.url] = WithdrawnError()
        except (NotTakenError, RejectedError) as error:
            if not any(folder.glob(f"{_stem(link)}.*")):
                found.setdefault(link.url, FetchError(str(error)))
    keys = {address_key(url) for url, error in found.items() if isinstance(error, WithdrawnError)}
    memory = folder.with_name("withdrawn.tsv")
    before = [line.split("\t") for line in read_lines(memory)] if memory.exists() else []
    gone = {digest: key for key, digest in before if key in keys | named}
    gone |= {d: key for p, d in there.items() if (key := address_key_in(p.name)) in keys or p in by_name}
    if gone or before:
        artifacts.write_text(memory, "".join(f"{key}\t{digest}\n" for digest, key in gone.items()))
    for path, digest in there.items():
        if digest in gone:
            path.unlink()
    return found, gone.keys() | listed.keys()


def _fetch_all(
    links: list[Link], folder: Path, gone: Collection[str], config: DataConfig, pause: float
) -> dict[str, Path | FetchError]:
    """Return, for every address, the picture's file or why there is none; one host is asked in turn."""
    hosts: dict[str, dict[str, Link]] = defaultdict(dict)
    for link in links:
        hosts[_host(link.url)].setdefault(link.url, link)
    results: dict[str, Path | FetchError] = {}
    bar, lock = tqdm(total=sum(map(len, hosts.values())), desc="download", unit="picture"), threading.Lock()

    def ask(host: Iterable[Link]) -> None:
        with picture_session(config.allowed_hosts) as session:
            for link in host:
                try:
                    limit = config.max_megabytes
                    found: Path | FetchError = _fetch(session, link, folder, gone, limit, pause)
                except FetchError as error:
                    found = error
                with lock:
                    results[link.url] = found
                    bar.update()

    with bar, ThreadPoolExecutor(HOSTS) as pool:
        list(pool.map(ask, [list(host.values()) for host in hosts.values()]))
    return results


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


def _fetch(
    session: requests.Session,
    link: Link,
    folder: Path,
    gone: Collection[str],
    max_megabytes: float,
    pause: float,
) -> Path:
    """Return the picture's file, fetching it with polite attempts unless it is there."""
    stem = _stem(link)
    if there := sorted(folder.glob(f"{stem}.*")):
        return there[0]
    for attempt in range(ATTEMPTS):
        try:
            data = get(session, link.url, max_megabytes)
            break
        except FetchError as error:
            if not error.passing or attempt == ATTEMPTS - 1:
                raise
            time.sleep(min(LONGEST_WAIT, max(error.wait, pause * 2**attempt)))
    try:
        ending = pictures.picture_format(data).lower()
    except pictures.UnusableError as error:
        raise FetchError(str(error)) from error
    if hashlib.sha256(data).hexdigest() in gone:
        raise WithdrawnError
    path = folder / f"{stem}.{ending}"
    with artifacts.appears_whole(path) as part:
        part.write_bytes(data)
    return path


def _stem(link: Link) -> str:
    """Return a name that stays when rows are added: the category and a piece of the address' hash."""
    category = re.sub(r"[^A-Za-z0-9]+", "_", str(link.columns.get("category_code") or "picture")).strip("_")
    return f"{category[:40] or 'picture'}_{address_key(link.url)}"


def _row(link: Link, path: Path, metadata: Path, config: DataConfig) -> dict[str, Any]:
    columns = dict(link.columns)
    if config.caption_column not in columns:
        columns[config.caption_column] = columns.pop("caption", None)
    name = path.relative_to(metadata.parent).as_posix()
    said = {key: value for key, value in columns.items() if value not in (None, "")}
    own = said.setdefault("source", link.url)
    # Where the table says itself where a picture is from, the link stands beside it.
    return said | {"file_name": name} | ({} if own == link.url else {"link": link.url})


def _failure_table(failed: list[tuple[Link, FetchError]]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["line", "url", "may_pass", "reason"])
    table.writerows(
        [one.line, artifacts.spreadsheet_text(one.url), "yes" if error.passing else "no", error]
        for one, error in failed
    )
    return text.getvalue()


if __name__ == "__main__":
    run_step(download)
