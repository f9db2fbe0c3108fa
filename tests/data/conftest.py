"""What the tests of the data share."""

import pytest

from tests.data.corpus import Corpus
from tests.postgres import postgres

__all__ = ["postgres"]


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "culture"
    folder.mkdir()
    return Corpus(folder)
