"""The collection over HTTP: what is given, decided and withdrawn, and the folder that comes out."""

import io
import json
import re
import socket
import subprocess
import sys
import zipfile
from html.parser import HTMLParser

import httpx
import pytest
import yaml
from PIL import Image
from starlette.testclient import TestClient

from pipeline_steps.artifacts import FINDINGS, IMAGES
from pipeline_steps.config import DataConfig
from pipeline_steps.data.collection.app import create_app
from pipeline_steps.data.collection.contributor import contributor
from pipeline_steps.data.collection.folder import Folder
from pipeline_steps.data.collection.intake import FullError, Intake
from pipeline_steps.data.collection.records import data_set
from pipeline_steps.data.collection.wording import CURATOR, WORDINGS, read_curator_wording, read_wordings
from pipeline_steps.data.ingest import ingest
from pipeline_steps.data.withdraw_report import withdraw_report
from pipeline_steps.errors import UserError
from pipeline_steps.new_culture import HEADER
from tests import ROOT
from tests.data.collection_world import CONFIG, DETAILS, Curator, Person, Server, make_site, photo, rows


class World:
    """A served collection with two contributors and a curator."""

    def __init__(self, folder, database="", **more):
        self.folder, self.database = folder, database
        self.site = make_site(folder, database=database, **more)
        self.app = create_app(self.site)
        self.served = TestClient(self.app)
        self.served.__enter__()
        self.curator = Curator(TestClient(self.app), self.site.secret.value)
        self.one, self.two = self.person(), self.person()
        self.data = folder / "wales"

    def person(self, begin=True):
        return Person(TestClient(self.app), self.link(), begin)

    def link(self):
        return self.site.store.invite("", "2030-01-01T00:00:00+00:00").result()[1]

    def close(self):
        self.served.__exit__(None, None, None)

    def withdrawn(self):
        return (self.data / "withdrawn.txt").read_text().split()

    def name(self, picture):
        """The stored name of a picture."""
        (name,) = (row["name"] for row in self.everything() if row["picture"] == picture)
        return name

    def everything(self):
        from pipeline_steps.data.collection.records import pictures

        return pictures(self.site.store).result()

    def ingest(self, name="images"):
        """What the pipeline makes of the folder."""
        out = self.folder / "results/wales"
        images, findings = out / f"{name}.parquet", out / "findings.parquet"
        ingest(
            self.data, images, "wales", ", in Wales", 7, DataConfig(), findings, self.data / "withdrawn.txt",
            out / "data_sets",
        )  # fmt: skip
        return IMAGES.read(images), [row["line"] for row in FINDINGS.read(findings)]


@pytest.fixture
def world(tmp_path, request):
    """A world whose store is SQLite, or the one that :data:`STORES` names."""
    other = getattr(request, "param", "sqlite") == "postgresql"
    world = World(tmp_path, database=request.getfixturevalue("postgres").database() if other else "")
    yield world
    world.close()


STORES = pytest.mark.parametrize("world", ["sqlite", "postgresql"], indirect=True)


@STORES
def test_what_is_accepted_is_what_the_pipeline_reads(world):
    """Given, asked back, mended, accepted; the pipeline sees nothing before."""
    first = world.one.give(photo(1), remark="at my aunt's")
    second = world.two.give(photo(2), caption="-tea and =cake, in Wales", category="food and drink")
    third = world.two.give(photo(3), era="modern")
    assert rows(world.data) == [] and not list((world.data / "pictures").iterdir())
    world.curator.decide("accepted", first, second)
    world.curator.decide("asked", third, message="who is this?")
    assert world.two.pictures()[third]["state"] == "asked"
    assert world.two.pictures()[third]["message"] == "who is this?"
    world.two.put(
        f"/api/pictures/{third}", json=DETAILS | {"caption": "my gran, in Wales", "people": "agreed"}
    )
    assert world.two.pictures()[third]["state"] == "given" and len(rows(world.data)) == 2
    world.curator.decide("accepted", third)

    table = {row["text"]: row for row in rows(world.data)}
    assert list(table["my gran, in Wales"])[:10] == HEADER.strip().split(",")
    assert table["a red gate, in Wales"]["contributor"] == world.one.name
    assert table["a red gate, in Wales"]["remark"] == "at my aunt's"
    assert table["tea and =cake, in Wales"]["category"] == "food and drink", "no cell begins a formula"
    assert table["my gran, in Wales"]["people"] == "agreed"
    held, found = world.ingest()
    assert sorted(row["caption"] for row in held) == sorted(table)
    assert {row["contributor"] for row in held} == {world.one.name, world.two.name}
    assert not [line for line in found if "left out" in line or "spelling" in line]
    decisions = [made["decision"] for row in world.everything() for made in row["decisions"]]
    assert sorted(decisions) == ["accepted"] * 3 + ["asked"] + ["given"] * 4


