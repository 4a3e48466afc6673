"""Pairs of downloads of one account: each message and each thread counts once, whatever either download calls it."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from helpers.export_fixtures import START, Talk, as_json, config, files_of, write_folder, write_zip
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaegpt.exports.extract import read_export
from jaegpt.sample import double_encode
from jaegpt.tables import read_table

OWNER, OWNER_BEFORE = "Zoë Tarvén", "Zoë Quist"
CONTACTS = ("Anaïs Sølvay", "Bo Łęck", "Cyd Vågen", "Dan Ødeby")
DELETED = ("Facebook user", "", "Facebook User", "Utilisateur Facebook", "Facebook-Nutzer", "Użytkownik Facebooka")
COPIES = (" 2", " - Copy", " (1)", " - Copie (2)", " Kopie", " のコピー")
# Eras as (old, new); the first knows seconds only.
ERAS = (("early 2018", "2022"), ("late 2018", "since 2024"), ("2022", "since 2024"), ("2023", "2023"))
MONTH = 30 * 86_400_000


@dataclass(frozen=True)
class Pair:
    """Two downloads, as files; the truth about them."""

    old: dict[str, bytes]
    new: dict[str, bytes]
    messages: list[tuple[int, str, bool]]  # (time in seconds, text, whether the owner wrote it), sorted
    threads: int
    groups: int


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    era = draw(st.sampled_from(ERAS))
    num = draw(st.integers(3, 4))
    has_namesakes = draw(st.booleans())
    names = ["Bo Łęck" if has_namesakes and index == 3 else name for index, name in enumerate(CONTACTS[:num])]
    owner_before = draw(st.sampled_from((OWNER, OWNER_BEFORE)))
    renamed = draw(st.sampled_from((None, 0, 2)))  # the contact who is under another name in the old download
    deleted = draw(st.sampled_from((None, None, 0, 1, 2)))  # the one without a name in the new one
    old_talks, new_talks, truth, groups = [], [], [], 0
    for index in range(num):
        members = [index, 0, 2] if index == 1 and draw(st.booleans()) else [index]
        groups += len(members) > 1
        length = draw(st.integers(6, 10))
        start = START + index * MONTH
        said = [
            (start + 61_000 * turn, -1 if turn % 2 else members[turn // 2 % len(members)]) for turn in range(length)
        ]
        texts = [draw(st.sampled_from(("ha", "no", f"line {turn}"))) for turn in range(length)]
        truth += [(ms // 1000, text, who < 0) for (ms, who), text in zip(said, texts, strict=True)]
        cut, begin = draw(st.integers(4, length)), draw(st.integers(0, 1))
        before = {who: names[who] for who in members} | {-1: owner_before}
        now = {who: names[who] for who in members} | {-1: OWNER}
        if renamed in members:
            before[renamed] = "Former Name"
        if deleted in members:
            now[deleted] = draw(st.sampled_from(DELETED))
        letters = draw(st.sampled_from((f"Talk{index}_aB3-Ef9Hi{index}", f"talk{index}_{1000 + index}")))
        for talks, known, part, folder in (
            (old_talks, before, slice(0, cut), letters),
            (new_talks, now, slice(begin, None), f"talk{index}_{1000 + index}"),
        ):
            messages = [(known[who], ms, text) for (ms, who), text in zip(said, texts, strict=True)][part]
            title = "Ski trip" if len(members) > 1 else known[index]
            box = draw(st.sampled_from(("inbox", "archived_threads", "e2ee_cutover", "a_new_box")))
            talks.append(Talk(folder, title, tuple(known.values()), tuple(messages), box))
    old, new = _copied(draw, files_of(era[0], tuple(old_talks))), _copied(draw, files_of(era[1], tuple(new_talks)))
    if era[0] == "early 2018":
        old = {name: _without(raw, owner_before) for name, raw in old.items()}
    return Pair(old, new, sorted(truth), num, groups)


def _without(raw: bytes, owner: str) -> bytes:
    """Early in 2018 the owner is no participant; the fixture knows one name of theirs only."""
    content = json.loads(raw)
    content["participants"] = [name for name in content["participants"] if name != double_encode(owner)]
    return as_json(content)


def _copied(draw: st.DrawFn, files: dict[str, bytes]) -> dict[str, bytes]:
    """The files with copies of one of them, of its folder, or of nothing; a copy may have taken the file's place."""
    name = draw(st.sampled_from(sorted(files)))
    folder, _, file = name.rpartition("/")
    mark = draw(st.sampled_from(COPIES))
    copy = draw(st.sampled_from((name, f"{folder}{mark}/{file}", f"{name.removesuffix('.json')}{mark}.json")))
    files = files | {copy: files[name]}
    if draw(st.booleans()) and copy != name:
        del files[name]
    return files


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(pair=pairs(), as_zip=st.booleans())
def test_a_pair_of_downloads_is_read_as_one(pair: Pair, as_zip: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for year, files in (("2019", pair.old), ("2024", pair.new)):
            if as_zip:
                write_zip(folder / f"downloads/facebook-{year}.zip", files)
            else:
                write_folder(folder / f"downloads/facebook-{year}", files)
        (folder / "out").mkdir()
        report = read_export(config(folder / "downloads"), folder / "out")
        table = read_table(folder / "out", "messages")
    assert report.owner is not None
    assert report.owner.names[0] in (OWNER, OWNER_BEFORE)
    times = [time // 1000 for time in table["sent_at"].cast("int64").to_pylist()]
    kept = sorted(zip(times, table["text"].to_pylist(), table["is_owner"].to_pylist(), strict=True))
    assert kept == pair.messages
    assert report.messages_read == report.messages_kept + sum(report.dropped.values())
    assert (report.threads, report.groups, report.problems) == (pair.threads, pair.groups, [])
