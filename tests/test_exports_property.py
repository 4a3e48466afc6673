"""Mutated exports: each ends in messages or in the project's own error, and no message goes missing unaccounted.

`JAEGPT_PROPERTY_CASES=50000 pytest tests/test_exports_property.py` runs more of them than the usual 2,000.
"""

import copy
import json
import os
import random
import shutil
import traceback
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.export_fixtures import (
    ERAS,
    OWNER,
    TALKS,
    Talk,
    as_json,
    config,
    encrypted_files,
    files_of,
    write_folder,
    write_zip,
)
from helpers.reader_checks import places

from jaegpt.errors import JaegptError
from jaegpt.exports.extract import read_export
from jaegpt.tables import read_table

USUAL_CASES = 2000
NUM_CASES = int(os.environ.get("JAEGPT_PROPERTY_CASES", USUAL_CASES))
NUM_GROUPS = 8

HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, -(2**63), 2**63, 2**64, 2**70, 1e300, 1.5, 253_402_300_799_000, 4_102_444_800_000,
    "", " ", "\0", "\ud83d", "\ude00x", "Facebook user", "x" * 5000, "Ã©", "\u202e", "🙂", "You called Bo.",
    "Liked a message", [], {}, [[]], [None], {"name": None}, {"name": 5}, ["a", 1], "1520000000000", "../../x",
)  # fmt: skip
_KEYS = """
    is_unsent is_taken_down call_duration type share content text timestamp timestamp_ms users sender_name participants
    messages title thread_type photos threadName isUnsent x
"""
KEYS = _KEYS.split()
NAMES = (OWNER, "Anaïs Sølvay", "Bo Łęck")
CUTS = (slice(None, 2), slice(1, None))  # both have the second message
# Contacts and a thread; the last is in no export, but a mutation may leave out the others too.
EXCLUDED: tuple[list[str], ...] = ([], [], [], ["Bo Łęck"], ["Ski trip"], ["Anaïs Sølvay", "skitrip_1003"], ["No one"])