def test_a_museums_own_pictures_lie_beside_the_given_ones(world):
    """In train/ with a table of their own, as docs/data.md says; the collection leaves them alone."""
    own = world.data / "train"
    (own / "pictures").mkdir(parents=True)
    lines = [
        f'pictures/own{n}.jpg,"a gate {n}, in Wales",{split}' for n, split in enumerate(("", "test", "", ""))
    ]
    for n in range(4):
        Image.open(io.BytesIO(photo(10 + n))).save(own / f"pictures/own{n}.jpg")
    (own / "metadata.csv").write_text("\n".join(["file_name,text,split", *lines, ""]))
    first, second = world.one.give(photo(1)), world.two.give(photo(2))
    world.curator.decide("accepted", first, second)
    held, found = world.ingest()
    assert len(held) == 6 and not [line for line in found if "left out" in line or "not read" in line]
    splits = {row["caption"]: row["split"] for row in held}
    assert [splits[f"a gate {n}, in Wales"] for n in range(4)] == ["train", "test", "train", "train"]
    world.one.withdraw(first)
    with (world.data / "withdrawn.txt").open("a") as listed:
        listed.write("own2.jpg\n")
    world.two.give(photo(3))
    Folder(world.data, "text").publish(data_set(world.site.store).result())  # as a server that starts again
    captions = {row["caption"] for row in world.ingest()[0]}
    assert {caption for caption in splits if caption.startswith("a gate")} - captions == {
        "a gate 2, in Wales"
    }
    assert len(captions) == 4 and len(list((own / "pictures").iterdir())) == 4


def test_a_collection_of_which_nothing_is_accepted_says_so(world):
    world.one.give(photo(1))
    with pytest.raises(UserError, match=r"metadata\.csv: nothing .* is accepted yet; .* the curator's page"):
        world.ingest()


@STORES
def test_a_withdrawal_reaches_the_pipeline_at_once(world):
    first, second = world.one.give(photo(1)), world.two.give(photo(2))
    world.curator.decide("accepted", first, second)
    world.ingest("before")
    name = world.name(first)
    assert world.one.withdraw(first).json() == {"withdrawn": True}
    assert world.withdrawn() == [f"pictures/{name}"]
    assert [row["file_name"] for row in rows(world.data)] == [f"pictures/{world.name(second)}"]
    left = [path.name for path in world.folder.rglob(f"*{name}*")]
    assert left == [], "nothing of the picture is left"
    second_give = world.one.send(photo(1))
    assert (second_give.status_code, second_give.json()["reason"]) == (422, "withdrawn_before")
    report = world.folder / "report.tsv"
    withdraw_report(world.folder / "results", report, ("wales",), (world.data / "withdrawn.txt",))
    assert "before.parquet" in report.read_text()
    world.two.give(photo(3))
    world.curator.decide("accepted", *world.two.pictures())
    _, found = world.ingest("after")
    assert any("is here no longer" in line for line in found) and not any(
        "spelling" in line for line in found
    )
    # What nobody ever accepted was never part of anything: it may come again.
    third = world.one.give(photo(4))
    world.one.withdraw(third)
    assert len(world.withdrawn()) == 1 and world.one.send(photo(4)).status_code == 200


