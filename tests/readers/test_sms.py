"""SMS Backup & Restore: references, groups, what is left out, and XML that must not be trusted."""

from pathlib import Path
from typing import Any

import pytest
from helpers.reader_checks import (
    FRIEND,
    as_sniffed,
    check_mutations,
    dropped,
    expected,
    messages,
    ms,
    mutated_bytes,
    read_bytes,
    read_path,
)
from helpers.reader_fixtures_json import FOREIGN
from helpers.reader_fixtures_sms import NUMBER, START, backup, conversation, mms, pairs, part, sms, write_large

from jaegpt.exports.archives import BadFileError
from jaegpt.exports.readers import xml_stream
from jaegpt.exports.readers.sms import READER
from jaegpt.exports.readers.xml_stream import mended

NOON = "2024-03-05T12:00:00Z"
ANNA, BO, MIA, OWN = NUMBER, "+4917600000001", "+4917600000002", "+4917600000009"


def read(folder: Path, *rows: str) -> Any:
    return read_bytes(READER, backup(*rows), folder)[0]


@pytest.mark.parametrize("form", ["as it is", "pairs of references", "newest first", "with a byte order mark"])
def test_the_conversation(tmp_path: Path, form: str) -> None:
    content = conversation(newest_first=form == "newest first")
    content = pairs(content) if form == "pairs of references" else content
    content = b"\xef\xbb\xbf" + content if form == "with a byte order mark" else content
    assert READER.sniff("sms-20240305170000.xml", as_sniffed(content)) > 0.9
    (thread,), said = read_bytes(READER, content, tmp_path)
    assert messages([thread]) == expected(FRIEND, "Me")
    assert (dropped([thread]), said) == ({"media": 1}, [])
    assert (thread.key, thread.title, thread.is_group) == (NUMBER, FRIEND, False)
    assert (thread.owner, thread.owner_is_marked, set(thread.people)) == (("Me",), True, {"Me", FRIEND})


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (b"&#55357;&#56832;", "\U0001f600"),
        (b"&#xD83D;&#xde00;&#55357;&#56832;", "\U0001f600\U0001f600"),
        (b"&#55357;x", "\ufffdx"),  # half a pair
        (b"&#56832;&#55357;", "\ufffd\ufffd"),
        (b"&#55000;&#57344;", "\ud6d8\ue000"),  # neighbours of the halves in number
        (b"a&#10;b&#x41;&#8364;&amp;#55357;", "a\nbA\u20ac&#55357;"),
        (b"a&#0;b&#11;c&#x1F;d&#65535;", "abcd"),
        (b"a\x00\x0bb", "ab"),
        (b"a\nb", "a b"),  # XML's rule for a line break that is written out
        (b"&#128512;", "\U0001f600"),
    ],
)
@pytest.mark.parametrize("read_bytes_at_once", [1, 7, 2**20])
def test_references(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bytes, text: str, read_bytes_at_once: int
) -> None:
    monkeypatch.setattr(xml_stream, "READ_BYTES", read_bytes_at_once)
    content = backup(sms(NOON, "TEXT")).replace(b"TEXT", b"." + written + b".")
    assert [found for *_, found in messages(read_bytes(READER, content, tmp_path)[0])] == [f".{text}."]


def test_other_references_are_left_alone() -> None:
    block = b"&#10;&#13;&#9;&amp;&quot;&#233;&#x1F600; &#5; &#55357;&#56832;"
    assert mended(block) == b"&#10;&#13;&#9;&amp;&quot;&#233;&#x1F600;  " + "\U0001f600".encode()


def test_what_is_left_out_and_why(tmp_path: Path) -> None:
    photo, card = part("image/jpeg", data=b"x"), part("text/x-vCard", data=b"x")
    rows = {
        "draft": [*(sms(NOON, "x", type=box) for box in (3, 4, 5, 6, "null")), mms(NOON, photo, msg_box=3)],
        "service": [mms(NOON, m_type=130), mms(NOON, m_type=134)],
        "media": [mms(NOON, photo), mms(NOON, part("video/mp4", data=b"x"), part("text/plain", " "))],
        "contact": [mms(NOON, card)],
        "empty": [sms(NOON, "null"), sms(NOON, " "), mms(NOON), mms(NOON, part("text/plain"))],
        "reaction": [sms(NOON, "Loved “see you”")],
        "malformed": [sms(NOON, "x", date=date) for date in ("null", "soon", 0, "9" * 30, -5, "١٢٣")],
    }
    kept = [sms(NOON, "Me"), mms(NOON, part("text/plain", "two", 2), part("text/plain", "one", 1), sub="Re: x")]
    threads = read(tmp_path, *[row for group in rows.values() for row in group], *kept)
    assert [text for *_, text in messages(threads)] == ["Me", "one\ntwo"]
    assert dropped(threads) == {reason: len(group) for reason, group in rows.items()}
    assert threads[0].fault.startswith("line ")
    assert threads[0].fault.endswith(": `date` is 'null' instead of a whole number")


def test_numbers_of_one_person_in_several_spellings(tmp_path: Path) -> None:
    spellings = (NUMBER, "0151 12345678", "004915112345678", "+49 (151) 1234-5678")
    rows = [sms(NOON, f"text {number}", address=address) for number, address in enumerate(spellings)]
    rows.append(sms(NOON, "hi", address="015112345678", contact_name="null"))
    (thread,) = read(tmp_path, *rows)
    assert (thread.key, set(thread.senders), len(thread.texts)) == (NUMBER, {FRIEND}, 5)


