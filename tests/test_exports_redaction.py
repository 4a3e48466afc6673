"""Addresses, numbers and links become placeholders; the rest of a message stays."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from export_fixtures import OWNER, START, TALKS, files_of, read, write_folder

from jaegpt.exports.redaction import redact, redact_text


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
        ("from 2018–2020, on 2018\u201105\u201102 or ٢٠١٨-٠٥-٠٢", None),
    ],
)
def test_redaction(text: str, redacted: str | None) -> None:
    expected = text if redacted is None else redacted
    assert redact_text(text) == expected
    assert redact(pa.array([text], pa.string()))[0].to_pylist() == [expected]


def test_redaction_keeps_the_message_and_is_off_by_default(tmp_path: Path) -> None:
    messages = ((OWNER, START, "mail a@example.org"), ("Bo Łęck", START + 1, "thanks, see you"))
    path = write_folder(tmp_path / "export", files_of("since 2024", (replace(TALKS[1], messages=messages),)))
    _, plain = read(path, tmp_path / "plain", owner=OWNER)
    report, table = read(path, tmp_path / "redacted", owner=OWNER, redact=True)
    assert plain["text"].to_pylist() == [text for _, _, text in messages]
    assert table["text"].to_pylist() == ["mail <email>", "thanks, see you"]
    assert report.redacted == 1
