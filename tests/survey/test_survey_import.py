"""Every form of answers, and every fault by its file, row and reason."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline_steps.artifacts import ANSWERS, PAGES, REJECTED
from pipeline_steps.config import SurveyConfig
from pipeline_steps.errors import UserError
from pipeline_steps.survey.answer_files import GENERIC
from pipeline_steps.survey.shown import ITEMS
from pipeline_steps.survey.survey_import import survey_import
from tests.survey.survey_world import make_pages

RANKED = "no permutation: description of page '{page}' is ranked "


def long_rows(world, page, ranks, participant="p1", culture="korea", item="description"):
    pictures = world.pages[page]["pictures"]
    return [
        [participant, culture, page, item, name, rank] for name, rank in zip(pictures, ranks, strict=True)
    ]


def exported(world, page, ranks, item="description", **more):
    named = None if ranks is None else dict(zip(world.pages[page]["pictures"], ranks, strict=True))
    return {
        "format": "scoft-survey",
        "version": 1,
        "culture": "korea",
        "participant": "p1",
        "years": 9,
        "exported": 1,
        "answers": [{"page": page, "item": item, "ranks": named}],
    } | more


def test_generic_csv_and_parquet(world):
    one, two = world.korea[:2]
    world.csv("a.csv", GENERIC, long_rows(world, one, [2, 1, 4, 3]) + long_rows(world, two, [""] * 4))
    rows = long_rows(world, world.india[0], [4, 3, 2, 1], "p2", "india", "offensiveness")
    table = pa.Table.from_pylist([dict(zip(GENERIC, row, strict=True)) for row in rows])
    (world.folder / "sub").mkdir()
    pq.write_table(table, world.folder / "sub" / "b.parquet")
    answers, rejected = world.read()
    assert rejected == []
    assert [(a["culture"], a["participant"], a["page"], a["item"], a["ranks"]) for a in answers] == [
        ("india", "p2", world.india[0], "offensiveness", [4, 3, 2, 1]),
        ("korea", "p1", one, "description", [2, 1, 4, 3]),
        ("korea", "p1", two, "description", None),
    ]
    assert answers[1]["variants"] == world.pages[one]["variants"]
    assert answers[1]["prompt"] == world.pages[one]["prompt"]
    assert answers[0]["file"] == "sub/b.parquet"
    assert ANSWERS.note(world.result)["simulated"] is False


def test_row_order_changes_nothing(world):
    rows = long_rows(world, world.korea[0], [2, 1, 4, 3]) + long_rows(
        world, world.korea[1], [1, 2, 3, 4], "p2"
    )
    world.csv("a.csv", GENERIC, rows)
    first, _ = world.read()
    world.csv("a.csv", GENERIC, rows[::-1])
    assert world.read()[0] == first


def test_the_pages_own_file(world):
    world.json("a.json", exported(world, world.korea[0], [1, 3, 2, 4]))
    world.json("b.json", exported(world, world.korea[0], None, participant="p2"))
    answers, rejected = world.read()
    assert rejected == [] and [a["ranks"] for a in answers] == [[1, 3, 2, 4], None]


def test_a_later_export_replaces_an_earlier_one(world):
    world.json("late.json", exported(world, world.korea[0], [4, 3, 2, 1], exported=2, key="k"))
    world.json("early.json", exported(world, world.korea[0], [1, 2, 3, 4], key="k"))
    answers, rejected = world.read()
    assert [a["ranks"] for a in answers] == [[4, 3, 2, 1]]
    assert rejected == [
        (
            "early.json",
            1,
            f"double answer: description of page '{world.korea[0]}' by 'p1', replaced by a later one",
        )
    ]


@pytest.mark.parametrize("key", [{}, {"key": "theirs"}])
def test_nobody_replaces_anothers_answers_by_a_later_date(world, key):
    """A file in somebody else's name, saved later: it does not know the key of the owner's device."""
    first, second = world.korea[:2]
    world.json("own.json", exported(world, first, [1, 2, 3, 4], key="own"))
    world.json("own2.json", exported(world, second, [1, 2, 3, 4], key="own"))
    world.json("false.json", exported(world, first, [4, 3, 2, 1], exported=99, **key))
    answers, rejected = world.read()
    assert [(a["page"], a["ranks"]) for a in answers] == [(second, [1, 2, 3, 4])]
    assert {row[0] for row in rejected} == {"own.json", "false.json"}
    assert all("contradicting" in row[2] for row in rejected)


def test_only_the_codes_handed_out_count(world, tmp_path):
    codes = tmp_path / "codes.txt"
    codes.write_text("riverriverriver-1\nstonestonestone-2\n")
    mine = long_rows(world, world.korea[0], [2, 1, 4, 3], "riverriverriver-1")
    world.csv("a.csv", GENERIC, mine + long_rows(world, world.korea[1], [1, 2, 3, 4], "puppet"))
    survey_import(world.folder, world.tables, world.result, world.rejected, SurveyConfig(), codes)
    assert [a["participant"] for a in ANSWERS.read(world.result)] == ["riverriverriver-1"]
    assert [row["reason"] for row in REJECTED.read(world.rejected)] == [
        "participant 'puppet' is none of the codes handed out"
    ]
    assert ANSWERS.note(world.result)["codes"] is True


@pytest.mark.parametrize("handed_out", [True, False])
def test_a_code_stands_for_one_culture(world, tmp_path, handed_out):
    """Nobody counts twice with one code; without codes, two cultures' "p1" may be two people."""
    one, two = "riverriverriver-1", "stonestonestone-2"
    codes = tmp_path / "codes.txt"
    codes.write_text(f"{one}\n{two}\n")
    rows = long_rows(world, world.korea[0], [2, 1, 4, 3], one)
    rows += long_rows(world, world.india[0], [1, 2, 3, 4], one, "india")
    rows += long_rows(world, world.korea[0], [1, 2, 3, 4], two)
    rows += long_rows(world, world.india[0], ["x", 2, 3, 4], two, "india")  # no answer
    world.csv("a.csv", GENERIC, rows)
    given = codes if handed_out else None
    survey_import(world.folder, world.tables, world.result, world.rejected, SurveyConfig(), given)
    left_out = f"participant '{one}' answered pages of india and korea, not of one"
    found = [(row["row"], row["reason"]) for row in REJECTED.rows(world.rejected)]
    people = [row["participant"] for row in ANSWERS.rows(world.result)]
    if handed_out:
        assert people == [two] and found == [(2, left_out), (6, left_out), (14, "'x' is no rank")]
    else:
        assert people == [one, one, two] and found == [(14, "'x' is no rank")]


