"""The first cases of a fuzz run; an hour is run by hand: ``python -m tests.fuzz``."""

import logging

from tests.fuzz import fuzz


def test_nothing_escapes(tmp_path):
    logging.disable(logging.CRITICAL)
    try:
        ends, escapes = fuzz(tmp_path, range(400), seed=3)
    finally:
        logging.disable(logging.NOTSET)
    assert not escapes and not ends["escaped"], escapes
    assert ends["refused"] and ends["read"]