def test_a_table_that_was_edited_is_put_aside_and_its_splits_stay(world, caplog):
    first, second = world.one.give(photo(1)), world.two.give(photo(2))
    world.curator.decide("accepted", first, second)
    table = world.data / "metadata.csv"
    lines = table.read_text().splitlines()
    # As a spreadsheet saves it: a picture is held out, and quotes stand where none were.
    name = f"pictures/{world.name(first)}"
    held_out = [re.sub(rf'^({name},)("?[^"]*"?),,', r"\1\2,test,", line) for line in lines]
    assert held_out != lines
    table.write_text("\r\n".join(held_out) + "\r\n")
    world.curator.decide("accepted", world.one.give(photo(3)))
    assert {row["file_name"]: row["split"] for row in rows(world.data)}[name] == "test"
    assert len(rows(world.data)) == 3 and "was edited" not in caplog.text

    table.write_text(table.read_text() + "archive/old.jpg,an old gate,,,,,,,,,,\n")
    world.curator.decide("accepted", world.two.give(photo(4)))
    assert len(rows(world.data)) == 4 and "was edited" in caplog.text
    (aside,) = table.parent.with_name("wales.collection").glob("metadata-edited-*.csv")
    assert "archive/old.jpg" in aside.read_text() and name in aside.read_text()
    table.write_text(table.read_text().replace("file_name", "file name", 1))
    world.curator.decide("accepted", world.two.give(photo(5)))
    (unnamed,) = {*aside.parent.glob("metadata-edited-*.csv")} - {aside}
    world.one.withdraw(first)  # what is withdrawn is read in no file any more
    assert "archive/old.jpg" in aside.read_text() and name not in aside.read_text()
    assert not unnamed.exists()


def test_a_line_of_the_curators_own_stays_in_the_withdrawn_list(world):
    (world.data / "withdrawn.txt").write_text("# ours\nold.jpg")
    first = world.one.give(photo(1))
    world.curator.decide("accepted", first)
    name = world.name(first)
    world.one.withdraw(first)
    assert (world.data / "withdrawn.txt").read_text() == f"# ours\nold.jpg\npictures/{name}\n"


@STORES
def test_who_withdraws_a_picture_that_another_gave_too_withdraws_it_for_both(world):
    mine, theirs = world.one.give(photo(1)), world.two.give(photo(1))
    world.curator.decide("accepted", mine, theirs)
    assert len(rows(world.data)) == 1
    world.one.withdraw(mine)
    assert rows(world.data) == [] and world.two.pictures()[theirs]


def test_nothing_but_the_pixels_is_stored(world):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x9286] = "Camera & Co", 6, "<script>alert(1)</script>"
    exif.get_ifd(0x8825)[2] = (51.0, 28.0, 38.0)
    picture = world.one.give(photo(5, exif=exif, comment=b"written by somebody"))
    stored = world.site.folder.file("pictures", world.name(picture)).read_bytes()
    image = Image.open(io.BytesIO(stored))
    assert image.size == (72, 96), "upright, as its EXIF said"
    assert dict(image.getexif()) == {} and "comment" not in image.info
    assert not re.search(b"Camera|script|somebody", stored)
    assert list((world.site.folder.home / "originals").iterdir()) == []


def test_the_original_is_kept_where_the_curator_asks_for_it(tmp_path):
    world = World(tmp_path, keep_originals=True)
    sent = photo(5, comment=b"as it came")
    picture = world.one.give(sent)
    kept = world.site.folder.file("originals", picture)
    assert kept.read_bytes() == sent
    world.one.withdraw(picture)
    assert not kept.exists()
    world.close()


def test_everybody_has_an_original_of_their_own(tmp_path):
    """The same pixels from two people, each with other words in the file."""
    world = World(tmp_path, keep_originals=True)
    originals = world.site.folder.home / "originals"

    def kept():
        return {path.name: path.read_bytes() for path in originals.iterdir()}

    mine, theirs, other = (photo(5, comment=text) for text in (b"mine", b"theirs", b"refused"))
    upload = "a" * 32
    first = world.one.send(mine, upload).json()["picture"]
    second = world.two.give(theirs)
    assert world.one.send(other).status_code == 409 and world.one.send(other, upload).status_code == 200
    assert kept() == {first: mine, second: theirs}, "what is not taken leaves nothing"
    settings = tmp_path / "config.yaml"
    settings.write_text(
        json.dumps({"cultures": {"wales": {"suffix": ", in Wales", "images": str(world.data)}}})
    )
    contributor("wales", world.one.name, tmp_path / "one.zip", settings=settings)
    with zipfile.ZipFile(tmp_path / "one.zip") as found:
        assert [name for name in found.namelist() if "originals" in name] == [f"originals/{first}"]
        assert found.read(f"originals/{first}") == mine
    world.two.withdraw(second)
    assert kept() == {first: mine}
    (originals / ("f" * 16)).write_bytes(b"of an upload that was never acknowledged")
    world.close()
    world = World(tmp_path, keep_originals=True)
    assert kept() == {first: mine}
    world.close()


