"""Cells, streams and headers: what every step reads and writes its artifacts with."""

import errno
import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors import SafetensorError

from pipeline_steps.artifacts import (
    IMAGES,
    LORA,
    Origin,
    Table,
    decode_picture,
    encode_picture,
    is_blank,
    picture_size,
    raw_metadata,
)
from pipeline_steps.artifacts.files import (
    appears_whole,
    file_sha256,
    folder_sha256,
    rebuild,
    spreadsheet_text,
    write_text,
)
from pipeline_steps.artifacts.origin import picture_note
from pipeline_steps.artifacts.streams import batches, one_size, seen_size, shard_batches, train_batches
from pipeline_steps.errors import UserError

NUMBERS = Table(
    "numbers", 3, pa.schema([pa.field("n", pa.int64(), nullable=False), ("word", pa.string())]), ("n",)
)


def picture(width, height, value=0):
    return Image.fromarray(np.full((height, width, 3), value, np.uint8))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "I;16"])
def test_a_cell_keeps_the_picture_as_it_is(mode):
    drawn = Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30))
    drawn = drawn if mode == "I;16" else drawn.convert("L").convert(mode)
    cell = encode_picture(drawn, "a.png")
    assert cell["path"] == "a.png" and cell["bytes"].startswith(b"\x89PNG")
    assert picture_size(cell) == (30, 20)
    found = decode_picture(cell)
    assert found.mode == mode and found.tobytes() == drawn.tobytes()


def test_a_picture_of_one_colour_is_blank():
    drawn = picture(3, 2, 7)
    assert is_blank(drawn) and is_blank(drawn.convert("L"))
    drawn.putpixel((2, 1), (7, 7, 8))
    assert not is_blank(drawn)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@a", "\ta", "\ra"])
def test_no_cell_is_a_formula(text):
    assert spreadsheet_text(text) == "'" + text


def test_other_cells_stay():
    assert [spreadsheet_text(cell) for cell in ("a=1", "", 5, None)] == ["a=1", "", "5", "None"]


def test_checksums_are_of_bytes_and_names(tmp_path):
    (tmp_path / "sub").mkdir()
    weights = {"sub/b.bin": b"2", "a.safetensors": b"1", "c.pt": b"", "d.pth": b"4", "e.tar": b"5"}
    for name, data in weights.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "config.json").write_text("{}")
    assert file_sha256(tmp_path / "d.pth") == hashlib.sha256(b"4").hexdigest()
    listed = "".join(f"{name} {hashlib.sha256(weights[name]).hexdigest()}\n" for name in sorted(weights))
    assert folder_sha256(tmp_path) == hashlib.sha256(listed.encode()).hexdigest()


def test_a_file_replaces_another_and_folders_are_made(tmp_path):
    path = tmp_path / "new/folder/a.txt"
    write_text(path, "é\n")
    write_text(path, "ü\n")
    assert path.read_bytes() == b"\xc3\xbc\n" and [*path.parent.iterdir()] == [path]
    # A predecessor that is still alive has lost its part, and cannot put it over the new file.
    with pytest.raises(FileNotFoundError), appears_whole(path) as late:
        late.write_text("late")
        write_text(path, "ours")
    assert path.read_text() == "ours"


def test_what_is_to_be_deleted_is_quoted(tmp_path):
    found = rebuild(tmp_path / "a b", tmp_path / "c")
    assert found == f"delete '{tmp_path}/a b' {tmp_path}/c and give Snakemake the same command again"


def test_headers_of_pictures_and_of_other_files(tmp_path):
    picture(2, 2).save(tmp_path / "a.png", pnginfo=picture_note(Origin("korea", "ab")))
    assert json.loads(raw_metadata(tmp_path / "a.png")["scoft"]) == {"culture": "korea", "fingerprint": "ab"}
    pq.write_table(pa.table({"n": [1]}).replace_schema_metadata({"k": b"\xff"}), tmp_path / "b.parquet")
    assert raw_metadata(tmp_path / "b.parquet")["k"] == "\ufffd"
    (tmp_path / "c.txt").write_text("text")
    (tmp_path / "d.png").write_text("no picture")
    assert raw_metadata(tmp_path / "c.txt") == raw_metadata(tmp_path / "d.png") == {}
    (tmp_path / "e.safetensors").write_text("no tensors")
    assert raw_metadata(tmp_path / "e.safetensors") == {}


