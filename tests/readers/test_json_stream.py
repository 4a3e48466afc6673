"""JSON read in windows: whatever their size, the same values as `json` reads, and errors with their place."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.reader import SourceFile
from jaegpt.exports.readers import json_stream
from jaegpt.exports.readers.json_stream import JsonStream, brackets, open_json

TRICKY = ('"', "\\", '\\"', "[{", "}],", "a\\\\", "é🎉", "", "\n\t", '{"a": "]"}', "x" * 300)


def _random_value(rng: random.Random, depth: int) -> Any:
    kind = rng.randrange(8 if depth else 5)
    if kind < 2:
        return "".join(rng.choice(TRICKY) for _ in range(rng.randrange(4)))
    if kind < 5:
        return rng.choice((0, -1.5, 12345678901, True, None, False, 1e300))
    count = rng.choice((0, 1, 2, 7, 30))
    if kind < 7:
        return [_random_value(rng, depth - 1) for _ in range(count)]
    return {rng.choice(TRICKY) + str(index): _random_value(rng, depth - 1) for index in range(count)}


def _walked(stream: JsonStream, rng: random.Random) -> Any:
    """The value ahead, taken apart by a mixture of all the ways there are."""
    if stream.kind() == b"{" and rng.random() < 0.7:
        return {key: _walked(stream, rng) for key in stream.members()}
    if stream.kind() == b"[" and rng.random() < 0.7:
        if rng.random() < 0.5:
            return [_walked(stream, rng) for _ in stream.elements()]
        return [value for batch in stream.batches() for value in batch]
    if rng.random() < 0.2:
        start = stream.position
        stream.skip()
        stream.seek(start)
    return stream.value()


@pytest.mark.parametrize("window", [1, 3, 64, 2**18])
def test_windows_of_any_size_give_the_same_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    monkeypatch.setattr(json_stream, "WINDOW_BYTES", window)
    rng = random.Random(window)
    for case in range(60):
        value = [_random_value(rng, 3), {"k": _random_value(rng, 3)}]
        mark = rng.choice(("", "\ufeff"))
        text = mark + json.dumps(value, indent=rng.choice((None, 1)), ensure_ascii=rng.random() < 0.5)
        (tmp_path / "x.json").write_text(text, encoding="utf-8")
        with open_json(SourceFile(str(tmp_path / "x.json"))) as stream:
            assert _walked(stream, rng) == value, case


def test_brackets_in_strings_are_none() -> None:
    positions, depths = brackets(rb'{"a]\"[": ["}\\", {}]}')
    assert (positions.tolist(), depths.tolist()) == ([0, 10, 18, 19, 20, 21], [1, 2, 3, 2, 1, 0])


def test_members_that_are_not_taken_are_skipped_in_bounded_memory(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"huge": [["x" * 1000] * 9] * 3000, "name": "Anna"}))
    with open_json(SourceFile(str(tmp_path / "x.json"))) as stream:
        found = {}
        for key in stream.members():
            if key == "name":
                found[key] = stream.value()
            assert len(stream._window) < 2 * json_stream.WINDOW_BYTES
    assert found == {"name": "Anna"}


@pytest.mark.parametrize(
    ("content", "reason", "offset"),
    [
        (b"", "truncated", 0),
        (b'{"a": [1, 2', "truncated", 11),
        (b'{"a": [{}, {"b', "truncated", 14),
        (b'{"a": ["b', "truncated", 9),
        (b'{"a": [{"b": 1}, {"b" 2}]}', "not_json", 22),
        (b'{"a": [{}],}', "not_json", 11),
        (b'{"a": [{},]}', "not_json", None),
        (b'{"a": [] "b": 1}', "not_json", 9),
        (b'{"a" 1}', "not_json", 5),
        (b"{a: 1}", "not_json", 1),
        (b'{"a": [NaN]}', "not_json", 7),
        (b'{"a": []} x', "not_json", 10),
        (b'{"a": [{"b": "\xff"}]}', "not_utf8", 14),
        (b'{"a": {}}', "wrong_structure", 6),
        (b'["a"]', "wrong_structure", 0),
        (b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", "not_json", None),
        (b"\xff\xfe{\x00}\x00", "not_json", None),
    ],
)
def test_damage_has_a_reason_and_a_place(tmp_path: Path, content: bytes, reason: str, offset: int | None) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(BadFileError) as error, open_json(SourceFile(str(path))) as stream:  # noqa: PT012
        for _ in stream.members():
            list(stream.batches())
    assert (error.value.path, error.value.reason) == (str(path), reason)
    assert offset is None or error.value.offset == offset, error.value


def test_a_value_of_no_end_is_refused_before_memory_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "MAX_VALUE_BYTES", 2**20)
    (tmp_path / "x.json").write_text('{"a": ["' + "x" * 3 * 2**20 + '"]}')
    with (  # noqa: PT012
        pytest.raises(BadFileError, match="more than 1,048,576 bytes"),
        open_json(SourceFile(str(tmp_path / "x.json"))) as stream,
    ):
        for _ in stream.members():
            list(stream.batches())


def test_half_surrogate_pairs_are_mended(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(rb'["\ud83d", "\ud83d\ude00"]')
    with open_json(SourceFile(str(tmp_path / "x.json"))) as stream:
        assert stream.value() == ["\ufffd", "😀"]