@STORES
def test_an_upload_that_is_sent_again_is_taken_once(world):
    data, upload = photo(1), "a" * 32
    first, again = world.one.send(data, upload), world.one.send(data, upload)
    assert first.json() == again.json() and len(world.one.pictures()) == 1
    other = world.one.send(data)
    assert (other.status_code, other.json()["reason"]) == (409, "given_before")
    assert world.site.folder.file(
        "pictures", world.site.store.own(world.one.name).result()[0]["name"]
    ).exists()


def test_one_contributor_never_reaches_anothers_pictures(world):
    picture = world.one.give(photo(1))
    client = world.two.client
    assert client.get(f"/pictures/{picture}").status_code == 404
    assert world.two.put(f"/api/pictures/{picture}", json=DETAILS).status_code == 404
    assert world.two.withdraw(picture).status_code == 404
    assert world.one.name not in client.get("/api/me").text and picture not in client.get("/api/me").text
    assert client.get("/curator/pictures/" + picture).status_code == 401
    assert TestClient(world.app).get(f"/pictures/{picture}").status_code == 401
    shown = world.one.client.get(f"/pictures/{picture}")
    assert shown.headers["content-type"] == "image/jpeg"
    assert shown.headers["x-content-type-options"] == "nosniff"


@STORES
def test_consent_comes_first_and_its_text_is_kept(world):
    person = world.person(begin=False)
    assert person.send(photo(1)).status_code == 403
    before = person.consent()
    assert before["text"] == "\n\n".join(world.site.wordings[0].consent)
    assert person.agree(before, agreed=False).status_code == 422
    assert person.agree(before, language="cy").status_code == 422
    world.curator.post("consent", language="en", text="We keep everything.\r\n\r\nReally.")
    refused = person.agree(before)
    assert (refused.status_code, refused.json()["reason"]) == (409, "consent"), "it is not what was read"
    assert person.send(photo(1)).status_code == 403
    assert person.consent()["text"] == "We keep everything.\n\nReally."
    assert person.consent("ko")["text"] == "\n\n".join(world.site.wordings[1].consent)
    assert person.agree(person.consent()).json()["consent"] == {}
    from pipeline_steps.data.collection.records import everything_of

    (kept,) = everything_of(world.site.store, person.name).result()["consent"]
    assert kept["text"] == "We keep everything.\n\nReally."


def test_a_wrong_link_and_a_wrong_key_open_nothing(world):
    stranger = Person(TestClient(world.app), "not-a-link")
    assert stranger.reply.status_code == 403
    assert stranger.client.get("/api/me").status_code == 401
    wrong = Curator(TestClient(world.app), "not-the-key")
    assert wrong.reply.status_code == 401 and "Pictures" not in wrong.reply.text
    again = [Curator(TestClient(world.app), "not-the-key").reply.status_code for _ in range(12)]
    assert again[-1] == 429
    assert Curator(TestClient(world.app), world.site.secret.value).reply.status_code == 200


@STORES
def test_links_and_the_curators_address_can_be_renewed(world):
    person = Person(TestClient(world.app), world.link())
    shown = world.curator.post("invite", contributor=person.name).text
    (link,) = re.findall(r"#link=([\w-]+)", shown)
    assert person.client.get("/api/me").status_code == 401, "the old link is a key no more"
    assert Person(TestClient(world.app), link).name == person.name
    other = Curator(TestClient(world.app), world.site.secret.value)
    old = world.site.secret.value
    assert world.site.secret.value not in world.curator.post("renew").text.replace(
        world.site.curator_link(), ""
    )
    assert world.site.secret.value != old
    assert "Come in" in other.client.get("/curator").text, "other sessions end"
    assert Curator(TestClient(world.app), old).reply.status_code == 401


