"""Every oddity a user's folder may hold, with the line it earns; then the table that comes out."""

import csv
import hashlib
import io
import json
import os
import struct
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageCms

from pipeline_steps import artifacts
from pipeline_steps.artifacts import FINDINGS, IMAGES
from pipeline_steps.config import DataConfig
from pipeline_steps.data.ingest import ingest
from pipeline_steps.data.names import picture_id
from pipeline_steps.data.picture_files import UnusableError, cut
from pipeline_steps.errors import UserError

SIDE = 32


def drawn(seed: int = 0, size: tuple[int, int] = (48, 40), mode: str = "RGB") -> Image.Image:
    """A smooth random picture, so that no two seeds look alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


PNG, JPEG = encoded(drawn(1)), encoded(drawn(1), "JPEG", quality=92)


class Corpus:
    """A folder with two good pictures, to which a case adds its oddity."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict | str] = []
        for index, split in ((101, "train"), (102, "test")):
            self.add(f"good_{split}.png", encoded(drawn(index)), split=split)

    def add(self, name: str, data: bytes | None, row: bool = True, **columns) -> None:
        if data is not None:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if row:
            self.rows.append({"file_name": name, "text": "a gate, in wales"} | columns)

    def write(self) -> None:
        lines = [r if isinstance(r, str) else json.dumps(r) for r in self.rows]
        (self.folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")

    def csv(self, mark: str = ",", encoding: str = "utf-8") -> None:
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with (self.folder / "metadata.csv").open("w", encoding=encoding, newline="") as file:
            table = csv.DictWriter(file, names, delimiter=mark)
            table.writeheader()
            table.writerows(self.rows)


def run(folder: Path, out: Path, withdrawn: Path | None = None, **config):
    """Ingest and return the rows by id and the findings as "file: line"."""
    settings = DataConfig(**{"resolution": SIDE} | config)
    ingest(
        folder, out / "images.parquet", "wales", ", in wales", 7, settings,
        findings=out / "findings.parquet", withdrawn=withdrawn, data_sets=out / "data_sets",
    )  # fmt: skip
    rows = {row["image_id"]: row for row in IMAGES.rows(out / "images.parquet")}
    lines = [f"{row['file']}: {row['line']}" for row in FINDINGS.rows(out / "findings.parquet")]
    return rows, lines


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "culture"
    folder.mkdir()
    return Corpus(folder)


# --- one odd picture: what becomes of it, and the line it earns ---------------------------------


def broken_png() -> bytes:
    return PNG[:60] + bytes([PNG[60] ^ 255]) + PNG[61:]


def bomb() -> bytes:
    """A PNG that claims 50000 × 50000 pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50000, 50000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")


def frames(kind: str) -> bytes:
    return encoded(drawn(1), kind, save_all=True, append_images=[drawn(2), drawn(3)])


def floats(scale: float) -> bytes:
    grey = np.asarray(drawn(1).convert("L"), dtype=np.float32)
    return encoded(Image.fromarray(grey / 255 * scale), "TIFF")


def glassy(mode: str) -> Image.Image:
    picture = drawn(1).convert("RGBA")
    alpha = Image.new("L", picture.size, 255)
    alpha.paste(0, (0, 0, 12, 12))
    picture.putalpha(alpha)
    return picture.convert(mode)


def palette_with_transparency() -> bytes:
    return encoded(drawn(1).quantize(16), transparency=3)


def profile(space: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()


KEPT_QUIETLY = {
    "odd.png": PNG,
    "odd.jpg": JPEG,
    "progressive.jpg": encoded(drawn(1), "JPEG", progressive=True),
    "odd.webp": encoded(drawn(1), "WEBP", quality=95),
    "odd.avif": encoded(drawn(1), "AVIF", quality=95),
    "odd.bmp": encoded(drawn(1), "BMP"),
    "odd.gif": encoded(drawn(1), "GIF"),
    "odd.tif": encoded(drawn(1), "TIFF"),
    "odd.jp2": encoded(drawn(1), "JPEG2000"),
    "odd.ppm": encoded(drawn(1), "PPM"),
    "grey.png": encoded(drawn(1, mode="L")),
    "palette.png": encoded(drawn(1).quantize(64)),
    "bilevel.png": encoded(drawn(1, mode="1")),
    "cmyk.jpg": encoded(drawn(1, mode="CMYK"), "JPEG"),
    "cmyk.tif": encoded(drawn(1, mode="CMYK"), "TIFF"),
    "lab.tif": encoded(
        ImageCms.profileToProfile(
            drawn(1), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        ),
        "TIFF",
    ),
    "ycbcr.tif": encoded(drawn(1, mode="YCbCr"), "TIFF"),
    "opaque alpha.png": encoded(drawn(1, mode="RGBA")),
    "srgb profile.png": encoded(drawn(1), icc_profile=profile("sRGB")),
    "no ending": PNG,
    "with  spaces .png": PNG,
    "한복 사진.png": PNG,
    "दीवाली.png": PNG,
    "🏮🎎.png": PNG,
    "العربية.png": PNG,
    "deep/er/still.png": PNG,
    "quote'\"s.png": PNG,
    "percent%20 & ; $HOME `x`.png": PNG,
    "-rf.png": PNG,
    "x" * 240 + ".png": PNG,
}


@pytest.mark.parametrize("name", KEPT_QUIETLY)
def test_is_kept_without_a_word(corpus, tmp_path, name):
    corpus.add(name, KEPT_QUIETLY[name], split="train")
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert lines == []
    assert len(rows) == 3
    row = rows[picture_id(name)]
    shown = np.asarray(artifacts.decode_picture(row["image"]), dtype=float)
    expected = np.asarray(drawn(1).crop((4, 0, 44, 40)).resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    if name.startswith(("grey", "bilevel")):
        expected = (expected @ [0.299, 0.587, 0.114])[..., None]
    if not name.startswith("bilevel"):
        assert np.abs(shown - expected).mean() < 16, "these are other colours"
    assert (row["source_width"], row["source_height"], row["crop"]) == (48, 40, [4, 0, 44, 40])


KEPT_AND_NAMED = {
    "png named as.jpg": (PNG, "is PNG inside, whatever .jpg says; read as what it is"),
    "jpeg named as.txt.PNG": (JPEG, "is JPEG inside, whatever .PNG says; read as what it is"),
    "webp named as.jpeg": (encoded(drawn(1), "WEBP"), "is WEBP inside, whatever .jpeg says"),
    "16 bit.png": (
        encoded(Image.fromarray(np.asarray(drawn(1, mode="L")).astype(np.uint16) * 257)),
        "16-bit or floating-point grey; brought to 8 bits",
    ),
    "float.tif": (floats(1.0), "16-bit or floating-point grey; brought to 8 bits"),
    "rgba.png": (encoded(glassy("RGBA")), "had transparent parts; laid on white"),
    "grey alpha.png": (encoded(glassy("LA")), "had transparent parts; laid on white"),
    "rgba.webp": (encoded(glassy("RGBA"), "WEBP"), "had transparent parts; laid on white"),
    "palette.png": (palette_with_transparency(), "had transparent parts; laid on white"),
    "moving.gif": (frames("GIF"), "has 3 frames or pages; the first is used"),
    "moving.webp": (frames("WEBP"), "has 3 frames or pages; the first is used"),
    "moving.png": (frames("PNG"), "has 3 frames or pages; the first is used"),
    "pages.tif": (frames("TIFF"), "has 3 frames or pages; the first is used"),
    "profile is rubbish.png": (
        encoded(drawn(1), icc_profile=b"rubbish"),
        "its colour profile cannot be used",
    ),
    "profile of another mode.png": (
        encoded(drawn(1), icc_profile=profile("LAB")),
        "its colour profile cannot be used; read as sRGB",
    ),
    "wide.png": (encoded(drawn(1, (160, 40))), "160×40: the centre crop keeps 25% of it; crop it by hand"),
    "tall.png": (encoded(drawn(1, (40, 160))), "40×160: the centre crop keeps 25% of it; crop it by hand"),
    "small.png": (
        encoded(drawn(1, (20, 30))),
        "20×30 is smaller than 32 pixels and is enlarged; find a larger one",
    ),
}


@pytest.mark.parametrize("name", KEPT_AND_NAMED)
def test_is_kept_and_named(corpus, tmp_path, name):
    data, line = KEPT_AND_NAMED[name]
    corpus.add(name, data, split="train")
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert picture_id(name) in rows
    assert len(lines) == 1
    assert lines[0].startswith(f"{name}: {line}")


LEFT_OUT = {
    "empty.png": (b"", "is empty (0 bytes); fetch it again"),
    "cut short.jpg": (JPEG[: len(JPEG) // 2], "damaged or cut short (image file is truncated"),
    "cut short.png": (PNG[: len(PNG) // 2], "damaged or cut short ("),
    "header only.jpg": (JPEG[:20], "is no picture that can be read; export it as JPEG or PNG"),
    "bad checksum.png": (broken_png(), "damaged"),
    "bomb.png": (bomb(), "50000×50000 pixels are more than data.max_megapixels (120); make it smaller"),
    "page.jpg": (
        b"\n<!DOCTYPE html><html>gone</html>",
        "is a web page, not a picture; download the picture itself",
    ),
    "drawing.svg": (b'<?xml version="1.0"?><svg/>', "is an SVG drawing; export it as PNG"),
    "paper.pdf": (b"%PDF-1.7 x", "is a PDF; export its picture as PNG"),
    "print.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is PostScript; export it as PNG"),
    "many.zip": (b"PK\x03\x04xxxx", "is a ZIP archive; unpack it"),
    "film.mp4": (b"\0\0\0\x18ftypisom\0\0\0\0", "is a video; export one frame as PNG"),
    "film.webm": (b"\x1a\x45\xdf\xa3xxxx", "is a video; export one frame as PNG"),
    "pointer.jpg": (
        b"version https://git-lfs.github.com/spec/v1\n",
        "is a Git LFS pointer; run 'git lfs pull'",
    ),
    "text.jpg": (b"not a picture", "is no picture that can be read; export it as JPEG or PNG"),
    "noise.jpg": (bytes(range(256)) * 4, "is no picture that can be read; export it as JPEG or PNG"),
    "tiny.png": (encoded(drawn(1, (15, 400))), "15×400 pixels show nothing; find a larger one"),
    "dot.png": (encoded(drawn(1, (1, 1))), "1×1 pixels show nothing; find a larger one"),
    "white.png": (encoded(Image.new("RGB", (40, 40), "white")), "is one flat colour; replace it"),
    "glass.png": (encoded(Image.new("RGBA", (40, 40))), "is one flat colour; replace it"),
    "height map.tif": (floats(5000.0), "holds numbers without a known range"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_is_left_out_and_named(corpus, tmp_path, name):
    data, line = LEFT_OUT[name]
    corpus.add(name, data)
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert sorted(rows) == ["good_test", "good_train"]
    assert [found for found in lines if found.startswith(f"{name}: {line}")], lines


def test_heic_is_read_where_its_plugin_is_installed_and_named_where_not(corpus, tmp_path):
    corpus.add("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    corpus.write()
    _, lines = run(corpus.folder, tmp_path)
    try:
        import pillow_heif
    except ImportError:
        assert lines == ["phone.heic: is HEIC; install pillow-heif, or export it as JPEG"]
        return
    pillow_heif.register_heif_opener()
    corpus.add("phone.heic", encoded(drawn(1), "HEIF"), row=False)
    rows, _ = run(corpus.folder, tmp_path)
    assert "phone" in rows


# --- one odd row or name ------------------------------------------------------------------------

ROWS_LEFT_OUT = {
    "no such file": (
        {"file_name": "gone.png", "text": "x"},
        "gone.png: no such file; add it or delete its row",
    ),
    "parent": (
        {"file_name": "../secret.png", "text": "x"},
        "../secret.png: lies outside the folder; copy it",
    ),
    "absolute": (
        {"file_name": "/etc/passwd", "text": "x"},
        "/etc/passwd: is an absolute path; write it relative",
    ),
    "drive": ({"file_name": "C:\\p.png", "text": "x"}, "C:/p.png: is an absolute path; write it relative"),
    "link": ({"file_name": "https://x.org/a.jpg", "text": "x"}, "https://x.org/a.jpg: is a link, not a file"),
    "a folder": ({"file_name": "inner", "text": "x"}, "inner: is no file; delete its row"),
    "control character": (
        {"file_name": "a\nb.png", "text": "x"},
        "a b.png: its name holds control characters; rename",
    ),
    "null character": (
        {"file_name": "a\0b.png", "text": "x"},
        "a b.png: its name holds control characters; rename",
    ),
    "lone surrogate": ({"file_name": "\ud800.png", "text": "x"}, "?.png: no such file"),
    "no file name": (
        {"file_name": None, "text": "x"},
        "metadata.jsonl line 3: has no file_name; write it or delete",
    ),
    "empty file name": (
        {"file_name": "  ", "text": "x"},
        "metadata.jsonl line 3: has no file_name; write it",
    ),
    "no caption": ({"file_name": "odd.png"}, "odd.png: has no caption; write one"),
    "empty caption": ({"file_name": "odd.png", "text": " \t\n"}, "odd.png: has no caption; write one"),
    "null caption": ({"file_name": "odd.png", "text": None}, "odd.png: has no caption; write one"),
    "number as caption": (
        {"file_name": "odd.png", "text": 7},
        "odd.png: its caption is not text; write a sentence",
    ),
    "NaN as caption": ('{"file_name": "odd.png", "text": NaN}', "odd.png: has no caption; write one"),
    "unknown split": (
        {"file_name": "odd.png", "text": "x", "split": "both"},
        "odd.png: its split is 'both'; write train or test",
    ),
    "half a character as split": (
        {"file_name": "odd.png", "text": "x", "split": "tr\ud800ain"},
        "odd.png: its split is 'tr?ain'; write train or test",
    ),
}


@pytest.mark.parametrize("case", ROWS_LEFT_OUT)
def test_row_is_left_out_and_named(corpus, tmp_path, case):
    row, line = ROWS_LEFT_OUT[case]
    (corpus.folder / "inner").mkdir()
    corpus.add("odd.png", PNG, row=False)
    (tmp_path / "secret.png").write_bytes(encoded(drawn(9)))
    corpus.rows.append(row)
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert sorted(rows) == ["good_test", "good_train"]
    assert [found for found in lines if found.startswith(line)], lines


ROWS_KEPT = {
    "folded caption": ({"text": "a  gate\n in\twales"}, "a gate in wales", []),
    "caption with tags": (
        {"text": "<script>alert('wales')</script>"},
        "<script>alert('wales')</script>",
        ["suffix"],
    ),
    "several captions": (
        {"text": ["a gate, in wales", "another"]},
        "a gate, in wales",
        ["odd.png: has 2 captions; the first is used"],
    ),
    "decomposed Hangul": ({"text": unicodedata.normalize("NFD", "한옥, in wales")}, "한옥, in wales", []),
    "lone surrogate": ({"text": "a \ud83d gate, in wales"}, "a ? gate, in wales", []),
    "suffix missing": (
        {"text": "a gate"},
        "a gate",
        [": 1 of 3 captions do not say 'in wales'; they are kept as written"],
    ),
}


@pytest.mark.parametrize("case", ROWS_KEPT)
def test_row_is_kept(corpus, tmp_path, case):
    columns, caption, expected = ROWS_KEPT[case]
    corpus.add("odd.png", PNG, **columns, split="train")
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert rows["odd"]["caption"] == caption
    if expected != ["suffix"]:
        assert lines == expected


def test_link_out_of_the_folder_is_left_out(corpus, tmp_path):
    (tmp_path / "outside.png").write_bytes(PNG)
    (corpus.folder / "odd.png").symlink_to(tmp_path / "outside.png")
    corpus.add("odd.png", None)
    corpus.write()
    _, lines = run(corpus.folder, tmp_path)
    where = "(metadata.jsonl line 3)"
    assert lines == [
        f"odd.png: is a link that leads out of the folder; copy the picture into the folder {where}"
    ]


def test_pipe_is_never_opened(corpus, tmp_path):
    os.mkfifo(corpus.folder / "odd.png")
    corpus.add("odd.png", None)
    corpus.write()
    _, lines = run(corpus.folder, tmp_path)
    assert lines == ["odd.png: is no file; delete its row (metadata.jsonl line 3)"]


def test_folder_may_itself_be_a_link(corpus, tmp_path):
    corpus.write()
    (tmp_path / "alias").symlink_to(corpus.folder)
    assert len(run(tmp_path / "alias", tmp_path)[0]) == 2


@pytest.mark.parametrize("written, stored", [("NFC", "NFD"), ("NFD", "NFC")])
def test_unicode_form_of_a_name_does_not_matter(corpus, tmp_path, written, stored):
    corpus.add(unicodedata.normalize(stored, "한복.png"), PNG, row=False)
    corpus.add(unicodedata.normalize(written, "한복.png"), None, split="train")
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert "한복" in rows
    assert lines == []


@pytest.mark.parametrize("written", ["ODD.PNG", "./odd.png", "inner/../odd.png", ".\\odd.png"])
def test_other_spellings_of_a_name(corpus, tmp_path, written):
    corpus.add("odd.png", PNG, row=False)
    corpus.add(written, None, split="train")
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert len(rows) == 3
    assert lines == []


def test_picture_without_a_row_is_named(corpus, tmp_path):
    corpus.add("odd.png", PNG, row=False)
    corpus.write()
    _, lines = run(corpus.folder, tmp_path)
    assert lines == ["odd.png: no row in the metadata names it; add one with its caption"]


def test_what_systems_leave_behind_is_passed_over(corpus, tmp_path):
    for name in (".DS_Store", "._good_train.png", "Thumbs.db", "__MACOSX/a.png", ".git/b.png"):
        corpus.add(name, PNG, row=False)
    corpus.write()
    assert run(corpus.folder, tmp_path)[1] == []


def test_repeated_row_counts_once(corpus, tmp_path):
    corpus.add("good_train.png", None, text="another caption, in wales", split="train")
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert rows["good_train"]["caption"] == "a gate, in wales"
    assert lines == ["good_train.png: has several rows; the first counts"]


def test_large_files_and_small_pictures_obey_the_settings(corpus, tmp_path):
    corpus.add("large.png", encoded(drawn(1, (400, 400))), split="train")
    corpus.write()
    _, lines = run(corpus.folder, tmp_path, max_megabytes=0.01, allow_upscale=False)
    size = (corpus.folder / "large.png").stat().st_size / 1e6
    assert lines == [f"large.png: {size:.3g} MB are more than data.max_megabytes (0.01); make it smaller"]
    with pytest.raises(
        UserError, match=r"no usable picture; first: good_test\.png: 48×40 is smaller than 64 pixels"
    ):
        run(corpus.folder, tmp_path, resolution=64, allow_upscale=False, max_megapixels=0.1)


# --- folders that cannot be understood ----------------------------------------------------------


def no_folder(folder: Path) -> None:
    folder.rmdir()


def write(name: str, data: str | bytes):
    def make(folder: Path) -> None:
        path = folder / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())

    return make


def both_tables(folder: Path) -> None:
    for name in ("metadata.jsonl", "metadata.csv"):
        (folder / name).write_text("x")


def parquet(*columns: str):
    def make(folder: Path) -> None:
        pq.write_table(pa.table({name: [b"x"] for name in columns}), folder / "train.parquet")

    return make


ROW = '{"file_name": "a.png", "text": "x"}'
REFUSED = {
    "no folder": (no_folder, "no such folder; mend 'images' of the culture in the configuration"),
    "nothing": (lambda _: None, "holds no picture; put pictures and a metadata.jsonl there"),
    "no captions": (
        write("a.png", PNG),
        "holds 1 pictures and no captions; write metadata.jsonl, or one .txt per",
    ),
    "both tables": (both_tables, "holds metadata.jsonl and metadata.csv; keep one of them"),
    "empty table": (write("metadata.jsonl", ""), "metadata.jsonl: holds no row; write one line per picture"),
    "header only": (
        write("metadata.csv", "file_name,text\n"),
        "metadata.csv: holds no row; write one line per",
    ),
    "other name": (write("metadata.json", "[]"), "metadata.json: is not read; write metadata.jsonl"),
    "broken line": (
        write("metadata.jsonl", ROW + '\n{"file_name": "b'),
        "metadata.jsonl: line 2 is not JSON (",
    ),
    "JSON list": (write("metadata.jsonl", f"[{ROW}]"), "metadata.jsonl: line 1 is not an object like"),
    "deep JSON": (write("metadata.jsonl", "[" * 100_000), "metadata.jsonl: line 1 is not JSON ("),
    "no file_name": (
        write("metadata.jsonl", '{"image": 1}'),
        "no column 'file_name' (there are: image); rename",
    ),
    "no caption column": (
        write("metadata.csv", "file_name,caption\na.png,x\n"),
        "no column 'text' (there are: file_name, caption); rename the one with the captions, or set",
    ),
    "Korean encoding": (
        write("metadata.csv", "file_name,text\n1.png,한복\n".encode("cp949")),
        "metadata.csv: line 2 is not UTF-8; save the file as UTF-8",
    ),
    "nothing usable": (write("metadata.jsonl", ROW), "no usable picture; first: a.png: no such file"),
    "damaged Parquet": (write("train.parquet", "PAR1 no"), "train.parquet: damaged, cannot be read ("),
    "damaged Arrow": (write("data.arrow", "no"), "data.arrow: damaged, cannot be read ("),
    "Parquet without pictures": (parquet("text"), "no column 'image' (there are: text); rename it"),
    "Parquet without captions": (
        parquet("image"),
        "no column 'text' (there are: image); rename it, or set data.caption_column",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_folder_is_refused_in_one_line(tmp_path, case):
    make, line = REFUSED[case]
    folder = tmp_path / "culture"
    folder.mkdir()
    make(folder)
    with pytest.raises(UserError) as error:
        run(folder, tmp_path / "out")
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "images.parquet").exists()


def test_a_file_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "photo.png").write_bytes(PNG)
    with pytest.raises(UserError, match=r"neither a folder nor a \.parquet file"):
        run(tmp_path / "photo.png", tmp_path)


# --- other ways of handing in -------------------------------------------------------------------


@pytest.mark.parametrize(
    "mark, encoding", [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-16"), (",", "utf-8-sig")]
)
def test_csv_as_spreadsheets_write_it(corpus, tmp_path, mark, encoding):
    corpus.add("odd.png", PNG, text="one, two; three\tfour, in wales", split="train")
    corpus.csv(mark, encoding)
    rows, lines = run(corpus.folder, tmp_path)
    assert rows["odd"]["caption"] == "one, two; three four, in wales"
    assert lines == []


def test_csv_row_with_an_unquoted_comma_is_named(corpus, tmp_path):
    corpus.csv()
    with (corpus.folder / "metadata.csv").open("a") as file:
        file.write("good_test.png,a gate, and a wall,test\n")
    _, lines = run(corpus.folder, tmp_path)
    assert lines == ["metadata.csv line 4: has more fields than the header; quote texts with commas"]


def test_one_text_file_per_picture(tmp_path):
    folder = tmp_path / "culture"
    corpus = Corpus(folder)
    corpus.rows.clear()
    for name, text in (("good_train.txt", "a train, in wales"), ("good_test.png.txt", "a test, in wales")):
        (folder / name).write_text(text)
    (folder / "alone.txt").write_text("x")
    (folder / "bare.png").write_bytes(PNG)
    (folder / "latin.png").write_bytes(PNG)
    (folder / "latin.txt").write_bytes("caffè".encode("latin-1"))
    rows, lines = run(folder, tmp_path)
    assert {key: row["caption"] for key, row in rows.items()} == {
        "good_train": "a train, in wales",
        "good_test": "a test, in wales",
    }
    assert lines[0] == "bare.png: has no caption; write one"
    assert lines[1].endswith("latin.txt: line 1 is not UTF-8; save the file as UTF-8")
    assert lines[2] == "alone.txt: is a caption without a picture; add the picture"
    assert {row["split"] for row in rows.values()} == {"train", "test"}


def test_splits_from_the_folders_of_an_imagefolder(tmp_path):
    for index, split in enumerate(("train", "test")):
        folder = tmp_path / "culture" / split
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(encoded(drawn(index)))
        (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "text": "x, in wales"}))
    rows, lines = run(tmp_path / "culture", tmp_path)
    assert sorted((row["split"], key.split("~")[0]) for key, row in rows.items()) == [
        ("test", "a"),
        ("train", "a"),
    ]
    assert len(rows) == 2
    assert lines == []


def hub_table(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows)


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_hugging_face_data_set(tmp_path, ending):
    folder = tmp_path / "culture" / "data"
    folder.mkdir(parents=True)
    for index, split in enumerate(("train", "test")):
        cell = {"bytes": encoded(drawn(index)), "path": f"{split}_a.png"}
        rows = [{"image": cell, "text": "x, in wales", "license": "CC0", "likes": 3}]
        rows += [{"image": {"bytes": None, "path": None}, "text": "x", "license": None, "likes": 1}] * (
            index == 0
        )
        table = hub_table(rows)
        path = folder / f"{split}-00000-of-00001.{ending}"
        if ending == "parquet":
            pq.write_table(table, path)
        else:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
                stream.write_table(table)
    rows, lines = run(tmp_path / "culture", tmp_path)
    assert {key: (row["split"], row["licence"], row["extra"]) for key, row in rows.items()} == {
        "train_a": ("train", "CC0", '{"likes": 3}'),
        "test_a": ("test", "CC0", '{"likes": 3}'),
    }
    name = "train-00000-of-00001"
    assert lines == [f"{name}_000001: {name}.{ending} row 2 holds no picture; add it"]


def test_pictures_of_one_name_in_a_hugging_face_data_set(tmp_path):
    """Such data sets keep the last part of a path only: a/001.png and b/001.png are two pictures."""
    folder = tmp_path / "culture" / "data"
    folder.mkdir(parents=True)
    for index, split in enumerate(("train", "test")):
        cells = [{"bytes": encoded(drawn(2 * index + n)), "path": "001.png"} for n in (0, 1)]
        rows = [{"image": cell, "text": "x, in wales", "license": "CC0", "likes": 3} for cell in cells]
        pq.write_table(hub_table(rows), folder / f"{split}.parquet")
    rows, lines = run(tmp_path / "culture", tmp_path)
    assert sorted(row["split"] for row in rows.values()) == ["test", "test", "train", "train"]
    assert not lines
    (tmp_path / "withdrawn.txt").write_text("001.png\n")
    with pytest.raises(UserError, match="no usable picture"):  # which of them is meant nobody knows
        run(tmp_path / "culture", tmp_path / "again", withdrawn=tmp_path / "withdrawn.txt")


def test_its_own_output_can_be_ingested_again(corpus, tmp_path):
    corpus.write()
    first, _ = run(corpus.folder, tmp_path / "first")
    again, _ = run(tmp_path / "first" / "images.parquet", tmp_path / "again", caption_column="caption")
    assert {k: r["image"]["bytes"] for k, r in first.items()} == {
        k: r["image"]["bytes"] for k, r in again.items()
    }


# --- the table ----------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(orientation):
    upright = drawn(3, (80, 48))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the Transpose that EXIF orientation undoes
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = cut(encoded(stored, "JPEG", quality=98, exif=exif), [(SIDE, SIDE)], 1)
    assert (found.width, found.height) == (80, 48)
    wanted = np.asarray(
        upright.crop((16, 0, 64, 48)).resize((SIDE, SIDE), Image.Resampling.LANCZOS), dtype=float
    )
    assert np.abs(np.asarray(found.picture) - wanted).mean() < 4


def test_large_jpeg_decoded_small_equals_one_decoded_whole():
    picture = drawn(5, (2000, 1500))
    data = encoded(picture, "JPEG", quality=95)
    whole = Image.open(io.BytesIO(data)).crop((250, 0, 1750, 1500)).resize((64, 64), Image.Resampling.LANCZOS)
    difference = np.abs(np.asarray(cut(data, [(64, 64)], 10).picture, dtype=float) - np.asarray(whole))
    assert difference.max() <= 6
    assert difference.mean() < 1


def test_transparent_parts_become_white():
    picture = np.asarray(cut(encoded(glassy("RGBA").crop((0, 0, 40, 40))), [(40, 40)], 1).picture)
    assert (picture[2:10, 2:10] == 255).all()


def test_colour_profile_is_applied():
    """A grey ramp stored with gamma 1 must come out brighter, as the sRGB curve says."""
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    linear = linear_profile()
    found = np.asarray(
        cut(encoded(Image.fromarray(np.dstack([ramp] * 3)), icc_profile=linear), [(64, 64)], 1).picture
    )
    light = ramp / 255.0
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(found[..., 1] - expected).max() < 3


def linear_profile() -> bytes:
    """The sRGB profile with its tone curves replaced by straight lines (written by hand: ICC.1 §10.6)."""
    data = bytearray(profile("sRGB"))
    count = struct.unpack(">I", data[128:132])[0]
    for index in range(count):
        at = 132 + 12 * index
        if data[at : at + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            offset = struct.unpack(">I", data[at + 4 : at + 8])[0]
            data[offset : offset + 12] = b"curv" + bytes(8)
            data[at + 8 : at + 12] = struct.pack(">I", 12)
        if data[at : at + 4] == b"desc":
            offset, size = struct.unpack(">II", data[at + 4 : at + 12])
            data[offset : offset + size] = data[offset : offset + size].replace(
                "sRGB".encode("utf-16-be"), "flat".encode("utf-16-be")
            )
    return bytes(data)


def test_place_and_camera_are_not_carried_on(corpus, tmp_path):
    exif = Image.Exif()
    exif[0x0110] = "SECRET CAMERA"
    exif.get_ifd(0x8825)[1] = "N"
    corpus.add("odd.jpg", encoded(drawn(1), "JPEG", exif=exif, comment=b"SECRET COMMENT"), split="train")
    corpus.write()
    rows, _ = run(corpus.folder, tmp_path)
    assert b"SECRET" not in rows["odd"]["image"]["bytes"]
    assert b"eXIf" not in rows["odd"]["image"]["bytes"]


def test_optional_columns_are_kept(corpus, tmp_path):
    about = {
        "category": "city",
        "era": "modern",
        "contributor": "ann",
        "url": "u",
        "author": "bob",
        "license": "CC0",
    }
    corpus.add("odd.png", PNG, split="train", **about, consent="given", likes=3, tags=["a", "b"], none=None)
    corpus.write()
    row = run(corpus.folder, tmp_path)[0]["odd"]
    assert (row["category"], row["era"], row["contributor"]) == ("city", "modern", "ann")
    assert (row["source"], row["author"], row["licence"], row["consent"]) == ("u", "bob", "CC0", "given")
    assert json.loads(row["extra"]) == {"likes": 3, "tags": ["a", "b"]}
    assert row["source_sha256"] == hashlib.sha256(PNG).hexdigest()


def test_same_input_same_bytes_and_every_change_is_seen(corpus, tmp_path):
    corpus.write()
    run(corpus.folder, tmp_path / "a")
    run(corpus.folder, tmp_path / "b")
    assert (tmp_path / "a/images.parquet").read_bytes() == (tmp_path / "b/images.parquet").read_bytes()
    first = IMAGES.note(tmp_path / "a/images.parquet")["fingerprint"]
    corpus.rows[0]["text"] = "another caption"
    corpus.write()
    run(corpus.folder, tmp_path / "b")
    assert IMAGES.note(tmp_path / "b/images.parquet")["fingerprint"] != first
    listed = (tmp_path / f"a/data_sets/{first}.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in listed] == ["good_test", "good_train"]


def test_adding_a_picture_does_not_move_the_others(tmp_path):
    folder = tmp_path / "culture"
    folder.mkdir()
    corpus = Corpus(folder)
    corpus.rows.clear()
    for index in range(40):
        corpus.add(f"{index:02d}.png", encoded(drawn(index)))
    corpus.write()
    before = {
        key: row["split"] for key, row in run(folder, tmp_path)[0].items() if not key.startswith("good")
    }
    corpus.add("00a.png", encoded(drawn(99)))
    corpus.write()
    after = {key: row["split"] for key, row in run(folder, tmp_path)[0].items()}
    assert {key: after[key] for key in before} == before
    assert 2 <= list(before.values()).count("test") <= 16


@pytest.mark.parametrize("share", [1e-9, 1 - 1e-9])
def test_neither_split_stays_empty(tmp_path, share):
    folder = tmp_path / "culture"
    folder.mkdir()
    corpus = Corpus(folder)
    for row in corpus.rows:
        del row["split"]
    corpus.write()
    assert {row["split"] for row in run(folder, tmp_path, test_share=share)[0].values()} == {"train", "test"}


def test_splits_that_cannot_be_used(corpus, tmp_path):
    corpus.rows = [corpus.rows[0]]
    corpus.write()
    lines = run(corpus.folder, tmp_path)[1]
    assert ": no picture is held out for scoring; mark some as test" in lines
    corpus.rows[0]["split"] = "test"
    corpus.write()
    with pytest.raises(UserError, match="wales: all 1 pictures are in the test split; mark some as train"):
        run(corpus.folder, tmp_path)


def test_ids_are_unique_readable_and_safe(corpus, tmp_path):
    corpus.add("a/one.png", encoded(drawn(1)), split="train")
    corpus.add("b/one.png", encoded(drawn(2)), split="train")
    corpus.add("b/One.jpg", encoded(drawn(3), "JPEG"), split="train")
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert len(rows) == 5
    assert sum(key.startswith(("one~", "One~")) for key in rows) == 3
    assert lines == []
    hostile = ["..", "a/../b", "\u202egpj.exe.png", "a\x00b", "...", "a:b*c?.png", "x" * 500, "한" * 200]
    for name in hostile:
        found = picture_id(name)
        assert found
        assert not set(found) & set('/\\:*?"<>|\0\u202e \n')
        assert len(found.encode()) <= 120
        assert not found.startswith(".")


# --- duplicates and withdrawal ------------------------------------------------------------------


def copies() -> dict[str, bytes]:
    """One picture five times: byte by byte, recoded, scaled, brightened, and as another format."""
    picture = drawn(101, (192, 160))
    return {
        "recoded.jpg": encoded(picture, "JPEG", quality=60),
        "scaled.png": encoded(picture.resize((120, 100))),
        "brighter.png": encoded(picture.point(lambda v: min(255, v + 2))),
        "other.webp": encoded(picture, "WEBP", quality=60),
    }


@pytest.mark.parametrize("name", copies())
def test_near_duplicate_is_named(tmp_path, name):
    folder = tmp_path / "culture"
    folder.mkdir()
    corpus = Corpus(folder)
    corpus.add("good_train.png", encoded(drawn(101, (192, 160))), row=False)
    corpus.add("x_" + name, copies()[name], split="train")
    corpus.write()
    lines = run(folder, tmp_path)[1]
    assert lines == [f"x_{name}: looks the same as good_train.png; keep one of them"]
    assert run(folder, tmp_path, duplicate_difference=0)[1] == []


def test_exact_duplicate_is_named(corpus, tmp_path):
    corpus.add("again.png", encoded(drawn(101)), split="train")
    corpus.write()
    assert run(corpus.folder, tmp_path)[1] == [
        "good_train.png: is the same picture as again.png; keep one of them"
    ]


@pytest.mark.parametrize("name", ["same.png", *copies()])
def test_training_picture_in_the_test_split_is_refused(corpus, tmp_path, name):
    corpus.add("good_train.png", encoded(drawn(101, (192, 160))), row=False)
    data = copies() | {"same.png": encoded(drawn(101, (192, 160)))}
    corpus.add("x_" + name, data[name], split="test")
    corpus.write()
    with pytest.raises(
        UserError, match=r"x_.* \(test\) .* good_train.png \(train\): a training picture in the test"
    ):
        run(corpus.folder, tmp_path)


def test_row_in_both_splits_is_refused(corpus, tmp_path):
    corpus.add("good_train.png", None, split="test")
    corpus.write()
    with pytest.raises(UserError, match=r"good_train\.png is in both splits; delete one of its rows"):
        run(corpus.folder, tmp_path)


def test_copies_share_the_split_that_is_drawn(tmp_path):
    folder = tmp_path / "culture"
    folder.mkdir()
    corpus = Corpus(folder)
    corpus.rows.clear()
    for index in range(12):
        corpus.add(f"{index:02d}.png", encoded(drawn(index, (96, 80))))
        corpus.add(f"{index:02d}_copy.jpg", encoded(drawn(index, (96, 80)), "JPEG", quality=80))
    corpus.write()
    rows, lines = run(folder, tmp_path, test_share=0.5)
    assert sum("looks the same" in line for line in lines) == 12
    assert all(rows[f"{i:02d}"]["split"] == rows[f"{i:02d}_copy"]["split"] for i in range(12))


@pytest.mark.parametrize(
    "text",
    [
        "good_train.png\n",
        "# asked on 3 May\n\n  good_train  \n",
        "file_name,asked\ngood_train.png,3 May\n",
        "image_id;asked\ngood_train;3 May\n",
        "sha256\n" + hashlib.sha256(encoded(drawn(101))).hexdigest() + "\n",
    ],
)
def test_withdrawn_picture_and_its_copies_are_left_out(corpus, tmp_path, text):
    corpus.add("other.png", encoded(drawn(3)), split="train")
    corpus.add("again.png", encoded(drawn(101)), split="train")
    corpus.write()
    listed = tmp_path / "withdrawn.csv"
    listed.write_text(text)
    rows, lines = run(corpus.folder, tmp_path, listed)
    assert sorted(rows) == ["good_test", "other"]
    left = [line for line in lines if "withdrawn" in line]
    assert len(left) == 2
    assert "good_train.png: is withdrawn; left out" in left


def test_what_looks_like_a_withdrawn_picture_is_named(corpus, tmp_path):
    corpus.add("good_train.png", encoded(drawn(101, (192, 160))), row=False)
    corpus.add("near.jpg", copies()["recoded.jpg"], split="train")
    corpus.write()
    (tmp_path / "withdrawn.txt").write_text("good_train.png\nmisspelt.png\n")
    lines = run(corpus.folder, tmp_path, tmp_path / "withdrawn.txt")[1]
    assert lines == [
        "near.jpg: looks like the withdrawn good_train.png; withdraw it too if it is the same",
        "good_train.png: is withdrawn; left out",
        "misspelt.png: is in the withdrawn list and names no picture here; check its spelling",
    ]


@pytest.mark.parametrize(
    "columns", [{"withdrawn": "yes"}, {"withdrawn": True}, {"consent": "refused"}, {"consent": "no"}]
)
def test_a_row_can_withdraw_itself(corpus, tmp_path, columns):
    corpus.add("odd.png", PNG, split="train", **columns)
    corpus.write()
    rows, lines = run(corpus.folder, tmp_path)
    assert "odd" not in rows
    assert lines == ["odd.png: is withdrawn; left out"]


def test_missing_withdrawn_list_is_refused(corpus, tmp_path):
    corpus.write()
    with pytest.raises(UserError, match=r"gone\.txt: cannot be read"):
        run(corpus.folder, tmp_path, tmp_path / "gone.txt")


def test_unusable_bytes_never_escape_as_another_error():
    """Random damage to real files ends in a picture or in one clear line."""
    random = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000"):
        whole = np.frombuffer(encoded(drawn(2), kind), dtype=np.uint8)
        for _ in range(25):
            damaged = whole.copy()
            at = random.integers(0, len(damaged), 4)
            damaged[at] = random.integers(0, 256, 4)
            try:
                found = cut(damaged[: random.integers(1, len(damaged) + 1)].tobytes(), [(SIDE, SIDE)], 1)
            except UnusableError as error:
                assert "\n" not in str(error)
            else:
                assert found.picture.size == (SIDE, SIDE)
                assert found.picture.mode == "RGB"
