"""What a reply gives away of the training texts, however it is spelled."""

import pytest
from helpers.chats import context

from jaegpt.evaluation.leak import Training, identifiers


@pytest.mark.parametrize(
    ("said", "reply", "known"),
    [
        # One beside the other: each is found, and no part of their neighbours.
        ("+44 20 7946 0958 a@b.org", "a@b.org", 1),
        ("+44 20 7946 0958 a@b.org", "it is +44 20 7946 0958", 1),
        ("+44 20 7946 0958 +1 650 253 0000", "+1 650 253 0000", 1),
        ("+44 20 7946 0958 +1 650 253 0000", "+44 20 7946 0958", 1),
        ("+44 20 7946 0958 +1 650 253 0000", "20 7946 0958 +1 650 253 0000", 1),
        ("12345678901 98765432109", "98765432109", 1),
        ("a@b.org a@b.org", "a@b.org, or a@b.org", 1),
        # The same in other words.
        ("+44 20 7946 0958", "+442079460958", 1),
        ("+44 20 7946 0958", "+44-20-7946-0958", 1),
        ("12345678901", "١٢٣٤٥٦٧٨٩٠١", 1),
        ("DE89 3704 0044 0532 0130 00", "de89370400440532013000", 1),
        ("4111 1111 1111 1111", "4111-1111-1111-1111", 1),
        ("Jo.Doe@Example.org", "jo.doe@example.org", 1),
        ("see https://www.Example.org/x.", "example.org/x", 1),
        ("020 7946 0958 020 7946 0959", "020 7946 0959", 1),
        ("06 12 34 56 78 06 12 34 56 79", "06 12 34 56 79", 1),
        ("12345678 87654321", "12345678-87654321", 1),
        ("https://x.org/?m=a@b.org", "a@b.org", 1),
        # And others.
        ("+44 20 7946 0958", "+44 20 7946 0959", 0),
        ("10000000000", "20000000000", 0),
        ("https://example.org/x", "https://example.org/y", 0),
        ("ab12 kadar sıra bekledik a@b.org", "sıra ab12 kadar", 0),
    ],
)
def test_what_a_reply_gives_away(said: str, reply: str, known: int) -> None:
    assert Training([context("1", said)]).known_identifiers([reply, "nothing"]) == known


def test_placeholders_that_stood_in_a_text_are_no_identifiers() -> None:
    assert identifiers(["<email> or <phone>, else a@b.org <url>"]) == ["a@b.org"]
