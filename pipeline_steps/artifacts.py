"""Every Parquet table and safetensors file: its schema, its key, the only readers and writers.

A file appears whole or not at all: it is written beside its final name and then renamed. Schema,
key order, missing values and checksums are verified on write *and* on read, so that a damaged or
foreign file ends in one clear line. Each file carries the culture and the fingerprint of the
training pictures it was made from.
"""

import hashlib
import io
import json
import shlex
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tqdm import tqdm

from pipeline_steps.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

ROWS_PER_GROUP = 64
"""Fixed, so that a table's bytes do not depend on the batch size of the step that wrote it."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Origin:
    """What a file was made from.

    Attributes:
        culture: the culture's name in the config.
        fingerprint: SHA-256 over the training pictures and captions (see ``ingest``).
    """

    culture: str
    fingerprint: str


@contextmanager
def appears_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path`` and rename it to ``path`` on success.

    What a killed predecessor left is removed first; should it still be alive (a node that was
    given up), its own rename then fails and its half-written file never shows.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{path.name}.*.part"):
        stale.unlink(missing_ok=True)
    part = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.part"
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def rebuild(*paths: Path) -> str:
    """Return the last words of every message about a file that cannot be used: how to make it anew."""
    return f"rebuild with: snakemake --cores all --force {shlex.join(map(str, paths))}"


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with appears_whole(path) as part:
        part.write_text(text, encoding="utf-8")


def spreadsheet_text(text: object) -> str:
    """Return a cell of a CSV file that no spreadsheet takes for a formula."""
    cell = str(text)
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


# --- tables -----------------------------------------------------------------------------------

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""A picture as Hugging Face ``datasets`` stores it: encoded bytes and a file name."""


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
        note = {"artifact": self.name, "version": self.version, **_as_dict(origin), **(extra or {})}
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
            raise _unreadable(path, self.name, error) from error

    def read(self, path: Path, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return all rows; see :meth:`rows`."""
        return list(self.rows(path, columns))

    def count(self, path: Path) -> int:
        """Return the number of rows without reading them."""
        return self._metadata(path).num_rows

    def note(self, path: Path) -> dict[str, Any]:
        """Return what was stored beside the rows: artifact, version, origin and extras."""
        return self._check_kind(path, self._metadata(path))

    def _metadata(self, path: Path) -> pq.FileMetaData:
        try:
            found = pq.read_metadata(path)
        except UNREADABLE as error:
            raise _unreadable(path, self.name, error) from error
        self._check_kind(path, found)
        return found

    def _check_kind(self, path: Path, found: pq.FileMetaData) -> dict[str, Any]:
        """Check what a file says it is, which carries a seal, and its columns; return what it says."""
        facts = found.metadata or {}
        try:
            note = json.loads(facts[b"scoft"])
        except (KeyError, ValueError) as error:
            raise UserError(
                f"{path}: expected the table '{self.name}', found a foreign file; {rebuild(path)}"
            ) from error
        _check_note(path, note, self.name, self.version)
        if facts.get(b"scoft_seal", b"").decode(errors="replace") != _seal(facts[b"scoft"], found.num_rows):
            raise UserError(f"{path}: damaged, its header does not agree with its seal; {rebuild(path)}")
        try:
            same = found.schema.to_arrow_schema().equals(self.schema)
        except UNREADABLE as error:
            raise _unreadable(path, self.name, error) from error
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


def _as_dict(origin: Origin | None) -> dict[str, str]:
    return {} if origin is None else {"culture": origin.culture, "fingerprint": origin.fingerprint}


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


UNREADABLE = (pa.ArrowException, OSError, ValueError)
"""What pyarrow raises on damaged files."""


def _seal(note: str | bytes, rows: int) -> str:
    """Return a checksum of what a table says it is, and of its length: the pages have their own."""
    data = note if isinstance(note, bytes) else note.encode()
    return hashlib.sha256(data + b"\0" + str(rows).encode()).hexdigest()


def _check_note(path: Path, note: Any, name: str, version: int) -> None:
    if not isinstance(note, dict):
        raise UserError(f"{path}: expected '{name}', found a foreign file; {rebuild(path)}")
    if note.get("artifact") != name:
        raise UserError(f"{path}: expected '{name}', found '{note.get('artifact')}'; {rebuild(path)}")
    if note.get("version") != version:
        raise UserError(
            f"{path}: '{name}' v{note.get('version')}, this version reads v{version}; {rebuild(path)}"
        )


def _unreadable(path: Path, name: str, error: Exception) -> UserError:
    if not path.exists():
        return UserError(f"{path}: no such file; '{name}' was expected here; {rebuild(path)}")
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(f"{path}: damaged, cannot be read as '{name}' ({reason}); {rebuild(path)}")


def picture_note(origin: Origin) -> PngInfo:
    """Return what a PNG that shows a culture's pictures carries, as tables and tensor files do."""
    note = PngInfo()
    note.add_text("scoft", json.dumps(_as_dict(origin), sort_keys=True))
    return note


def raw_metadata(path: Path) -> dict[str, str]:
    """Return what stands in the header of any Parquet, safetensors or PNG file; nothing for other files."""
    try:
        if path.suffix == ".png":
            with Image.open(path, formats=["PNG"]) as picture:
                return {key: str(value) for key, value in picture.info.items()}
        if path.suffix == ".parquet":
            found = pq.read_metadata(path).metadata or {}
            return {
                key.decode(errors="replace"): value.decode(errors="replace") for key, value in found.items()
            }
        if path.suffix == ".safetensors":
            return _header(path, "any")
    except (*UNREADABLE, UserError):
        pass
    return {}


def same_origin(*sources: tuple["Table | TensorFile", Path], culture: str | None = None) -> Origin:
    """Return the origin that all files share.

    Raises:
        UserError: two of them were made from different pictures or cultures.
    """
    first: tuple[Path, Origin] | None = None
    for kind, path in sources:
        note = kind.note(path)
        origin = Origin(str(note.get("culture")), str(note.get("fingerprint")))
        if culture is not None and origin.culture != culture:
            raise UserError(
                f"{path}: belongs to culture '{origin.culture}', not '{culture}'; {rebuild(path)}"
            )
        if first is not None and origin != first[1]:
            raise UserError(
                f"{path}: was made from other pictures than {first[0]}; {rebuild(path, first[0])}"
            )
        first = first or (path, origin)
    assert first is not None
    return first[1]


def encode_picture(picture: Image.Image, name: str) -> dict[str, Any]:
    """Return a picture cell holding a PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": name}


def decode_picture(cell: Row) -> Image.Image:
    """Return a picture cell's picture, loaded, in the mode it was stored."""
    picture = Image.open(io.BytesIO(cell["bytes"]))
    picture.load()
    return picture


def picture_size(cell: Row) -> tuple[int, int]:
    """Return a picture's width and height without decoding it."""
    with Image.open(io.BytesIO(cell["bytes"])) as picture:
        return picture.size


def _schema(*fields: tuple[str, pa.DataType] | tuple[str, pa.DataType, str]) -> pa.Schema:
    """Columns are required unless marked "optional"."""
    return pa.schema([pa.field(name, kind, nullable=bool(rest)) for name, kind, *rest in fields])


IMAGES = Table(
    "images",
    1,
    _schema(
        ("image_id", pa.string()),
        ("image", PICTURE),
        ("caption", pa.string()),
        ("split", pa.string()),
        ("source_width", pa.int32()),
        ("source_height", pa.int32()),
        ("crop", pa.list_(pa.int32())),
        ("source_sha256", pa.string()),
        ("category", pa.string(), "optional"),
        ("era", pa.string(), "optional"),
        ("contributor", pa.string(), "optional"),
        ("source", pa.string(), "optional"),
        ("author", pa.string(), "optional"),
        ("licence", pa.string(), "optional"),
        ("consent", pa.string(), "optional"),
        ("extra", pa.string(), "optional"),
    ),
    ("image_id",),
)
"""The culture's pictures, cropped and resized once, to one size or (``data.aspect``) to a few. ``crop``
is left, top, right, bottom in source pixels; ``split`` is train or test; ``extra`` holds further
columns of the user's as JSON."""

FINDINGS = Table(
    "findings",
    1,
    _schema(
        ("severity", pa.int32()),
        ("kind", pa.string()),
        ("file", pa.string()),
        ("line", pa.string()),
    ),
    ("severity", "kind", "file", "line"),
)
"""What ingest found odd, worst first: severity 0 left out, 1 to be mended, 2 worth knowing; ``line`` says
what is wrong and how to mend it."""

CAPTIONS = Table(
    "captions",
    1,
    _schema(("image_id", pa.string()), ("index", pa.int32()), ("caption", pa.string())),
    ("image_id", "index"),
)
"""BLIP's captions of the training pictures (c_blip^i)."""

DEPTH = Table("depth", 1, _schema(("image_id", pa.string()), ("image", PICTURE)), ("image_id",))
"""Inverse depth of the training pictures, 8-bit grey, 255 near, as large as the picture."""

NEGATIVES = Table(
    "negatives",
    1,
    _schema(
        ("image_id", pa.string()),
        ("index", pa.int32()),
        ("image", PICTURE),
        ("prompt", pa.string()),
        ("seed", pa.int64()),
    ),
    ("image_id", "index"),
)
"""The un-tuned model's own pictures of each training scene (x⁻)."""

DISTANCES = Table(
    "distances",
    1,
    _schema(
        ("image_id", pa.string()), ("index", pa.int32()), ("distance", pa.float64()), ("kept", pa.bool_())
    ),
    ("image_id", "index"),
)
"""DreamSim distance of every negative to its positive."""

NEGATIVES_KEPT = Table(
    "negatives_kept",
    1,
    NEGATIVES.schema.append(pa.field("distance", pa.float64(), False)),
    ("image_id", "index"),
)
"""The negatives that are no false negatives."""

SAMPLES = Table(
    "samples",
    1,
    _schema(
        ("prompt_id", pa.string()),
        ("index", pa.int32()),
        ("prompt", pa.string()),
        ("seed", pa.int64()),
        ("image", PICTURE),
    ),
    ("prompt_id", "index"),
)
"""Pictures generated for the test prompts."""

SCORES = Table(
    "scores",
    1,
    _schema(
        ("variant", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64(), "optional"),
        ("high", pa.float64(), "optional"),
        ("interval", pa.string()),
        ("unit", pa.string()),
        ("generated", pa.int32()),
        ("reference", pa.int32(), "optional"),
        ("extractor", pa.string()),
        ("weights_sha256", pa.string()),
    ),
    ("variant", "metric"),
)
"""One score of one variant: interval and how it was got, both sample sizes, and the network behind it."""

TRAIN_LOG = Table(
    "train_log",
    1,
    _schema(
        ("update", pa.int32()),
        ("epoch", pa.int32()),
        ("learning_rate", pa.float64()),
        ("loss", pa.float64()),
        ("loss_ldm", pa.float64()),
        ("loss_m", pa.float64(), "optional"),
        ("loss_p", pa.float64(), "optional"),
        ("loss_c", pa.float64(), "optional"),
        ("gradient_norm", pa.float64()),
        ("gradient_norm_diffusion", pa.float64()),
        ("gradient_norm_perceptual", pa.float64(), "optional"),
    ),
    ("update",),
)
"""Every loss part and gradient norm of every update (before clipping)."""

PAGES = Table(
    "survey_pages",
    1,
    _schema(
        ("page", pa.string()),
        ("position", pa.int32()),
        ("picture", pa.string()),
        ("variant", pa.string()),
        ("prompt_id", pa.string()),
        ("index", pa.int32()),
        ("prompt", pa.string()),
        ("seed", pa.int64()),
        ("check", pa.bool_()),
        ("image", PICTURE),
    ),
    ("page", "position"),
)
"""The survey's pages: which variant stands at which position. Participants never see this table. A
page's name follows from its pictures and their order, so that answers can belong to no other page."""

FORMS = Table(
    "survey_forms",
    1,
    _schema(("form", pa.int32()), ("place", pa.int32()), ("page", pa.string())),
    ("form", "place"),
)
"""Which pages a participant sees, in order: the n-th participant gets form n modulo their number."""

SIMULATED = Table(
    "survey_simulated",
    1,
    _schema(
        ("culture", pa.string()),
        ("participant", pa.string()),
        ("page", pa.string()),
        ("item", pa.string()),
        ("picture", pa.string()),
        ("rank", pa.int32()),
    ),
    ("culture", "participant", "page", "item", "picture"),
)
"""Answers of people who never lived, in the generic long form; the note says so."""

ANSWERS = Table(
    "survey_answers",
    1,
    _schema(
        ("culture", pa.string()),
        ("participant", pa.string()),
        ("page", pa.string()),
        ("item", pa.string()),
        ("prompt", pa.string()),
        ("variants", pa.list_(pa.string())),
        ("ranks", pa.list_(pa.int32()), "optional"),
        ("file", pa.string()),
    ),
    ("culture", "participant", "page", "item"),
)
"""Good answers: the rank (1 is best) of each variant, in the order the page showed them. Blank answers have
no ranks. The note says whether the participants were simulated."""

REJECTED = Table(
    "survey_rejected",
    1,
    _schema(("file", pa.string()), ("row", pa.int32()), ("reason", pa.string())),
    ("file", "row", "reason"),
)
"""Answers that could not be used: where they stand and why."""

VOTES = Table(
    "survey_votes",
    1,
    _schema(
        ("culture", pa.string()),
        ("item", pa.string()),
        ("left", pa.string()),
        ("right", pa.string()),
        ("votes_left", pa.int32()),
        ("votes_right", pa.int32()),
        ("weight_left", pa.float64()),
        ("weight_right", pa.float64()),
        ("winner", pa.string()),
        ("rule", pa.string()),
        ("reason", pa.string()),
    ),
    ("culture", "item", "left", "right"),
)
"""MMSR+Vote of every pair; culture and item "all" stand for all together. A participant has one vote."""

CONSENSUS = Table(
    "survey_consensus",
    1,
    _schema(
        ("culture", pa.string()),
        ("item", pa.string()),
        ("variant", pa.string()),
        ("wins", pa.int32()),
        ("losses", pa.int32()),
        ("ties", pa.int32()),
        ("place", pa.float64()),
    ),
    ("culture", "item", "variant"),
)
"""Order of the variants by wins minus losses; equals share a place."""

SKILLS = Table(
    "survey_skills",
    1,
    _schema(
        ("level", pa.string()),
        ("culture", pa.string()),
        ("participant", pa.string()),
        ("skill", pa.float64()),
        ("reason", pa.string()),
    ),
    ("level", "culture", "participant"),
)
"""MMSR's skill (log odds of voting with the truth) of every participant in each of the four runs; the reason
says why there is none (all weights are then 1)."""

STATISTICS = Table(
    "survey_statistics",
    1,
    _schema(
        ("culture", pa.string()),
        ("item", pa.string()),
        ("statistic", pa.string()),
        ("subject", pa.string()),
        ("value", pa.float64(), "optional"),
        ("low", pa.float64(), "optional"),
        ("high", pa.float64(), "optional"),
        ("interval", pa.string()),
        ("participants", pa.int32()),
        ("rankings", pa.int32()),
    ),
    ("culture", "item", "statistic", "subject"),
)
"""Statistics of the rankings beside MMSR+Vote; no value where it is not defined."""

POWER = Table(
    "survey_power",
    1,
    _schema(
        ("participants", pa.int32()),
        ("careless", pa.float64()),
        ("adversarial", pa.float64()),
        ("method", pa.string()),
        ("statistic", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("trials", pa.int32()),
    ),
    ("participants", "careless", "adversarial", "method", "statistic"),
)
"""How often simulated crowds find the true order, or the true best."""


def batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Cut a stream of rows into lists of at most ``size``."""
    rows = iter(rows)
    while batch := list(islice(rows, size)):
        yield batch


def one_size(
    batches: Iterable[list[Row]],
    size: Callable[[Row], tuple[int, int]] = lambda row: picture_size(row["image"]),
) -> Iterator[list[Row]]:
    """Cut batches where the pictures' size changes: networks take pictures of one size at a time."""
    for batch in batches:
        for _, run in groupby(batch, size):
            yield list(run)


Shard = tuple[int, int]
"""The k-th of n jobs that share a stage's work, from 1."""
WHOLE: Shard = (1, 1)


def progress(rows: Iterable[Row], total: int, label: str) -> Iterator[Row]:
    """Pass rows through behind a progress bar."""
    yield from tqdm(rows, total=total, desc=label, unit="picture", mininterval=1)


def shard_batches(
    rows: Iterable[Row], total: int, size: int, shard: Shard, label: str
) -> Iterator[list[Row]]:
    """Cut a stream of rows into batches and pass on the shard's share, behind a progress bar.

    A share is a run of whole batches: a network sees the same batches however many shards there are,
    so that their results are the same to the last bit.

    Args:
        rows: of the whole stage, in key order.
        total: their number.
        size: of a batch, which is the last one's at most.
        shard: whose share.
        label: of the progress bar.
    """
    number, shards = shard
    count = -(-total // size)
    first, last = (count * place // shards for place in (number - 1, number))
    with tqdm(total=min(total, last * size) - first * size, desc=label, unit="picture", mininterval=1) as bar:
        for batch in islice(batches(rows, size), first, last):
            yield batch
            bar.update(len(batch))


def train_batches(images: Path, size: int, label: str, shard: Shard = WHOLE) -> Iterator[list[Row]]:
    """Stream the shard's training pictures in batches behind a progress bar."""
    count = sum(row["split"] == "train" for row in IMAGES.rows(images, ["split"]))
    if count == 0:
        raise UserError(f"{images}: no training picture; add pictures to the culture's folder")
    train = (row for row in IMAGES.rows(images) if row["split"] == "train")
    yield from shard_batches(train, count, size, shard, label)


# --- tensors ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class TensorFile:
    """A safetensors file's contract: its name and version stand in the file's own header."""

    name: str
    version: int

    def write(
        self,
        path: Path,
        tensors: Mapping[str, "Tensor"],
        origin: Origin | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        """Write tensors with the origin, ``extra`` and a checksum in the header."""
        from safetensors.torch import save_file

        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
        note = {"artifact": self.name, "version": self.version, **_as_dict(origin)}
        metadata = dict(extra or {})
        metadata["scoft"] = json.dumps(note | {"sha256": _checksum(contiguous)}, sort_keys=True)
        metadata["scoft_seal"] = _seal_header(metadata)
        with appears_whole(path) as part:
            save_file(contiguous, part, metadata=metadata)
            _sort_metadata(part)

    def read(self, path: Path) -> dict[str, "Tensor"]:
        """Return all tensors after verifying kind, version and checksum.

        Raises:
            UserError: the file is missing, damaged, a pickle, or of another kind or version.
        """
        from safetensors.torch import load_file

        note = self.note(path)
        try:
            tensors = load_file(path)
        except Exception as error:  # safetensors raises its own class, OSError and ValueError
            raise _unreadable(path, self.name, error) from error
        if _checksum(tensors) != note.get("sha256"):
            raise UserError(f"{path}: damaged, its contents do not agree with its checksum; {rebuild(path)}")
        return tensors

    def note(self, path: Path) -> dict[str, Any]:
        """Return artifact, version, origin and checksum from the header."""
        return json.loads(self.metadata(path)["scoft"])

    def metadata(self, path: Path) -> dict[str, str]:
        """Return the header's metadata after verifying kind, version and seal."""
        metadata = _header(path, self.name)
        try:
            note = json.loads(metadata["scoft"])
        except (KeyError, ValueError) as error:
            raise UserError(
                f"{path}: expected '{self.name}', found a foreign file; {rebuild(path)}"
            ) from error
        _check_note(path, note, self.name, self.version)
        if metadata.pop("scoft_seal", "") != _seal_header(metadata):
            raise UserError(f"{path}: damaged, its header does not agree with its seal; {rebuild(path)}")
        return metadata


def _header(path: Path, name: str) -> dict[str, str]:
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except Exception as error:  # safetensors raises its own class, OSError and ValueError
        raise _unreadable(path, name, error) from error


def _seal_header(metadata: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()


def _sort_metadata(path: Path) -> None:
    """Put a safetensors header's metadata in order: the library's own order changes from run to run."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= size
        file.seek(8)
        file.write(text.ljust(size))


def _checksum(tensors: Mapping[str, "Tensor"]) -> str:
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


TRAIN_CACHE = TensorFile("train_cache", 2)
"""Latents and text conditions of the training pictures."""
TARGETS = TensorFile("targets", 1)
"""Perceptual features of positives and negatives, for one feature extractor and set of views."""
LORA = TensorFile("lora", 1)
"""LoRA weights with diffusers' keys."""
FEATURES = TensorFile("features", 1)
"""What each network sees in a table of pictures, row by row (see ``features``)."""
KOHYA = TensorFile("lora_kohya", 1)
"""The same weights with the keys of kohya-ss."""
CHECKPOINT = TensorFile("checkpoint", 1)
"""Everything needed to go on training."""


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


WEIGHT_FILES = (".safetensors", ".bin", ".pt", ".pth", ".tar")


def folder_sha256(folder: Path) -> str:
    """Return one SHA-256 over the names and bytes of a folder's weight files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in WEIGHT_FILES):
        digest.update(f"{path.relative_to(folder)} {file_sha256(path)}\n".encode())
    return digest.hexdigest()
