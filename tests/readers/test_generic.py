"""The generic reader: CSV, JSON lines and Parquet, their traps, and what mutated ones end in."""

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
from helpers.reader_checks import NUM_MUTATIONS, as_sniffed, messages, read_bytes
from helpers.reader_fixtures_table import CONVERSATION, FRIEND, OWNER, as_csv, as_json_lines, as_parquet, rows

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.message_files import SOURCES
from jaegpt.exports.readers.table import READER
from jaegpt.exports.registry import all_readers

FORMS = {
    "csv": lambda table: as_csv(table),
    "csv with ; and LF": lambda table: as_csv(table, ";", line_end="\n"),
    "csv with tabs and BOM": lambda table: as_csv(table, "\t", b"\xef\xbb\xbf"),
    "json lines": as_json_lines,
    "parquet": as_parquet,
}


EXPECTED = [
    (sender, int(datetime.fromisoformat(time).timestamp() * 1000), text) for sender, time, text in CONVERSATION if text
]


@pytest.mark.parametrize("form", FORMS)
def test_the_conversation(tmp_path: Path, form: str) -> None:
    content = FORMS[form](rows(is_owner=""))
    assert READER.sniff("chat.bin", as_sniffed(content)) > 0.5
    (thread,), said = read_bytes(READER, content, tmp_path)
    assert messages([thread]) == EXPECTED
    assert (thread.key, thread.title, thread.owner, thread.owner_is_marked) == (FRIEND, FRIEND, (), False)
    assert (dict(thread.dropped), thread.num_read, said) == ({"empty": 1}, len(CONVERSATION), [])
    assert thread.resolution_ms == 1000


def test_the_owner_and_the_source_as_the_file_says(tmp_path: Path) -> None:
    table = [{**row, "is_owner": row["sender"] == OWNER} for row in rows(source="Viber", colour="red")]
    for form in FORMS.values():
        (thread,), _ = read_bytes(READER, form(table), tmp_path)
        assert (thread.owner, thread.owner_is_marked, thread.source) == ((OWNER,), True, "viber")
        assert messages([thread]) == EXPECTED


@pytest.mark.parametrize(("unit", "name"), [(1, "seconds"), (1000, "milliseconds")])
def test_numbers_are_seconds_or_milliseconds_by_their_size_once_for_the_file(
    tmp_path: Path, unit: int, name: str
) -> None:
    table = [{**row, "sent_at": 1_709_647_401 * unit} for row in rows()]
    for form in FORMS.values():
        threads, said = read_bytes(READER, form(table), tmp_path)
        assert {time for _, time, _ in messages(threads)} == {1_709_647_401_000}
        assert said == [f"its times were read as Unix {name}, by their size"]
    table[3]["sent_at"] = 1_709_647_401_000 // unit  # of the other kind
    (thread,), _ = read_bytes(READER, as_json_lines(table), tmp_path)
    assert thread.dropped == {"empty": 1, "malformed": 1}
    assert thread.fault == "line 4: `sent_at` lies outside the years 1990 to 2099"


def test_local_times_and_the_doubled_hour(tmp_path: Path) -> None:
    clock = ["2023-10-29 01:59:00", "2023-10-29T02:30:00", "2023-10-29 02:10:00", "2023-10-29 03:00:00"]
    table = [{"thread": "a", "sender": "b", "sent_at": time, "text": "x"} for time in clock]
    (thread,), _ = read_bytes(READER, as_csv(table), tmp_path, "Europe/Berlin")
    utc = [datetime.fromtimestamp(time / 1000, UTC).strftime("%H:%M") for time in thread.sent_at]
    assert utc == ["23:59", "00:30", "01:10", "02:00"]
    (thread,), _ = read_bytes(
        READER, as_csv([{**table[0], "sent_at": "2023-10-29 02:10:00+05:30"}]), tmp_path, "Europe/Berlin"
    )
    assert thread.sent_at == [1_698_525_600_000]


