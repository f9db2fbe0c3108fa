"""Parquet tables: contract, reader and writer."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline_steps.artifacts.cells import PICTURE
from pipeline_steps.artifacts.files import appears_whole, rebuild
from pipeline_steps.artifacts.origin import UNREADABLE, Origin, Row, as_dict, check_note, unreadable
from pipeline_steps.errors import UserError

ROWS_PER_GROUP = 64
"""Fixed, so that a table's bytes do not depend on the batch size of the step that wrote it."""


@dataclass(frozen=True)
class Table:
    """A Parquet table's contract.

    Attributes:
        name: the artifact's name, written into the file.
        version: raised whenever a column changes its meaning.
        schema: columns, types and nullability.
        key: columns that identify a row; rows are in strictly increasing key order.
    """

    name: str
    version: int
    schema: pa.Schema
    key: tuple[str, ...]

    @contextmanager
    def writer(
        self, path: Path, origin: Origin | None = None, extra: Row | None = None
    ) -> Iterator["_Writer"]:
        """Open the table for streaming rows into it; it appears when the block ends well.

        Args:
            path: final name of the file.
            origin: the culture and pictures it was made from.
            extra: further facts to store beside them (strings or numbers).
        """
        note = {"artifact": self.name, "version": self.version, **as_dict(origin), **(extra or {})}
        metadata = {"scoft": json.dumps(note, sort_keys=True), "huggingface": _hub_features(self.schema)}
        with (
            appears_whole(path) as part,
            pq.ParquetWriter(
                part, self.schema.with_metadata(metadata), write_page_checksum=True, compression="zstd"
            ) as parquet,
        ):
            rows = _Writer(self, path, parquet)
            yield rows
            rows.flush()
            parquet.add_key_value_metadata({"scoft_seal": _seal(metadata["scoft"], rows.count)})

    def write(
        self, path: Path, rows: Iterable[Row], origin: Origin | None = None, extra: Row | None = None
    ) -> None:
        """Write all rows; see :meth:`writer`."""
        with self.writer(path, origin, extra) as table:
            for row in rows:
                table.add(row)

    def rows(self, path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Stream the table's rows as dictionaries, checking them as they pass.

        Args:
            path: the file.
            columns: read only these; the key columns are always read and checked.

        Raises:
            UserError: the file is missing, damaged, of another kind or version, or breaks its contract.
        """
        wanted = None if columns is None else [*dict.fromkeys([*self.key, *columns])]
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as parquet:
                self._check_kind(path, parquet.metadata)
                last: tuple[Any, ...] | None = None
                count = 0
                for batch in parquet.iter_batches(ROWS_PER_GROUP, columns=wanted):
                    for row in batch.to_pylist():
                        last = self._check_row(path, row, last, batch.schema)
                        count += 1
                        yield row
                if count != parquet.metadata.num_rows:
                    raise UserError(
                        f"{path}: damaged, {count} rows can be read of {self.count(path)}; {rebuild(path)}"
                    )
        except UNREADABLE as error:
            raise unreadable(path, self.name, error) from error

    def read(self, path: Path, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return all rows; see :meth:`rows`."""
        return list(self.rows(path, columns))

    def count(self, path: Path) -> int:
        """Return the number of rows without reading them."""
        return int(self._metadata(path).num_rows)

    def note(self, path: Path) -> dict[str, Any]:
        """Return what was stored beside the rows: artifact, version, origin and extras."""
        return self._check_kind(path, self._metadata(path))

    def _metadata(self, path: Path) -> pq.FileMetaData:
        try:
            found = pq.read_metadata(path)
        except UNREADABLE as error:
            raise unreadable(path, self.name, error) from error
        self._check_kind(path, found)
        return found

    def _check_kind(self, path: Path, found: pq.FileMetaData) -> dict[str, Any]:
        """Check what a file says it is, which carries a seal, and its columns; return what it says."""
        facts = found.metadata or {}
        try:
            note: dict[str, Any] = json.loads(facts[b"scoft"])
        except (KeyError, ValueError) as error:
            raise UserError(
                f"{path}: expected the table '{self.name}', found a foreign file; {rebuild(path)}"
            ) from error
        check_note(path, note, self.name, self.version)
        if facts.get(b"scoft_seal", b"").decode(errors="replace") != _seal(facts[b"scoft"], found.num_rows):
            raise UserError(f"{path}: damaged, its header does not agree with its seal; {rebuild(path)}")
        try:
            same = found.schema.to_arrow_schema().equals(self.schema)
        except UNREADABLE as error:
            raise unreadable(path, self.name, error) from error
        if not same:
            raise UserError(
                f"{path}: its columns are not those of '{self.name}' v{self.version}; {rebuild(path)}"
            )
        return note

    def _check_row(
        self, path: Path, row: Row, last: tuple[Any, ...] | None, schema: pa.Schema
    ) -> tuple[Any, ...]:
        """Check one row's missing values and its place in key order; return its key."""
        for field in schema:
            if not field.nullable and row[field.name] is None:
                raise UserError(
                    f"{path}: row {_key_text(self, row)}: '{field.name}' is missing; {rebuild(path)}"
                )
        key = tuple(row[name] for name in self.key)
        if last is not None and key <= last:
            raise UserError(
                f"{path}: row {_key_text(self, row)} is repeated or out of order; {rebuild(path)}"
            )
        return key


class _Writer:
    """Buffers rows into groups of fixed size and checks each on its way."""

    def __init__(self, table: Table, path: Path, parquet: pq.ParquetWriter) -> None:
        self.table, self.path, self.parquet = table, path, parquet
        self.buffer: list[Row] = []
        self.count = 0
        self.last: tuple[Any, ...] | None = None

    def add(self, row: Row) -> None:
        """Append one row; all columns must be there, in any order."""
        if row.keys() != set(self.table.schema.names):
            raise KeyError(f"{self.table.name}: {sorted(set(self.table.schema.names) ^ row.keys())}")
        self.last = self.table._check_row(self.path, row, self.last, self.table.schema)
        self.buffer.append(row)
        self.count += 1
        if len(self.buffer) == ROWS_PER_GROUP:
            self.flush()

    def flush(self) -> None:
        """Write the buffered rows as one group."""
        if self.buffer:
            self.parquet.write_table(pa.Table.from_pylist(self.buffer, self.table.schema))
            self.buffer = []


def _key_text(table: Table, row: Row) -> str:
    return ", ".join(f"{name}={row[name]}" for name in table.key)


def _hub_features(schema: pa.Schema) -> str:
    """Describe the columns the way ``datasets`` does, so that it shows pictures as pictures."""

    def feature(kind: pa.DataType) -> dict[str, Any]:
        if kind == PICTURE:
            return {"_type": "Image"}
        if pa.types.is_list(kind):
            return {"feature": feature(kind.value_type), "_type": "List"}
        return {
            "dtype": {"double": "float64", "float": "float32"}.get(str(kind), str(kind)),
            "_type": "Value",
        }

    return json.dumps({"info": {"features": {field.name: feature(field.type) for field in schema}}})


def _seal(note: str | bytes, rows: int) -> str:
    """Return a checksum of what a table says it is, and of its length: the pages have their own."""
    data = note if isinstance(note, bytes) else note.encode()
    return hashlib.sha256(data + b"\0" + str(rows).encode()).hexdigest()