def test_groups_are_their_people_without_the_owner(tmp_path: Path) -> None:
    words = part("text/plain", "hi")
    group = {"address": f"{ANNA}~{BO}", "contact_name": "Bo Lind, Anna Berg"}
    rows = [
        mms(NOON, words, sender=BO, to=(ANNA, OWN), **group),
        mms(NOON, words, sender=OWN, to=(ANNA, BO), own=True, address=f"{BO}~{OWN}~{ANNA}", contact_name="null"),
        mms(NOON, words, sender=OWN, to=(ANNA, BO), own=True, **group),
        mms(NOON, words, sender=OWN, to=(OWN, OWN), **group),  # all addresses the same
        sms(NOON, "hello"),
        sms(NOON, "hello", address=BO, contact_name="Bo Lind"),
    ]
    threads = {thread.key: thread for thread in read(tmp_path, *rows)}
    assert set(threads) == {f"{ANNA}~{BO}", ANNA, BO}
    thread = threads[f"{ANNA}~{BO}"]
    assert thread.senders == ["Bo Lind", "Me", "Me", ""]
    assert (thread.title, thread.is_group, set(thread.people)) == (
        "Anna Berg, Bo Lind",
        True,
        {FRIEND, "Bo Lind", "Me"},
    )


def test_a_receivers_number_given_as_the_senders_is_not_the_owners(tmp_path: Path) -> None:
    words = part("text/plain", "hi")
    rows = [mms(NOON, words, own=True, sender=ANNA, to=(ANNA,)), mms(NOON, words, sender=ANNA, address=f"{ANNA}~{BO}")]
    assert [thread.key for thread in read(tmp_path, *rows)] == [ANNA, f"{ANNA}~{BO}"]


def test_services_the_owner_never_wrote_to(tmp_path: Path) -> None:
    rows = [sms(NOON, "your code is 1234", address=name, contact_name="(Unknown)") for name in ("72345", "MYBANK")]
    rows += [sms(NOON, "vote?", address="4636"), sms(NOON, "yes", True, address="4636"), sms(NOON, "hi")]
    threads = read(tmp_path, *rows)
    assert [text for *_, text in messages(threads)] == ["vote?", "yes", "hi"]
    assert dropped(threads) == {"short_code": 2}


def test_a_message_without_an_address_and_times_in_seconds(tmp_path: Path) -> None:
    rows = [sms(NOON, "x", address="null"), sms(NOON, "y", date=ms(NOON) // 1000)]
    threads = read(tmp_path, *rows)
    assert messages(threads) == [(FRIEND, ms(NOON), "y")]
    assert threads[0].fault == "line 5: `address` is missing"


BOMB = '<!DOCTYPE smses [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>\n'


@pytest.mark.parametrize(
    ("content", "reason", "says"),
    [
        (backup(sms(NOON, "x"), start=BOMB), "entities", "declares a document type"),
        (backup(start='<!DOCTYPE smses SYSTEM "file:///etc/passwd">'), "entities", "declares a document type"),
        (backup(sms(NOON, "x")).replace(b'body="x"', b'body="&x;"'), "not_xml", "line 5: not XML .undefined entity"),
        (conversation()[:-20], "truncated", "cut off"),
        (b"", "truncated", "cut off"),
        (conversation() + b"<x/>", "not_xml", "junk after document element"),
        (START.encode() + b'<calls count="0"></calls>', "not_this_format", "<calls>, not <smses>"),
        (conversation().replace(b"Anna", b"Ann\xff"), "not_xml", "line 5: not XML"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, reason: str, says: str) -> None:
    with pytest.raises(BadFileError, match=says) as error:
        read_bytes(READER, content, tmp_path)
    assert error.value.reason == reason


def test_an_endless_tag_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml_stream, "MAX_TAG_BYTES", 3 * 2**20)
    content = backup(mms(NOON, part("image/jpeg", data=bytes(6 * 2**20))))
    with pytest.raises(BadFileError, match="more than 3,145,728 bytes"):
        read_bytes(READER, content, tmp_path)


@pytest.mark.parametrize("kind", FOREIGN)
def test_other_files_are_not_taken(kind: str) -> None:
    assert READER.sniff("sms.xml", FOREIGN[kind][:8192]) == (0.95 if kind == "xml" else 0)


def test_mutated_files(tmp_path: Path) -> None:
    plain, old = conversation(), pairs(conversation())
    forms = {"plain": lambda rng: mutated_bytes(plain, rng), "pairs": lambda rng: mutated_bytes(old, rng)}
    check_mutations(READER, tmp_path, forms)


def test_a_large_file_comes_in_pieces(tmp_path: Path) -> None:
    write_large(tmp_path / "sms.xml", 30 * 2**20)
    threads, _ = read_path(READER, tmp_path / "sms.xml")
    assert len({thread.key for thread in threads}) == 300 < len(threads)
    assert len(messages(threads)) % 1000 == 0
    assert {text for *_, text in messages(threads)} >= {'she said "never" \U0001f600', "on my way now"}