def test_people_who_began_together_are_counted(world):
    times = [
        "2030-01-01T00:00:00+00:00",
        "2030-01-01T00:00:59+00:00",
        "2030-01-01T00:01:00+00:00",
        "soon",
        "",
    ]
    world.csv(
        "a.csv",
        [*GENERIC, "began"],
        [
            [*row, time]
            for number, time in enumerate(times)
            for row in long_rows(world, world.korea[0], [1, 2, 3, 4], f"p{number}")
        ],
    )
    answers, _ = world.read()
    assert len(answers) == 5 and ANSWERS.note(world.result)["together"] == 2


SERVERS = [*GENERIC, "admission", "began", "exported"]


@pytest.mark.parametrize("names", [("monday.csv", "friday.csv"), ("answers.csv", "answers (1).csv")])
def test_of_two_downloads_of_the_server_the_later_one_counts(world, names):
    """Whoever went back in between changed one ranking; the other question has the same answer in both."""
    page, other = world.korea[:2]
    for name, day, order in zip(names, (1, 5), ([1, 2, 3, 4], [4, 3, 2, 1]), strict=True):
        told = ["open", "2030-01-01T08:00:00+00:00", f"2030-02-01T00:00:00.00000{day}+00:00"]
        rows = [*long_rows(world, page, order), *long_rows(world, other, [2, 1, 3, 4])]
        world.csv(name, SERVERS, [[*row, *told] for row in rows])
    answers, found = world.read()
    assert {row["page"]: row["ranks"] for row in answers} == {page: [4, 3, 2, 1], other: [2, 1, 3, 4]}
    assert sorted(reason.rpartition(", ")[2] for _, _, reason in found) == ["replaced by a later one"] * 2


