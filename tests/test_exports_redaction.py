"""Addresses, numbers and links become placeholders; the rest of a message stays."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.export_fixtures import OWNER, START, TALKS, files_of, read, write_folder
from hypothesis import given, settings
from hypothesis import strategies as st

from jaegpt.exports.redaction import find_spans, redact, redact_text


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("write to a.b+c@example.org.", "write to <email>."),
        ("call +44 20 7946 0958 now", "call <phone> now"),
        ("(801) 555-0199", "<phone>"),
        ("card 4111 1111 1111 1111, ok", "card <card>, ok"),
        ("DE89 3704 0044 0532 0130 00", "<account>"),
        ("account 123456789 please", "account <number> please"),
        ("see https://example.org/x?y=a@b.org!", "see <url>"),
        ("it is on sub.example.com/page", "it is on <url>"),
        ("www.example.net", "<url>"),
        ("2018-05-02 at 10.30, 12 of us", "2018-05-02 at 10.30, 12 of us"),
        ("3.14159265358979", "3.14159265358979"),
        ("e.g. tell.me", "e.g. tell.me"),
        ("on 12.05.2018 10:00 we met, or 12-05-2018, or 2018.05.12 10:00", None),
        ("card 4111.1111.1111.1111.", "card <card>."),
        ("3782.822463.10005", "<card>"),
        ("pay to de89 3704 0044 0532 0130 00 please", "pay to <account> please"),
        ("gb82west12345698765432", "<account>"),
        ("de89 3704 0044 0532 0130 02 is none", "de89 <number> is none"),
        ("join t.me/some_group now", "join <url> now"),
        ("9" * 20_000, "<number>"),
        ("801–555–0199", "<phone>"),
        ("(801)\u00a0555\u20110199", "<phone>"),
        ("call ٠١٢٣٤٥٦٧٨٩", "call <phone>"),
        ("card 4111–1111–1111–1111", "card <card>"),
        ("card 4111\u00a01111\u00a01111\u00a01111", "card <card>"),
        # Letters and digits that are none of the alphabet's until their case is ignored.
        ("ab12 kadar sıra bekledik a@b.org", "ab12 kadar sıra bekledik <email>"),
        ("de89 3704 0044 0532 0130 00 ısrar sıra", "<account> ısrar sıra"),
        ("\u212ae12 word\u017f and more words, 12345678", "\u212ae12 word\u017f and more words, <number>"),
        ("x²²²²²²²²²²²²²²²² a@b.org", "x²²²²²²²²²²²²²²²² <email>"),
        ("card ٤١١١١١١١١١١١١١١١", "card <card>"),
        ("XX57 1234 5678 9012 345", "<account>"),
        ("from 2018–2020, on 2018\u201105\u201102 or ٢٠١٨-٠٥-٠٢", None),
    ],
)
def test_redaction(text: str, redacted: str | None) -> None:
    expected = text if redacted is None else redacted
    assert redact_text(text) == expected
    assert redact(pa.array([text], pa.string()))[0].to_pylist() == [expected]


# Bits that together come near to what is looked for, so that searching at random gets there.
BITS = (
    "a@b.org", "+44 20 7946 0958", "DE89 3704 0044 0532 0130 00", "de893704", "4111 1111 1111 1111", "4111.1111.",
    "https://x.org/", "www.", "t.me/x", "example.com", "<email>", "12345678", "2018-05-02", " ", ".", "ab12 ", "sıra ",
    "K\u212a", "ſ", "٠١٢٣٤", "²", "７", "\n", "–",
)  # fmt: skip
TEXTS = st.one_of(st.text(), st.lists(st.one_of(st.sampled_from(BITS), st.text(max_size=3)), max_size=9).map("".join))


@given(TEXTS)
@settings(max_examples=300, deadline=None, database=None)
def test_no_text_of_any_script_is_too_much(text: str) -> None:
    """And what is found stands where it is said to: put there, the placeholders make the redacted text."""
    redacted = redact_text(text)
    for _, spans in find_spans(pa.array([text], pa.string())):
        assert [span.end <= later.start for span, later in pairwise(spans)] == [True] * (len(spans) - 1)
        for start, end, kind in reversed(spans):
            text = f"{text[:start]}<{kind}>{text[end:]}"
        assert text == redacted


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "+44 20 7946 0958 +1 650 253 0000 a@b.org",
            [("phone", "+44 20 7946 0958"), ("phone", "+1 650 253 0000"), ("email", "a@b.org")],
        ),
        ("see https://example.org/x?y=a@b.org! <email>", [("url", "https://example.org/x?y=a@b.org!")]),
        ("c@d.org, a@b.org and 12345678", [("email", "c@d.org"), ("email", "a@b.org"), ("number", "12345678")]),
        (
            "c@d.org,www.e.org/a@b.org de89370400440532013000 so",
            [("email", "c@d.org"), ("url", "www.e.org/a@b.org"), ("account", "de89370400440532013000")],
        ),
    ],
)
def test_spans_say_what_stood_where(text: str, found: list[tuple[str, str]]) -> None:
    ((given, spans),) = find_spans(pa.array(["nothing here", text], pa.string()))
    assert given == text
    assert [(kind, text[start:end]) for start, end, kind in spans] == found


def test_redaction_keeps_the_message_and_is_off_by_default(tmp_path: Path) -> None:
    messages = ((OWNER, START, "mail a@example.org"), ("Bo Łęck", START + 1, "thanks, see you"))
    path = write_folder(tmp_path / "export", files_of("since 2024", (replace(TALKS[1], messages=messages),)))
    _, plain = read(path, tmp_path / "plain", owner=OWNER)
    report, table = read(path, tmp_path / "redacted", owner=OWNER, redact=True)
    assert plain["text"].to_pylist() == [text for _, _, text in messages]
    assert table["text"].to_pylist() == ["mail <email>", "thanks, see you"]
    assert report.redacted == 1
