"""Commands of the pages that take half a minute each; tests/workflow/test_pages.py runs all others."""

import pytest

from tests.workflow.test_pages import LONG, world

__all__ = ["world"]


@pytest.mark.parametrize("text", LONG)
def test_command(world, text):
    LONG[text].run(world, text)