def test_a_download_at_no_time_is_named(world):
    rows = long_rows(world, world.korea[0], [1, 2, 3, 4])
    world.csv("a.csv", SERVERS, [[*row, "open", "2030-01-01T08:00:00", "soon"] for row in rows])
    with pytest.raises(UserError, match="exported 'soon' is no time"):
        world.read()


def test_another_programs_column_of_the_same_name_means_nothing(world):
    rows = long_rows(world, world.korea[0], [1, 2, 3, 4])
    world.csv("a.csv", [*GENERIC, "began", "exported"], [[*row, "8 o'clock", "yes"] for row in rows])
    answers, found = world.read()
    assert [row["ranks"] for row in answers] == [[1, 2, 3, 4]] and found == []


TURK = [
    "HITId",
    "WorkerId",
    *(f"Input.img{n}" for n in range(1, 5)),
    "Input.prompt",
    "Input.seed",
    "Answer.taskAnswers",
]


def turk_row(world, page, ranks, names=None, first=1, radio=False, worker="W1"):
    known = world.pages[page]
    cell = {}
    for row, order in enumerate(ranks, first):
        for image, rank in enumerate(order, 1):
            value = {str(n): n == rank for n in range(1, 5)} if radio else str(rank or "")
            cell[f"promptrow{row}-img{image}-rating"] = value
    names = names or [f"https://host/{name}.png" for name in known["pictures"]]
    return ["H1", worker, *names, known["prompt"], known["seed"], json.dumps([cell])]


@pytest.mark.parametrize("radio", [False, True])
@pytest.mark.parametrize("first", [0, 1])
def test_mechanical_turk(world, first, radio):
    page = world.korea[0]
    orders = [[1, 2, 3, 4], [4, 3, 2, 1], [2, 1, 4, 3], [None] * 4]
    # The authors' files begin with the variant's name; here in an order of their own.
    pictures, variants = world.pages[world.korea[1]]["pictures"], world.pages[world.korea[1]]["variants"]
    names = [f"{variant}_Korean_scene.png" for variant in sorted(variants)]
    world.csv(
        "turk.csv",
        TURK,
        [
            turk_row(world, page, orders, first=first, radio=radio),
            turk_row(world, world.korea[1], orders[:1], names, first=first, radio=radio),
        ],
    )
    answers, rejected = world.read()
    assert rejected == []
    of = {(a["page"], a["item"]): a for a in answers}
    assert [of[page, item]["ranks"] for item in ITEMS] == [*orders[:3], None]
    other = of[world.korea[1], "description"]
    assert dict(zip(other["variants"], other["ranks"], strict=True)) == dict(
        zip(sorted(variants), [1, 2, 3, 4], strict=True)
    )
    assert len(pictures) == 4


def test_faults_of_mechanical_turk(world):
    page = world.korea[0]
    good = turk_row(world, page, [[1, 2, 3, 4]])
    unknown = [*good]
    unknown[2:8] = ["x.png"] * 4 + ["no such prompt", "0"]
    stranger = [*good]
    stranger[3] = "https://host/else.png"
    broken = [*good[:-1], "{"]
    twice = turk_row(world, page, [[1, 2, 2, 4]], worker="W2")
    world.csv("t.csv", TURK, [good, unknown, stranger, broken, twice])
    answers, rejected = world.read()
    # Three items of the good row are blank, as are three of the last.
    assert [a["participant"] for a in answers if a["ranks"]] == ["W1"]
    assert rejected == [
        ("t.csv", 3, "unknown page (prompt 'no such prompt', seed '0')"),
        ("t.csv", 4, "unknown picture 'https://host/else.png'"),
        ("t.csv", 5, "Answer.taskAnswers is no JSON"),
        (
            "t.csv",
            6,
            RANKED.format(page=page) + "1, 2, 2, 4; write each of 1 to 4 once, or none",
        ),
    ]