def test_only_the_pages_own_forms_change_anything(world):
    picture = world.one.give(photo(1))
    forged = world.curator.client.post("/curator/decide", data={"decision": "accepted", "picture": picture})
    assert forged.status_code == 403
    bare = world.one.client.post(f"/api/pictures/{picture}/withdraw")
    assert bare.status_code == 403 and world.one.pictures()


def test_the_curator_sees_what_ingest_would_find(world):
    """Duplicates beside each other, sizes and captions: the words are the pipeline's own."""
    world.one.give(photo(1, (320, 240), quality=95))
    world.two.give(photo(1, (640, 480), quality=90), caption="a gate", people="not asked")
    world.two.give(photo(2, (60, 44)))
    page = world.curator.client.get("/curator").text
    assert page.count("These look alike") == 2  # its label and its heading
    for line in ("is smaller than 64 pixels", "names none of wales", "were not asked", "looks the same as"):
        assert line in page
    ids = [row["picture"] for row in world.everything()]
    world.curator.decide("accepted", *ids)
    _, found = world.ingest()
    assert any("looks the same as" in line for line in found)
    assert any("60×44 is smaller than 64 pixels" in line for line in found)


def test_the_curators_filters(world):
    ids = [world.one.give(photo(1)), world.two.give(photo(2), era="modern", category="city")]
    world.curator.decide("accepted", ids[0])

    def shown(query):
        page = world.curator.client.get(f"/curator?{query}").text
        return [n for n, picture in enumerate(ids) if f"/curator/pictures/{picture}/whole" in page]

    assert shown("") == [0, 1]
    assert shown("state=accepted") == [0]
    assert shown("era=modern") == shown("category=city") == shown(f"contributor={world.two.name}") == [1]
    assert shown("state=accepted&era=modern") == []
    answer = world.curator.post("decide", one=f"{world.curator.seen()[ids[1]]} declined", query="era=modern")
    assert str(answer.url).endswith("/curator?era=modern#pictures")
    assert world.two.pictures()[ids[1]]["state"] == "declined"


@STORES
def test_nothing_is_decided_that_the_curator_has_not_seen(world):
    """One is changed between the look and the click, one only in its remark, one is withdrawn."""
    ids = [world.one.give(photo(n), caption=f"gate {n}, in Wales") for n in range(4)]
    seen = world.curator.seen()
    world.one.put(f"/api/pictures/{ids[0]}", json=DETAILS | {"caption": "nobody saw this, in Wales"})
    world.one.put(f"/api/pictures/{ids[1]}", json=DETAILS | {"remark": "nor this"})
    world.one.withdraw(ids[2])
    for form in (
        {"one": f"{seen[ids[0]]} accepted"},
        {"decision": "accepted", "picture": list(seen.values())},
        {"decision": "declined", "picture": [ids[0], f"{ids[1]} x"]},
    ):
        answer = world.curator.post("decide", **form)
        assert answer.status_code == 409 and "after you saw them" in answer.text
        assert f'<a href="#picture-{ids[0]}" dir="auto">nobody saw this, in Wales</a>' in answer.text
        assert (f'href="#picture-{ids[1]}"' in answer.text) == ("picture" in form)
    assert [row["text"] for row in rows(world.data)] == ["gate 3, in Wales"]
    assert {world.one.pictures()[picture]["state"] for picture in ids[:2]} == {"given"}
    assert world.curator.decide("accepted", *ids[:2]).status_code == 200 and len(rows(world.data)) == 3


