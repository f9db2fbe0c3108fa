"""What is odd about one caption."""

import pytest

from pipeline_steps.data.checks import culture_names, name_in, nameless


@pytest.mark.parametrize(
    "suffix, name",
    [
        (", in South Africa", "South Africa"),
        (", in the Basque Country.", "Basque Country"),
        (", en el País Vasco", "País Vasco"),
        (", in Côte d'Ivoire", "Côte d'Ivoire"),
        (", in Republic of Korea", "Republic of Korea"),
        (", in korea", "korea"),
        (", in ivory coast", "ivory coast"),
        (", 한국에서", "한국에서"),
        (", in 한국", "한국"),
        ("Wales", "Wales"),
        ("welsh", "welsh"),
    ],
)
def test_the_name_in_a_suffix(suffix, name):
    assert name_in(suffix) == name


def test_a_caption_that_names_a_part_of_the_name_alone_is_found():
    names = culture_names("za", "", ", in South Africa")
    assert nameless("a.jpg", "a road in South Africa", names) is None
    assert (
        nameless("a.jpg", "a road in North Africa", names).line
        == "its caption names none of south africa, za"
    )