@pytest.mark.parametrize(
    "wrap", [lambda ids: ids, lambda ids: {"rank": ids}, lambda ids: {"_": [], "best": ids}]
)
def test_label_studio(world, wrap):
    page, pictures = world.korea[0], world.pages[world.korea[0]]["pictures"]
    best_first = [pictures[n] for n in (2, 0, 3, 1)]

    def result(item, ids):
        return {"from_name": item, "to_name": "list", "type": "ranker", "value": {"ranker": wrap(ids)}}

    world.json(
        "ls.json",
        [
            {
                "id": 7,
                "data": {"page": page},
                "annotations": [
                    {"completed_by": 3, "result": [result(item, best_first) for item in ITEMS[:3]]},
                    {
                        "completed_by": {"id": 4, "email": "a@b.c"},
                        "result": [result("description", pictures)],
                    },
                    {"completed_by": 5, "was_cancelled": True, "result": []},
                    {"completed_by": 6, "result": [result("description", pictures[:3])]},
                ],
            },
            {"id": 8, "data": {}, "annotations": []},
        ],
    )
    answers, rejected = world.read()
    assert [a["ranks"] for a in answers if a["participant"] == "3"] == [
        [2, 4, 1, 3],
        None,
        [2, 4, 1, 3],
        [2, 4, 1, 3],
    ]
    assert [a["ranks"] for a in answers if a["participant"] == "4" and a["ranks"]] == [[1, 2, 3, 4]]
    assert {a["participant"] for a in answers} == {"3", "4", "6"}
    assert rejected == [
        (
            "ls.json",
            1,
            RANKED.format(page=page) + "1, 2, 3, –; write each of 1 to 4 once, or none",
        ),
        ("ls.json", 2, "needs data.page and annotations"),
    ]


def test_survey_js(world):
    page, pictures = world.korea[0], world.pages[world.korea[0]]["pictures"]
    world.json(
        "js.json",
        [
            {"participant": "s1", "culture": "korea", "years": 8, f"{page}/description": pictures[::-1]},
            {"participant": "s2", f"{page}/stereotypes": [], f"{page}/beauty": pictures},
            {"participant": "s3", f"{page}/description": [pictures[0]] * 4},
            {"participant": "s4", "comment": "nice"},
            {f"{page}/description": pictures},
        ],
    )
    answers, rejected = world.read()
    assert [(a["participant"], a["ranks"]) for a in answers] == [("s1", [4, 3, 2, 1]), ("s2", None)]
    assert [row[1:] for row in rejected] == [
        (2, "unknown item 'beauty'; items are description, representation, stereotypes, offensiveness"),
        (3, f"{page}/description: no permutation: a picture stands in the list twice"),
        (4, "no known form: needs questions named 'page/item'"),
        (5, "participant is missing"),
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {5: "3"},
            RANKED + "3, 2, 3, 4; write each of 1 to 4 once, or none",
        ),
        (
            {5: ""},
            RANKED + "–, 2, 3, 4; write each of 1 to 4 once, or none",
        ),
        (
            {5: "0"},
            RANKED + "0, 2, 3, 4; write each of 1 to 4 once, or none",
        ),
        ({5: "1.5"}, "'1.5' is no rank"),
        ({5: "first"}, "'first' is no rank"),
        ({5: "inf"}, "'inf' is no rank"),
        ({4: "elsewhere-1"}, "unknown picture 'elsewhere-1' on page '{page}'"),
    ],
)
def test_a_faulty_ranking(world, change, reason):
    page = world.korea[0]
    rows = long_rows(world, page, [1, 2, 3, 4])
    for column, value in change.items():
        rows[0][column] = value
    world.csv("bad.csv", GENERIC, [*long_rows(world, page, [1, 2, 3, 4], "p2"), *rows])
    answers, rejected = world.read()
    assert [a["participant"] for a in answers] == ["p2"]
    assert rejected == [("bad.csv", 6, reason.format(page=page))]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"culture": "india"}, "wrong culture: 'india' answered a page of 'korea'"),
        ({"page": "korea-00000000"}, "unknown page 'korea-00000000'; are the pages those that were shown?"),
        ({"item": "beauty"}, "unknown item 'beauty'; items are"),
        ({"participant": ""}, "participant is missing"),
        ({"participant": "x" * 201}, "participant is longer than 200 letters"),
    ],
)
def test_a_faulty_row(world, row, reason):
    page = world.korea[0]
    rows = long_rows(world, page, [1, 2, 3, 4])
    for line in rows:
        for name, value in row.items():
            line[GENERIC.index(name)] = value
    world.csv("bad.csv", GENERIC, [*long_rows(world, page, [1, 2, 3, 4], "p2"), *rows])
    answers, rejected = world.read()
    assert len(answers) == 1 and rejected[0][:2] == ("bad.csv", 6) and rejected[0][2].startswith(reason)


