"""What is said of another library's error."""

import pytest
import requests

from pipeline_steps.errors import first_line


@pytest.mark.parametrize(
    "error, said",
    [
        (requests.ConnectionError(), "ConnectionError"),
        (ValueError("\n \n"), "ValueError"),
        (ValueError("\nno room\nhere"), "no room"),
        (ValueError("no\x1b[31m room\x00"), "no [31m room"),
        (ValueError("a" * 1000), "a" * 160),
    ],
)
def test_first_line(error, said):
    assert first_line(error) == said
