"""The contract of every artifact: what is damaged, foreign or old is refused in one clear line."""

import json
import os
import pickle
import random
import shlex

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pipeline_steps import artifacts
from pipeline_steps.artifacts import (
    CAPTIONS,
    DEPTH,
    IMAGES,
    LORA,
    PICTURE,
    TRAIN_CACHE,
    Origin,
    Table,
    TensorFile,
    appears_whole,
    encode_picture,
    raw_metadata,
    same_origin,
)
from pipeline_steps.errors import UserError

ORIGIN = Origin("korea", "ab" * 32)
TABLES = {t.name: t for t in vars(artifacts).values() if isinstance(t, Table)}
TENSORS = {t.name: t for t in vars(artifacts).values() if isinstance(t, TensorFile)}
PNG = encode_picture(Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3)), "x.png")


def example(kind: pa.DataType, place: int):
    """A value of a column's type that grows with the row."""
    if kind == PICTURE:
        return PNG
    if pa.types.is_list(kind):
        return [example(kind.value_type, place)]
    if pa.types.is_boolean(kind):
        return place % 2 == 0
    return f"value {place:03}" if pa.types.is_string(kind) else place


def write(artifact, path, origin=ORIGIN):
    """Write a small artifact of any kind."""
    if isinstance(artifact, Table):
        rows = [{f.name: example(f.type, n) for f in artifact.schema} for n in range(70)]
        artifact.write(path, rows, origin)
    else:
        artifact.write(path, {"a": torch.arange(12.0).reshape(3, 4), "b": torch.arange(5)}, origin)
    return path


def refusal(read, path, name):
    """Return the line with which a file is refused, checked to say which, what and how to mend it."""
    with pytest.raises(UserError) as error:
        read(path)
    line = str(error.value)
    assert "\n" not in line
    assert str(path) in line and (f"'{name}'" in line or "damaged" in line)
    assert "give Snakemake the same command again" in line
    assert (f"delete {shlex.quote(str(path))} and give" in line) == path.exists(), "nothing to delete"
    return line


# --- what can happen to a file ----------------------------------------------------------------


def cut(path, artifact):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_at_the_end(path, artifact):
    path.write_bytes(path.read_bytes()[:-1])


def flipped(path, artifact):
    data, place = bytearray(path.read_bytes()), -3
    if isinstance(artifact, Table):
        column = pq.read_metadata(path).row_group(0).column(0)
        place = column.data_page_offset + column.total_compressed_size // 2
    data[place] ^= 4
    path.write_bytes(data)


def emptied(path, artifact):
    path.write_bytes(b"")


def zeroed(path, artifact):
    path.write_bytes(bytes(path.stat().st_size))


def gone(path, artifact):
    path.unlink()


def a_folder(path, artifact):
    path.unlink()
    path.mkdir()


def a_pickle(path, artifact):
    path.write_bytes(pickle.dumps({"weights": [1.0]}))


def of_another_kind(path, artifact):
    if isinstance(artifact, Table):
        write(DEPTH if artifact is not DEPTH else CAPTIONS, path)
    else:
        write(LORA if artifact is not LORA else TRAIN_CACHE, path)


def of_another_program(path, artifact):
    if isinstance(artifact, Table):
        pq.write_table(pa.table({"a": [1]}), path)
    else:
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(2)}, path)


def of_an_older_version(path, artifact):
    kinds = {"schema": artifact.schema, "key": artifact.key} if isinstance(artifact, Table) else {}
    write(type(artifact)(artifact.name, artifact.version - 1, **kinds), path)


def with_an_older_schema(path, artifact):
    if isinstance(artifact, Table):
        last = len(artifact.schema) - 1
        write(Table(artifact.name, artifact.version, artifact.schema.remove(last), artifact.key[:1]), path)
    else:
        of_an_older_version(path, artifact)


DAMAGES = [
    cut,
    cut_at_the_end,
    flipped,
    emptied,
    zeroed,
    gone,
    a_folder,
    a_pickle,
    of_another_kind,
    of_another_program,
    of_an_older_version,
    with_an_older_schema,
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [*TABLES, *TENSORS])
def test_damage_is_refused_in_one_line(name, damage, tmp_path):
    artifact = TABLES.get(name) or TENSORS[name]
    path = write(artifact, tmp_path / f"a b.{'parquet' if name in TABLES else 'safetensors'}")
    assert artifact.read(path)
    damage(path, artifact)
    refusal(artifact.read, path, name)


@pytest.mark.parametrize("artifact", [IMAGES, TRAIN_CACHE], ids=["table", "tensors"])
def test_no_flipped_bit_is_taken_for_good(artifact, tmp_path):
    path = write(artifact, tmp_path / "file.parquet")

    def read(path):
        found = artifact.read(path)
        tensors = isinstance(artifact, TensorFile)
        facts = artifact.metadata(path) if tensors else artifact.count(path)
        return (
            str({k: v.tolist() for k, v in found.items()} if tensors else found),
            facts,
            artifact.note(path),
        )

    good, data, rng = read(path), path.read_bytes(), random.Random(7)
    for _ in range(400):
        spoilt = bytearray(data)
        spoilt[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(spoilt)
        try:
            assert read(path) == good  # unused bytes there are, in both formats
        except UserError as error:
            assert "\n" not in str(error)


def test_contents_that_break_the_contract_are_never_written(tmp_path):
    path = tmp_path / "captions.parquet"
    row = {"image_id": "a", "index": 0, "caption": "x"}
    for rows, words in (
        ([row, row], "is repeated or out of order"),
        ([row | {"image_id": "b"}, row], "is repeated or out of order"),
        ([row | {"caption": None}], "'caption' is missing"),
    ):
        with pytest.raises(UserError, match=words):
            CAPTIONS.write(path, rows)
        assert list(tmp_path.iterdir()) == []


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "captions.parquet"
    (tmp_path / ".captions.parquet.0123.part").write_text("of a killed predecessor")
    with pytest.raises(RuntimeError), appears_whole(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_a_file_has_the_rights_that_the_umask_leaves(umask, tmp_path):
    """A lab shares its results."""
    before = os.umask(umask)
    try:
        for name, kind in (TABLES | TENSORS).items():
            write(kind, tmp_path / name)
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~umask, name
    finally:
        os.umask(before)


def test_files_of_different_pictures_or_cultures_do_not_mix(tmp_path):
    ours, theirs = write(CAPTIONS, tmp_path / "a"), write(DEPTH, tmp_path / "b", Origin("wales", "cd" * 32))
    with pytest.raises(UserError, match=r"made from other pictures than .*; delete .*/b .*/a and give"):
        same_origin((CAPTIONS, ours), (DEPTH, theirs))
    with pytest.raises(UserError, match=r"belongs to culture 'wales', not 'korea'; delete "):
        same_origin((DEPTH, theirs), culture="korea")


def test_same_contents_same_bytes(tmp_path):
    for artifact in (CAPTIONS, TRAIN_CACHE):
        first, second = (write(artifact, tmp_path / name).read_bytes() for name in "ab")
        assert first == second


def test_metadata_of_any_file(tmp_path):
    for artifact, name in ((CAPTIONS, "a.parquet"), (LORA, "a.safetensors")):
        note = json.loads(raw_metadata(write(artifact, tmp_path / name))["scoft"])
        assert note["fingerprint"] == ORIGIN.fingerprint
    (tmp_path / "b.parquet").write_text("no table")
    assert raw_metadata(tmp_path / "b.parquet") == raw_metadata(tmp_path / "c.safetensors") == {}