def test_hints_while_a_caption_is_written(world):
    def hints(caption):
        return world.one.post("/api/caption", json={"caption": caption}).json()

    assert hints("a market at dawn, in Wales") == {
        "tokens": 6, "limit": 10, "names_culture": True, "names_thing": True,
    }  # fmt: skip
    assert not hints("a market at dawn")["names_culture"]
    assert not hints("in Wales")["names_thing"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"caption": "  "}, 422),
        ({"caption": "\u200b\u200d"}, 422),
        ({"category": "weapons"}, 422),
        ({"licence": "GPL"}, 422),
        ({"era": "old"}, 422),
        ({"extra": "x"}, 422),
        ({"caption": "x" * 1001}, 422),
    ],
)
def test_descriptions_that_are_refused(world, change, status):
    picture = world.one.give(photo(1))
    answer = world.one.put(f"/api/pictures/{picture}", json=DETAILS | change)
    assert answer.status_code == status and "x" * 100 not in answer.text
    assert world.one.pictures()[picture]["caption"] == DETAILS["caption"]


@STORES
def test_everything_of_one_person_is_handed_out_and_deleted(world):
    settings = world.folder / "config.yaml"
    entry = {"suffix": ", in Wales", "images": str(world.data)}
    settings.write_text(json.dumps({"cultures": {"wales": entry}}))
    first, second = world.one.give(photo(1)), world.one.give(photo(2))
    other = world.two.give(photo(3))
    world.curator.decide("accepted", first, other)
    name = world.name(first)
    archive = world.folder / "one.zip"
    contributor("wales", world.one.name, archive, delete=True, database=world.database, settings=settings)
    with zipfile.ZipFile(archive) as found:
        kept = json.loads(found.read("contributor.json"))
        assert {row["picture"] for row in kept["pictures"]} == {first, second}
        assert kept["contributor"]["affiliation"] == "born there"
        assert Image.open(io.BytesIO(found.read(f"pictures/{name}"))).size == (96, 72)
        assert len(found.namelist()) == 1 + 2 * 2
    assert world.one.client.get("/api/me").status_code == 401
    assert [row["contributor"] for row in rows(world.data)] == [world.two.name]
    assert world.withdrawn() == [f"pictures/{name}"]
    assert [row["contributor"] for row in world.everything()] == [world.two.name]
    with pytest.raises(UserError, match="nobody of this name"):
        contributor("wales", world.one.name, delete=True, database=world.database, settings=settings)
    with pytest.raises(UserError, match="nothing was asked for"):
        contributor("wales", world.two.name, database=world.database, settings=settings)


