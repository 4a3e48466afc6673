"""Double encoding is undone where it is certain, and only there."""

from pathlib import Path

import orjson
import pytest
from helpers.export_fixtures import OWNER, START, read, write_folder
from hypothesis import given
from hypothesis import strategies as st

from jaegpt.exports.text import load_json, repair, replace_lone_surrogates
from jaegpt.sample import double_encode


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_repair_undoes_double_encoding(text: str) -> None:
    assert repair(double_encode(text)) == text


@pytest.mark.parametrize("text", ["plain", "café", "“quoted”", "日本", "Ã", "naïve “mix” cafÃ©", "", "😂", "\u0080"])
def test_what_is_not_double_encoded_comes_to_no_harm(text: str) -> None:
    assert repair(text) == text


def test_the_examples_of_the_format() -> None:
    assert repair(load_json(rb'"caf\u00c3\u00a9"')) == "café"
    assert repair(load_json(rb'"\u00e2\u009d\u00a4"')) == "❤"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (rb'"a\ud83db"', "a\ufffdb"),
        (rb'"\ude00"', "\ufffd"),
        (rb'"\ud83d\ude00"', "😀"),
        (rb'"\\ud83d"', "\\ud83d"),
        (rb'"\\\ud83d"', "\\\ufffd"),
        (rb'"\ud83d\ud83d\ude00\uDE00"', "\ufffd😀\ufffd"),
        (b'\xef\xbb\xbf"marked"', "marked"),
    ],
)
def test_lone_surrogates_become_replacement_characters(raw: bytes, text: str) -> None:
    assert load_json(raw) == text


@given(st.text(st.one_of(st.characters(), st.characters(categories=["Cs"]), st.sampled_from('\\"u😀'))))
def test_valid_json_keeps_its_surrogate_pairs(text: str) -> None:
    import json

    raw = json.dumps(text).encode()
    expected = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    valid = json.dumps(expected).encode()
    assert replace_lone_surrogates(valid) == valid
    assert orjson.loads(replace_lone_surrogates(raw)) == expected
    assert load_json(raw) == expected


def test_odd_text_arrives_whole_in_the_table(tmp_path: Path) -> None:
    odd = [
        rb"nul \u0000 here",
        rb"half \ud83d pair",
        rb"line\nbreak\ttab",
        rb"\u202eright to left",
        b"raw \xc3\xa9 UTF-8",
    ]
    messages = b",".join(
        b'{"sender_name":"Bo","timestamp_ms":%d,"content":"%s"}' % (START + index, text)
        for index, text in enumerate(odd)
    )
    own = b'{"sender_name":"%s","timestamp_ms":%d,"content":"hi"}' % (OWNER.encode(), START + 99)
    raw = b'{"participants":[{"name":"Bo"},{"name":"%s"}],"messages":[%s,%s]}' % (OWNER.encode(), messages, own)
    path = write_folder(tmp_path / "export", {"messages/inbox/bo_1/message_1.json": raw})
    _, table = read(path, tmp_path / "out", owner=OWNER)
    assert table["text"].to_pylist() == [
        "nul  here", "half \ufffd pair", "line\nbreak\ttab", "\u202eright to left", "raw é UTF-8", "hi",
    ]  # fmt: skip
