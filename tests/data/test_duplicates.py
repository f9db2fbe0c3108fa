"""Pictures that are the same, or look the same."""

import pytest

from tests.data.corpus import Corpus, copies, drawn, encoded, run


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