def test_a_folder_with_other_pictures_is_left_alone(tmp_path):
    (tmp_path / "wales").mkdir()
    (tmp_path / "wales/metadata.csv").write_text("file_name,text\npictures/market.jpg,a market\n")
    with pytest.raises(
        UserError, match=r"no collection wrote; move it with its pictures into .*wales/train,"
    ):
        Folder(tmp_path / "wales", "text")
    (tmp_path / "wales/metadata.csv").unlink()
    (tmp_path / "wales/metadata.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="no collection wrote"):
        Folder(tmp_path / "wales", "text")


def test_what_was_interrupted_is_mended_when_the_server_starts(tmp_path):
    """The database has it, the folder not yet: as a power cut between the two leaves it."""
    world = World(tmp_path)
    ids = [world.one.give(photo(n)) for n in range(3)]
    world.curator.decide("accepted", *ids)
    before = (world.data / "metadata.csv").read_text()
    name = world.name(ids[0])
    world.site.store.withdraw(world.one.name, ids[0], "2030").result()  # and no word to the folder
    (world.data / "metadata.csv").write_text("file_name,te")
    stray = world.site.folder.file("pictures", "f" * 32 + ".jpg")
    stray.write_bytes(b"of an upload that was never acknowledged")
    world.close()
    (world.data / "metadata.csv").write_text(before)
    world = World(tmp_path)
    assert world.withdrawn() == [f"pictures/{name}"] and len(rows(world.data)) == 2
    assert len(list((world.data / "pictures").iterdir())) == 2 and not stray.exists()
    world.close()


def marked(sentences):
    """Every sentence within marks."""
    return {
        name: marked(text)
        if isinstance(text, dict)
        else text
        if name in ("language", "direction") or isinstance(text, bool)
        else f"‹{text}›"
        for name, text in sentences.items()
    }


class Texts(HTMLParser):
    """What of a page is read aloud or shown, but for what findings say and people wrote."""

    def __init__(self, page):
        super().__init__()
        self.found, self.inside = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        of = dict(attributes)
        self.found += [of[name] for name in ("alt", "aria-label") if of.get(name)]
        if tag not in ("meta", "link", "input", "img", "br"):
            self.inside.append((tag, of.get("lang") == "en" or "dir" in of))

    def handle_endtag(self, tag):
        assert self.inside.pop()[0] == tag

    def handle_data(self, data):
        ours = not any(foreign or tag in ("style", "script", "code") for tag, foreign in self.inside[1:])
        if ours and data.strip():
            self.found.append(data)


def test_the_curators_page_in_another_language(tmp_path):
    """Every text of it is the wording's, a contributor's or a number."""
    words = marked(yaml.safe_load(CURATOR.read_text())) | {"language": "he", "direction": "rtl"}
    own = tmp_path / "curator.he.yaml"
    own.write_text(yaml.safe_dump(words, allow_unicode=True))
    world = World(tmp_path, curator_wording=own)
    before = TestClient(world.app).get("/curator").text
    _, second = world.one.give(photo(1)), world.two.give(photo(1, kind="PNG"))
    third = world.two.give(photo(2), caption="of no place")
    world.curator.decide("asked", second, message="is it yours?")
    pages = [
        before,
        world.curator.client.get("/curator").text,
        world.curator.client.get("/curator?state=declined").text,
        world.curator.post("invite", note="Ann").text,
        world.curator.post("renew").text,
        world.curator.decide("asked", third).text,
        world.curator.post("decide", one=f"{third} 0 accepted").text,
        Curator(TestClient(world.app), "not-the-key").reply.text,
    ]
    offered = read_wordings(WORDINGS)[0].model_dump()
    given = [DETAILS["caption"], "of no place", offered["people"], *offered["people_choices"].values()]
    for name in ("categories", "eras", "origins", "licences"):
        given += offered[name].values()
    assert "‹These look alike" in pages[1] and "‹Write a message" in pages[5]
    assert "‹These were changed" in pages[6] and "‹This is not" in pages[7]
    for page in pages:
        assert '<html lang="he" dir="rtl">' in page
        for text in Texts(page).found:
            ours = re.sub(r"‹[^›]*›", "", text)
            for known in given:
                ours = ours.replace(known, "")
            ours = re.sub("c-[0-9a-f]{8}", "", ours)
            assert not re.search(r"[A-Za-z]", ours), text
    world.close()


@pytest.mark.parametrize(
    ("sentence", "text", "message"),
    [
        ("invited", "a link of {someone}", r"invited: needs \{contributor\} in braces"),
        ("come_in", "come {in}", "come_in: needs nothing in braces"),
        ("missing", {"accepted": "none"}, r"missing.accepted: needs \{count\} \{least\} \{most\} in braces"),
        ("come_in", None, "come_in: Input should be a valid string"),
    ],
)
def test_a_sentence_keeps_its_words_in_braces(tmp_path, sentence, text, message):
    words = yaml.safe_load(CURATOR.read_text())
    words[sentence] = words[sentence] | text if isinstance(text, dict) else text
    path = tmp_path / "curator.yaml"
    path.write_text(yaml.safe_dump(words))
    with pytest.raises(UserError, match=message):
        read_curator_wording(path)


def test_a_wording_must_offer_the_same_choices(tmp_path):
    assert [each.language for each in read_wordings(WORDINGS)] == ["en", "ko", "ar"]
    short = tmp_path / "wording.cy.yaml"
    text = (WORDINGS[0]).read_text().replace("  city: City\n", "").replace("language: en", "language: cy")
    short.write_text(text)
    with pytest.raises(UserError, match="categories: needs architecture, city"):
        read_wordings([WORDINGS[0], short])


@STORES
def test_what_the_wordings_name_no_longer_is_shown_by_its_key(world, caplog):
    ids = [world.one.give(photo(1)), world.one.give(photo(2), category="city", licence="")]
    words = world.site.wordings[0]
    del words.categories["architecture"], words.licences["CC BY 4.0"]
    page = world.curator.client.get("/curator").text
    assert "architecture, Traditional" in page and " · CC BY 4.0 · " in page
    assert '<option value="architecture">architecture</option>' in page
    assert f"picture-{ids[0]}" in world.curator.client.get("/curator?category=architecture").text
    assert world.curator.decide("accepted", *ids).status_code == 200 and len(rows(world.data)) == 2
    caplog.clear()
    with TestClient(create_app(world.site)):  # as when it is started again
        (line,) = (line for line in caplog.messages if "wordings" in line)
    assert line.startswith("the wordings have no text for category 'architecture', licence 'CC BY 4.0' of")


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        (
            {"cultures": {"mexico": {"suffix": ", there", "images": "pictures"}}},
            (),
            "no culture 'wales'; add it with: python -m pipeline_steps.new_culture --name wales",
        ),
        (
            {"cultures": {"wales": {"suffix": ", in W", "images": "pictures", "withdrawn": "gone.txt"}}},
            (),
            "the collection writes pictures/withdrawn.txt; leave the setting out",
        ),
        (
            {"cultures": {"wales": {"suffix": ", in Wales", "images": "links.csv"}}},
            (),
            "name a folder with --data",
        ),
        (
            {"cultures": {"wales": {"suffix": ", in Wales", "images": "pictures"}}},
            ("--host", "0.0.0.0", "--port", "8001"),
            "--host 0.0.0.0: the links must say where this machine is found; give --address as well, e.g. "
            "--address http://192.168.0.10:8001",
        ),
    ],
)
def test_what_the_command_refuses_is_one_line(tmp_path, settings, options, message):
    (tmp_path / "config.yaml").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pipeline_steps.data.collection", "--culture", "wales"]
    found = subprocess.run(
        [*command, *options, "--settings", str(tmp_path / "config.yaml")], capture_output=True, text=True
    )
    assert found.returncode == 1 and message in found.stderr and len(found.stderr.splitlines()) == 1