def test_years(world):
    rows = [[*row, 4] for row in long_rows(world, world.korea[0], [1, 2, 3, 4])]
    rows += [[*row, "many"] for row in long_rows(world, world.korea[0], [1, 2, 3, 4], "p2")]
    rows += [[*row, ""] for row in long_rows(world, world.korea[0], [1, 2, 3, 4], "p3")]
    world.csv("a.csv", [*GENERIC, "years"], rows)
    answers, rejected = world.read()
    assert [a["participant"] for a in answers] == ["p3"]
    assert [reason for *_, reason in rejected] == [
        "participant 'p1' lived there 4 years, fewer than 5",
        "years 'many' is no number; write a number, 20 or 20.5",
    ]
    assert len(world.read(min_years=3)[0]) == 2


def test_numbers_with_a_decimal_comma(world):
    rows = [[*row[:-1], f"{row[-1]},0", "20,5"] for row in long_rows(world, world.korea[0], [2, 1, 4, 3])]
    rows += [[*row, "4,9"] for row in long_rows(world, world.korea[0], [1, 2, 3, 4], "p2")]
    rows += [[*row, "1,2,3"] for row in long_rows(world, world.korea[0], [1, 2, 3, 4], "p3")]
    world.csv("a.csv", [*GENERIC, "years"], rows)
    answers, rejected = world.read()
    assert [(a["participant"], a["ranks"]) for a in answers] == [("p1", [2, 1, 4, 3])]
    assert [reason for *_, reason in rejected] == [
        "participant 'p2' lived there 4.9 years, fewer than 5",
        "years '1,2,3' is no number; write a number, 20 or 20.5",
    ]


def test_a_culture_counts_whatever_its_capitals(world):
    rows = long_rows(world, world.korea[0], [2, 1, 4, 3], culture="Korea")
    world.csv("a.csv", GENERIC, rows)
    answers, rejected = world.read()
    assert [(a["culture"], a["ranks"]) for a in answers] == [("korea", [2, 1, 4, 3])] and not rejected