def test_a_table_streams_in_groups_that_do_not_depend_on_its_writer(tmp_path):
    rows = [{"n": n, "word": None if n % 2 else str(n)} for n in range(130)]
    NUMBERS.write(tmp_path / "a.parquet", rows, Origin("korea", "ab"), {"more": 5})
    about = pq.read_metadata(tmp_path / "a.parquet")
    assert [about.row_group(n).num_rows for n in range(about.num_row_groups)] == [64, 64, 2]
    assert NUMBERS.read(tmp_path / "a.parquet") == rows and NUMBERS.count(tmp_path / "a.parquet") == 130
    # The key is always read: rows are in its order.
    assert NUMBERS.read(tmp_path / "a.parquet", ["word"])[2] == {"n": 2, "word": "2"}
    assert [*NUMBERS.read(tmp_path / "a.parquet", [])[0]] == ["n"]
    note = {"artifact": "numbers", "version": 3, "culture": "korea", "fingerprint": "ab", "more": 5}
    assert NUMBERS.note(tmp_path / "a.parquet") == note
    NUMBERS.write(tmp_path / "b.parquet", [])
    assert NUMBERS.read(tmp_path / "b.parquet") == []
    assert NUMBERS.note(tmp_path / "b.parquet") == {"artifact": "numbers", "version": 3}


def test_a_row_has_every_column_and_no_other(tmp_path):
    for row, words in (
        ({"n": 1}, r"numbers: \['word'\]"),
        ({"n": 1, "word": "", "x": 1}, r"numbers: \['x'\]"),
    ):
        with pytest.raises(KeyError, match=words):
            NUMBERS.write(tmp_path / "a.parquet", [row])
    assert not [*tmp_path.iterdir()]


def test_refusals_name_the_row_and_both_versions(tmp_path):
    path = tmp_path / "a.parquet"
    with pytest.raises(UserError, match=r"a.parquet: row n=None: 'n' is missing; delete "):
        NUMBERS.write(path, [{"n": None, "word": "a"}])
    with pytest.raises(UserError, match=r"a.parquet: row n=1 is repeated or out of order; delete "):
        NUMBERS.write(path, [{"n": 1, "word": "a"}, {"n": 1, "word": "b"}])
    NUMBERS.write(path, [{"n": 1, "word": "a"}])
    with pytest.raises(UserError, match=r"'numbers' v3, this version reads v4; delete "):
        Table("numbers", 4, NUMBERS.schema, ("n",)).read(path)
    with pytest.raises(UserError, match=r"expected 'letters', found 'numbers'; delete "):
        Table("letters", 3, NUMBERS.schema, ("n",)).read(path)
    with pytest.raises(UserError, match=r"its columns are not those of 'numbers' v3; delete "):
        Table("numbers", 3, pa.schema([("n", pa.int32())]), ("n",)).note(path)
    with pytest.raises(UserError, match=r"no such file; 'numbers' was expected here; give Snakemake the "):
        NUMBERS.count(tmp_path / "gone.parquet")


def test_a_full_disk_is_told_with_the_files_own_name(tmp_path, monkeypatch):
    """Python's, Arrow's and safetensors' own words, as a full tmpfs gave them."""
    full = OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] No space left on device")
    with pytest.raises(OSError, match="No space left") as error, appears_whole(tmp_path / "a.parquet"):
        raise full
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path / "a.parquet"))

    def save(*_, **__):
        raise SafetensorError(f"Error while serializing: I/O error: {words}")

    monkeypatch.setattr("safetensors.torch.save_file", save)
    words = "No space left on device (os error 28)"
    with pytest.raises(OSError, match="No space left") as error:
        LORA.write(tmp_path / "a.safetensors", {}, Origin("korea", "ab"))
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path / "a.safetensors"))
    words = "Input/output error (os error 5)"
    with pytest.raises(SafetensorError):
        LORA.write(tmp_path / "a.safetensors", {}, Origin("korea", "ab"))
    assert not [*tmp_path.iterdir()]