def _mutate_tree(raw: bytes, rng: random.Random) -> bytes:
    content = json.loads(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        nodes = places(content)
        if not nodes:
            break
        parent, key = rng.choice(nodes)
        action = rng.randrange(5)
        if action == 0:
            del parent[key]
        elif action == 1 and isinstance(parent, dict):
            parent[rng.choice(KEYS)] = copy.deepcopy(rng.choice(HOSTILE))
        elif action == 2 and isinstance(parent, list):
            parent.insert(rng.randrange(len(parent) + 1), copy.deepcopy(rng.choice((*HOSTILE, parent[key]))))
        elif action == 3:
            parent[key] = copy.deepcopy(rng.choice(nodes)[0])
        else:
            parent[key] = copy.deepcopy(rng.choice(HOSTILE))
    try:
        return json.dumps(content).encode()
    except ValueError:  # a mutation made the tree a member of itself
        return b"[" * 2000


def _mutate_bytes(raw: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(raw) + 1)
    action = rng.randrange(6)
    if action == 0:
        return raw[:at]
    if action == 1:
        return raw[:at] + bytes([rng.randrange(256)]) + raw[at + 1 :]
    if action == 2:
        return (
            raw[:at]
            + rng.choice((b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\\ud83d", b'"', b"{", b"]", b"1e999"))
            + raw[at:]
        )
    if action == 3:
        return raw[at:]
    if action == 4:
        return rng.choice((b"", b"\xef\xbb\xbf" + raw, raw + raw, b"[" * 10_000, bytes(300), b"\xff\xfe" + raw))
    return raw[:at] + raw[at + rng.randrange(40) :]


def _downloads(rng: random.Random) -> list[dict[str, bytes]]:
    """What a person has: one download of any year, two that overlap, or both halves of encrypted conversations."""
    talks = TALKS[: rng.choice((1, 2, 3, 3))]
    start, end = (tuple(replace(talk, messages=talk.messages[part]) for talk in talks) for part in CUTS)
    kind = rng.choice((*ERAS, "encrypted", "halves", "halves", "two downloads", "two encrypted", "pair", "pair"))
    if kind == "encrypted":
        return [encrypted_files(talks)]
    if kind == "halves":
        cutover = tuple(replace(talk, box="e2ee_cutover") for talk in start)
        return [files_of(rng.choice(("2023", "since 2024")), cutover), encrypted_files(end)]
    if kind == "two downloads":
        return [files_of(rng.choice(("early 2018", "2022")), start), files_of("since 2024", talks)]
    if kind == "two encrypted":
        return [encrypted_files(start), encrypted_files(end, first=rng.choice((40, 41, 7)))]
    if kind == "pair":
        return _pair(talks, rng)
    return [files_of(kind, talks)]


def _pair(talks: tuple[Talk, ...], rng: random.Random) -> list[dict[str, bytes]]:
    """An old download and a new one, in which folders and people have other names; some files are there as copies."""
    names = {rng.choice(NAMES): rng.choice(("Renamed Quist", "Facebook user", "Utilisateur Facebook", "Bo Łęck", ""))}
    old = tuple(
        replace(
            talk,
            folder=rng.choice(
                (talk.folder, f"{talk.folder.partition('_')[0]}_aB3-Ef9Hi{index}", f"other_{1001 + index}")
            ),
            people=tuple(names.get(name, name) for name in talk.people),
            messages=tuple((names.get(sender, sender), ms, text) for sender, ms, text in talk.messages[CUTS[0]]),
        )
        for index, talk in enumerate(talks)
    )
    later = CUTS[1] if rng.random() < 0.5 else slice(None)
    new = tuple(replace(talk, messages=talk.messages[later]) for talk in talks)
    era = rng.choice(("instagram", "since 2024", "since 2024"))
    downloads = [files_of(rng.choice((era, "2022", "early 2018")), old), files_of(era, new)]
    files = rng.choice(downloads)
    name = rng.choice(sorted(files))
    folder, _, file = name.rpartition("/")
    copies = (f"{folder} 2/{file}", f"{folder} - Copie/{file}", f"{name[:-5]} (1).json", f"{name}.part")
    files[rng.choice(copies)] = files[name]
    return downloads


def _export(case: int, folder: Path) -> tuple[list[str], random.Random]:
    """The mutated export number `case`, written under `folder`: its paths, and the generator for what follows."""
    rng = random.Random(case)
    downloads = _downloads(rng)
    if rng.random() < 0.2:
        profile = as_json({"profile_v2": {"name": {"full_name": OWNER}}})
        downloads[0]["personal_information/profile_information/profile_information.json"] = profile
    everything = [(files, name) for files in downloads for name in sorted(files)]
    for files, name in rng.sample(everything, k=min(len(everything), rng.choice((1, 1, 2)))):
        files[name] = rng.choice((_mutate_tree, _mutate_tree, _mutate_tree, _mutate_bytes))(files[name], rng)
    if rng.random() < 0.1:
        files, name = rng.choice(everything)
        files[rng.choice((f"../{name}", f"/{name}", name.upper(), name.replace("_1", "_2")))] = files[name]
    paths = [_written(folder / f"export {index}", files, rng) for index, files in enumerate(downloads)]
    return paths * rng.choice((1, 1, 2)), rng


def _written(folder: Path, files: dict[str, bytes], rng: random.Random) -> str:
    if rng.random() < 0.5 and not any(name.startswith(("/", "..")) for name in files):
        return str(write_folder(folder, files))
    path = write_zip(folder.with_suffix(".zip"), files)
    if rng.random() < 0.3:
        path.write_bytes(
            _mutate_bytes(path.read_bytes().replace(b"\xff\xfe", b"ab"), rng) if rng.random() < 0.9 else b"PK"
        )
    return str(path)


@pytest.mark.parametrize("group", range(NUM_GROUPS))
def test_a_mutated_export_ends_in_messages_or_in_one_clear_error(
    group: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAEGPT_WORKERS", "1")
    ends: Counter[str] = Counter()
    for case in range(group, NUM_CASES, NUM_GROUPS):
        folder = tmp_path / str(case)
        (folder / "out").mkdir(parents=True)
        paths, rng = _export(case, folder)
        before = set(folder.rglob("*"))
        owner = rng.choice(("auto", "auto", OWNER))
        mode = rng.choice(("stop", "skip", "skip"))
        exclude = rng.choice(EXCLUDED)
        chosen = config(paths, on_error=mode, owner=owner, exclude=exclude, redact=rng.random() < 0.1)
        try:
            report = read_export(chosen, folder / "out")
        except JaegptError as error:
            message = str(error)
            assert message.startswith(("export.path: ", "export.owner: ", "export.exclude: ")), (
                f"case {case}: {message}"
            )
            assert not any((folder / "out").iterdir()), f"case {case} left something behind"
            ends["error"] += 1
            assert exclude or not message.startswith("export.exclude"), f"case {case}: {message}"
        except Exception:
            pytest.fail(f"case {case}:\n{traceback.format_exc()}")
        else:
            table = read_table(folder / "out", "messages")
            assert report.messages_kept == len(table) > 0, f"case {case}"
            assert report.messages_read == report.messages_kept + sum(report.dropped.values()), f"case {case}"
            assert not set(exclude) & set(table["sender"].to_pylist()), f"case {case}"
            assert mode == "skip" or not report.skipped, f"case {case}"
            ends["messages"] += 1
            ends["excluded"] += report.dropped.get("excluded", 0) > 0
            ends["both halves"] += any("encrypted" in name for name in report.formats) and len(report.formats) > 1
        new = set(folder.rglob("*")) - before
        assert all(path.parent == folder / "out" for path in new), f"case {case} wrote {new}"
        shutil.rmtree(folder)
    # Both ends must be common, or the mutations test nothing. A handful of cases need not have each.
    total = ends["messages"] + ends["error"]
    if NUM_CASES >= USUAL_CASES:
        assert ends["messages"] > 0.2 * total, ends
        assert ends["error"] > 0.1 * total, ends
        assert min(ends["excluded"], ends["both halves"]) > 0, ends
    assert total >= NUM_CASES // NUM_GROUPS