def test_people_whose_names_differ_by_capitals_alone_are_named_and_counted_apart(world, caplog):
    page = world.korea[0]
    rows = [row for name in ("Mair", "MAIR", "p") for row in long_rows(world, page, [1, 2, 3, 4], name)]
    world.csv("a.csv", GENERIC, rows)
    answers, rejected = world.read()
    assert sorted(a["participant"] for a in answers) == ["MAIR", "Mair", "p"] and not rejected
    (said,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert "'MAIR' and 'Mair' count as different people; where they are one, write one name" in said


def test_a_file_cut_short_says_what_to_do(world):
    world.csv("good.csv", GENERIC, long_rows(world, world.korea[0], [1, 2, 3, 4]))
    (world.folder / "cut.json").write_text('{"format": "scoft-sur')
    ((file, _, said),) = world.read()[1]
    assert file == "cut.json" and said.startswith("is not JSON (Unterminated string")
    assert said.endswith("): cut short or changed; save it anew, or ask for it again")


def test_double_answers(world):
    page = world.korea[0]
    same, contrary = long_rows(world, page, [1, 2, 3, 4]), long_rows(world, page, [4, 3, 2, 1], "p2")
    world.csv("a.csv", GENERIC, same + contrary)
    world.csv("b.csv", GENERIC, same + long_rows(world, page, [1, 2, 3, 4], "p2"))
    answers, rejected = world.read()
    assert [a["participant"] for a in answers] == ["p1"]
    text = f"double answer: description of page '{page}' by"
    two = "contradicting; if they are two people under one name, give each a code of their own"
    assert rejected == [
        ("a.csv", 6, f"{text} 'p2', {two}"),
        ("b.csv", 2, f"{text} 'p1', the same again"),
        ("b.csv", 6, f"{text} 'p2', {two}"),
    ]


def test_files_that_are_none(world):
    world.csv("good.csv", GENERIC, long_rows(world, world.korea[0], [1, 2, 3, 4]))
    (world.folder / "notes.txt").write_text("hello")
    (world.folder / "broken.json").write_text("{")
    (world.folder / "broken.parquet").write_bytes(b"PAR1")
    (world.folder / "latin.csv").write_bytes(b"participant\n\xe9\n")
    (world.folder / "deep.json").write_text("[" * 100_000)
    world.csv("short.csv", GENERIC[:-1], [])
    world.csv("ragged.csv", GENERIC, [["p", "korea"], [*"abcdefgh"]])
    (world.folder / ".hidden").write_text("")
    answers, rejected = world.read()
    assert len(answers) == 1
    reasons = {file: reason for file, _, reason in rejected}
    assert set(reasons) == {
        "notes.txt", "broken.json", "broken.parquet", "latin.csv", "deep.json", "short.csv", "ragged.csv"
    }  # fmt: skip
    assert reasons["notes.txt"].startswith("unknown kind of file '.txt'")
    assert reasons["short.csv"].startswith("no column 'rank'")
    assert [row[1:] for row in rejected if row[0] == "ragged.csv"] == [
        (2, "the number of fields differs from the header's"),
        (3, "the number of fields differs from the header's"),
    ]


def test_attention_checks(tmp_path):
    pages, _ = make_pages(tmp_path, attention_checks=1)
    rows = PAGES.read(pages)
    check = next(row["page"] for row in rows if row["check"])
    normal = next(row["page"] for row in rows if not row["check"])
    pictures = {name: [row["picture"] for row in rows if row["page"] == name] for name in (check, normal)}
    folder = tmp_path / "answers"
    folder.mkdir()
    with (folder / "a.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(GENERIC)
        for person, order in (("reads", [1, 2, 3, 4]), ("sleeps", [2, 1, 3, 4])):
            for page, ranks in ((check, order), (normal, [3, 4, 1, 2])):
                for name, rank in zip(pictures[page], ranks, strict=True):
                    table.writerow([person, "korea", page, "description", name, rank])
    result, rejected = tmp_path / "a.parquet", tmp_path / "r.parquet"
    survey_import(folder, [pages], result, rejected, SurveyConfig())
    assert [(a["participant"], a["page"]) for a in ANSWERS.rows(result)] == [("reads", normal)]
    assert {row["reason"] for row in REJECTED.rows(rejected)} == {
        "participant 'sleeps' failed 1 attention checks"
    }
    survey_import(folder, [pages], result, rejected, SurveyConfig(failed_checks=1))
    assert ANSWERS.count(result) == 2


def test_nothing_usable_and_simulated_among_real(world):
    with pytest.raises(UserError, match=r"no usable answer \(0 left out\)"):
        world.read()
    world.csv("a.csv", GENERIC, [["p", "korea", "q", "description", "x", 1]])

    with pytest.raises(UserError, match=r"1 left out.*a.csv, row 2: unknown page 'q'"):
        world.read()
    world.json("real.json", exported(world, world.korea[0], [1, 2, 3, 4]))
    world.json("made.json", exported(world, world.korea[1], [1, 2, 3, 4], simulated=True))
    with pytest.raises(UserError, match=r"simulated answers \(made.json\) lie among real ones"):
        world.read()


def test_findings_are_counted_in_the_table_and_the_first_said(world, caplog):
    page = world.korea[0]
    world.csv("a.csv", GENERIC, [[f"p{n:02}", "korea", "q", "description", "x", 1] for n in range(20)])
    world.json("b.json", [{"participant": "s", "q/description": ["x"], "q/stereotypes": ["x"]}])
    world.json("c.json", exported(world, page, [1, 2, 3, 4]))
    with caplog.at_level("WARNING"):
        answers, rejected = world.read()
    reason = "unknown page 'q'; are the pages those that were shown?"
    assert len(answers) == 1
    assert rejected == [*(("a.csv", n, reason) for n in range(2, 22)), ("b.json", 1, f"{reason} (×2)")]
    assert ANSWERS.note(world.result)["rejected"] == REJECTED.note(world.rejected)["rejected"] == 22
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == f"left out: a.csv, row 2: {reason}" and len(said) == 21
    assert said[20] == "left out: 2 more, see the table of rejected answers"


def test_the_least_years_are_enough_and_what_is_hidden_is_not_read(world):
    page = world.korea[0]
    world.json("a.json", exported(world, page, [1, 2, 3, 4], years=5))
    world.json(".b.json", exported(world, page, [4, 3, 2, 1], years=5))
    (world.folder / "sub.json").mkdir()
    answers, rejected = world.read(min_years=5)
    assert [a["ranks"] for a in answers] == [[1, 2, 3, 4]] and rejected == []
    assert ANSWERS.note(world.result)["codes"] is False


def test_an_answer_beats_a_blank_and_each_device_has_its_last_word(world):
    """Blank on one device and filled on another is no contradiction; two equal ones count once."""
    page = world.korea[0]
    world.json("a.json", exported(world, page, None, key="one", exported=5))
    world.json("b.json", exported(world, page, [1, 2, 3, 4], key="two", exported=1))
    world.json("c.json", exported(world, page, [4, 3, 2, 1], key="one", exported=4))
    answers, rejected = world.read()
    assert [(a["ranks"], a["file"]) for a in answers] == [([1, 2, 3, 4], "b.json")]
    text = f"double answer: description of page '{page}' by 'p1', "
    assert rejected == [
        ("a.json", 1, text + "the same again"),
        ("c.json", 1, text + "replaced by a later one"),
    ]


def test_what_others_see_of_a_finding_has_a_number_for_each_code(world, tmp_path):
    """The codes' numbers are their lines; strangers follow, then who is known by a file's name alone."""
    page, code = world.korea[0], "stonestonestone-1"
    codes = tmp_path / "codes.txt"
    codes.write_text(f"# cards\nriverriverriver-2\n{code}\n")
    world.json("good.json", exported(world, page, [1, 2, 3, 4], participant="riverriverriver-2"))
    world.json(f"survey-korea-{code} (1).json", exported(world, page, None, participant=code, years=3))
    (world.folder / "survey-korea-cloudcloudcloud-3.json").write_text("{")
    shifted = [[*row, code] for row in long_rows(world, page, [1, 2, 3, 4], "p1")]
    stranger = [[*row, 9] for row in long_rows(world, page, [1, 2, 3, 4], "p2")]
    world.csv(f"{code.upper()}.csv", [*GENERIC, "years"], shifted + stranger)
    survey_import(world.folder, world.tables, world.result, world.rejected, SurveyConfig(), codes)
    found = REJECTED.read(world.rejected)
    assert [(row["public_file"], row["row"], row["public_reason"].split(" (")[0]) for row in found] == [
        ("person 2.csv", 2, "years person 2 is no number; write a number, 20 or 20.5"),
        ("person 2.csv", 6, "person 3 is none of the codes handed out"),
        ("survey-korea-person 4.json", 0, "is not JSON"),
        ("survey-korea-person 2 (1).json", 1, "person 2 lived there 3 years, fewer than 5"),
    ]
    assert found[3]["file"] == f"survey-korea-{code} (1).json" and f"'{code}'" in found[3]["reason"]