def test_the_hub_is_told_what_the_columns_hold(tmp_path):
    """As ``datasets`` writes it: {"info": {"features": {name: {"dtype": …, "_type": …}}}}."""
    schema = pa.schema(
        [("n", pa.float64()), ("f", pa.float32()), ("i", pa.int16()), ("b", pa.bool_()),
         ("s", pa.list_(pa.string())), ("image", IMAGES.schema.field("image").type)]
    )  # fmt: skip
    Table("t", 1, schema, ("n",)).write(tmp_path / "a.parquet", [])
    features = json.loads(raw_metadata(tmp_path / "a.parquet")["huggingface"])["info"]["features"]
    assert features == {
        "n": {"dtype": "float64", "_type": "Value"},
        "f": {"dtype": "float32", "_type": "Value"},
        "i": {"dtype": "int16", "_type": "Value"},
        "b": {"dtype": "bool", "_type": "Value"},
        "s": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
        "image": {"_type": "Image"},
    }


def test_tensor_files_have_one_order_whoever_writes_them(tmp_path):
    import torch

    extra = {letter: letter for letter in "zyxab"}
    LORA.write(tmp_path / "a", {"b": torch.ones(2).T, "a": torch.zeros(2, 3).T}, Origin("korea", "ab"), extra)
    data = (tmp_path / "a").read_bytes()
    size = int.from_bytes(data[:8], "little")
    assert [*json.loads(data[8 : 8 + size])["__metadata__"]] == [
        "a",
        "b",
        "scoft",
        "scoft_seal",
        "x",
        "y",
        "z",
    ]
    assert LORA.metadata(tmp_path / "a").keys() == {*extra, "scoft"}
    assert LORA.read(tmp_path / "a")["a"].shape == (3, 2)


def test_batches_and_shares():
    rows = [{"n": n, "size": (8, 8) if n < 3 or n > 5 else (8, 4)} for n in range(10)]
    assert [[row["n"] for row in batch] for batch in batches(rows, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    cut = one_size(batches(rows, 4), lambda row: row["size"])
    assert [[row["n"] for row in batch] for batch in cut] == [[0, 1, 2], [3], [4, 5], [6, 7], [8, 9]]
    whole = [*batches(rows, 4)]
    for shards in (1, 2, 3, 5):
        shares = [[*shard_batches(rows, 10, 4, (k, shards), "x")] for k in range(1, shards + 1)]
        assert [batch for share in shares for batch in share] == whole
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def image_rows(sizes, splits):
    about = dict.fromkeys(IMAGES.schema.names) | {"crop": [0, 0, 9, 9], "source_width": 9, "source_height": 9}
    for n, (size, split) in enumerate(zip(sizes, splits, strict=True)):
        texts = {
            field.name: f"{n}"
            for field in IMAGES.schema
            if not field.nullable and pa.types.is_string(field.type)
        }
        yield (
            about
            | texts
            | {"image_id": f"{n}", "split": split, "image": encode_picture(picture(*size), "x.png")}
        )


def test_training_pictures_stream_and_none_is_an_error(tmp_path):
    IMAGES.write(
        tmp_path / "a.parquet", image_rows([(4, 4)] * 5, ["train", "test", "train", "test", "train"])
    )
    found = [*train_batches(tmp_path / "a.parquet", 2, "x")]
    assert [[row["image_id"] for row in batch] for batch in found] == [["0", "2"], ["4"]]
    IMAGES.write(tmp_path / "b.parquet", image_rows([(4, 4)], ["test"]))
    with pytest.raises(UserError, match=r"b.parquet: no training picture; add pictures"):
        [*train_batches(tmp_path / "b.parquet", 2, "x")]


@pytest.mark.parametrize(
    ("size", "resolution", "seen"),
    [((6, 6), 64, (6, 6)), ((6, 4), 64, (64, 64)), ((6, 4), None, (6, 4))],
)
def test_unlike_pictures_are_seen_as_squares(size, resolution, seen, tmp_path):
    note = {} if resolution is None else {"resolution": resolution}
    IMAGES.write(tmp_path / "a.parquet", image_rows([size], ["train"]), None, note)
    assert seen_size(IMAGES, tmp_path / "a.parquet") == seen