def test_formulas_stay_texts_and_quoted_lines_stay_whole(tmp_path: Path) -> None:
    formula = '=HYPERLINK("http://x.example","a")'
    table = [{**rows()[0], "text": text} for text in (formula, "a\r\nb;c,d\t\te", '"', "@x", "-1")]
    for form in FORMS.values():
        threads, _ = read_bytes(READER, form(table), tmp_path)
        assert [text for *_, text in messages(threads)] == [str(row["text"]) for row in table]


def test_damaged_rows_are_counted_and_named(tmp_path: Path) -> None:
    good = rows()[0]
    bad = [{**good, "sent_at": "yesterday"}, {**good, "sender": " "}, {**good, "thread": ""}, {**good, "source": "a b"}]
    bad += [{**good, "source": "folder"}, {**good, "is_owner": "maybe"}, {**good, "sent_at": "0001-01-01"}]
    table = [{"source": "", "is_owner": "", **row} for row in (good, *bad, good)]
    threads, _ = read_bytes(READER, as_csv(table), tmp_path)
    assert len(messages(threads)) == 2
    assert sum(thread.dropped["malformed"] for thread in threads) == len(bad)
    assert threads[0].fault == "line 3: `sent_at` 'yesterday' is neither a time by ISO 8601 nor a number"
    assert sum(thread.num_read for thread in threads) == len(table)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'thread,sender,sent_at,text\r\na,b,2024-01-01,"x', "line 2: no CSV"),
        (b"thread,sender,sent_at,text\r\na,b,2024-01-01,\xff", "not UTF-8"),
        (b"thread;sender;sent_at\r\na;b;2024-01-01", "column `text` is missing"),
        (b'{"thread":1,"sender":2,"sent_at":3,"text":4}\n{"a', "line 2: not JSON"),
        (b"PAR1 and no more", "not readable as Parquet"),
    ],
)
def test_damaged_files_are_refused_with_the_place(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(BadFileError, match=says) as error:
        read_bytes(READER, content, tmp_path)
    assert error.value.path.startswith(str(tmp_path))


@pytest.mark.parametrize(
    "head",
    [b"", b"\0" * 99, b"a,b,c\n1,2,3", b'{"messages": []}', b"hello, thread: sender", b"SQLite format 3\0", b"<xml/>"],
)
def test_other_files_are_no_tables_of_messages(head: bytes) -> None:
    assert READER.sniff("messages.csv", head) == 0


def test_every_reader_is_registered_once_and_says_how_to_export() -> None:
    readers = all_readers()
    assert readers[-1] is READER, "a table may look like much: it is asked last"
    assert all(reader.how and reader.name and reader.source in SOURCES for reader in readers)


@pytest.mark.parametrize("form", FORMS)
def test_mutated_tables_end_in_messages_or_in_one_clear_error(tmp_path: Path, form: str) -> None:
    rng = random.Random(f"table {form}")
    table = [{**row, "is_owner": row["sender"] == OWNER, "source": "viber"} for row in rows()] * 3
    ends = {"read": 0, "refused": 0}
    for _ in range(-(-NUM_MUTATIONS // len(FORMS))):
        content = _mutated(FORMS[form](table), rng)
        try:
            read_bytes(READER, content, tmp_path)
        except BadFileError:
            ends["refused"] += 1
            continue
        ends["read"] += 1
    assert ends["refused"] > 0, ends
    assert ends["read"] > 0 or form == "parquet", ends


def _mutated(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, cut out, moved or doubled."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        start = rng.randrange(len(changed))
        end = min(len(changed), start + rng.choice((1, 1, 4, 60)))
        kind = rng.choice(("flip", "flip", "cut", "end", "swap", "double"))
        if kind == "flip":
            changed[start] = rng.randrange(256)
        elif kind == "cut":
            del changed[start:end]
        elif kind == "end" and rng.random() < 0.3:
            del changed[start + 1 :]
        elif kind == "swap":
            changed[start:end] = changed[start:end][::-1]
        else:
            changed[start:start] = changed[start:end] * rng.choice((1, 3))
    return bytes(changed)