def test_links_are_made_beside_a_server_and_its_uploads_are_left_alone(tmp_path):
    with Server(tmp_path) as server:
        upload = tmp_path / "data/wales.collection/incoming/one/sent"
        upload.parent.mkdir()
        upload.write_bytes(b"half a picture")
        refused = subprocess.run(server.command, cwd=ROOT, capture_output=True, text=True)
        assert refused.returncode == 1 and "a server has it already; stop that one first" in refused.stderr
        made = subprocess.run([*server.command, "--invite", "2"], cwd=ROOT, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        asked = [word for word in server.command if word not in ("--port", str(server.port))]
        plain = subprocess.run([*asked, "--invite", "1"], cwd=ROOT, capture_output=True, text=True)
        assert re.findall(r"(http\S+)/#link=", plain.stderr) == [server.url]  # and not port 8000
        other = [*asked, "--invite", "1", "--address", "https://a.example/"]
        told = subprocess.run(other, cwd=ROOT, capture_output=True, text=True).stderr
        assert re.findall(r"(http\S+)/#link=", told) == ["https://a.example"]
        links = re.findall(r"#link=(\S+)", made.stderr)
        assert len(links) == 2 and upload.exists()
        assert Person(httpx.Client(base_url=server.url, timeout=120), links[1]).reply.status_code == 200
    server.start()  # the one before is dead, and has nothing any more
    assert not upload.parent.exists()
    server.kill()


def test_a_port_that_is_taken_leaves_nobody_invited(tmp_path):
    server = Server(tmp_path)
    with socket.create_server(("127.0.0.1", server.port)):
        done = subprocess.run(server.command, cwd=ROOT, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith(f"ERROR port {server.port} of 127.0.0.1 is taken")
    with server:
        assert len(server.links()) == 5


def test_a_fault_of_the_machine_is_no_full_disk_and_no_bad_picture(tmp_path):
    with pytest.raises(OSError, match="No such file") as missing:
        Intake(DataConfig()).take_in(tmp_path / "gone", tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert not isinstance(missing.value, FullError)


def test_the_limits_are_the_settings(world):
    assert world.one.send(photo(1) + b"\0" * int(CONFIG.max_megabytes * 1e6)).status_code == 413
    wide = world.one.send(photo(1, (5000, 4100)))
    assert wide.status_code == 422 and "max_megapixels" in wide.json()["detail"]
    assert list((world.site.folder.home / "incoming").iterdir()) == []
