"""One small set of conversations, written in every format, year, box and wrapping that a download can have."""

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from jaegpt.exports.account import ExportReport
from jaegpt.exports.config import ExportConfig
from jaegpt.exports.extract import read_export
from jaegpt.sample import double_encode
from jaegpt.tables import read_table

OWNER = "Zoë Tarvén"
START = 1_520_000_000_000  # whole seconds, as the format of early 2018 can hold no less


@dataclass(frozen=True)
class Talk:
    """One thread: its folder, its title, the people in it, and (sender, ms, text) oldest first."""

    folder: str
    title: str
    people: tuple[str, ...]
    messages: tuple[tuple[str, int, str], ...]
    box: str = "inbox"


TALKS = (
    Talk(
        "anaissolvay_1001",
        "Anaïs Sølvay",
        ("Anaïs Sølvay", OWNER),
        (
            ("Anaïs Sølvay", START, "Did you like the café? 😂❤"),
            (OWNER, START + 9_000, "“Très bien” — naïve, I know"),
            (OWNER, START + 9_000, "second thought in the same second"),
            ("Anaïs Sølvay", START + 70_000, "한국어도 괜찮아"),
        ),
    ),
    Talk(
        "bo_1002",
        "Bo Łęck",
        ("Bo Łęck", OWNER),
        (("Bo Łęck", START + 5_000, "hey"), (OWNER, START + 6_000, "hey yourself"), (OWNER, START + 86_400_000, "bye")),
    ),
    Talk(
        "skitrip_1003",
        "Ski trip",
        ("Anaïs Sølvay", "Bo Łęck", OWNER),
        (
            ("Cyd Vågen", START + 1_000, "I am leaving this group"),  # and so is no participant any more
            ("Bo Łęck", START + 2_000, "sad"),
            (OWNER, START + 3_000, "who brings the wax?"),
        ),
    ),
)


def config(path: str | Path | list[str], **changes: Any) -> ExportConfig:
    plain = ExportConfig(
        path=path if isinstance(path, list) else str(path),
        owner="auto",
        exclude=[],
        on_error="stop",
        system_patterns=[],
        redact=False,
        timezone="UTC",
        date_order="auto",
        newest_months=None,
        boxes=["inbox", "archived", "requests"],
    )
    return replace(plain, **changes)


def read(path: str | Path | list[str], folder: Path, **changes: Any) -> tuple[ExportReport, pa.Table]:
    """Read an export into the new `folder`; every reading balances."""
    folder.mkdir()
    report = read_export(config(path, **changes), folder)
    table = read_table(folder, "messages")
    assert report.messages_read == report.messages_kept + sum(report.dropped.values())
    assert report.messages_kept == len(table) > 0
    assert report.owner_messages == sum(table["is_owner"].to_pylist())
    assert sorted(path.name for path in folder.iterdir())[0] == "part-00000.parquet", "scratch files were left"
    return report, table


def rows(table: pa.Table) -> list[tuple[str, int, str, bool]]:
    """(sender, ms, text, is_owner) of a table, thread by thread; threads by their first message."""
    threads: dict[str, list[tuple[str, int, str, bool]]] = {}
    columns = [table[name].to_pylist() for name in ("thread_id", "sender", "text", "is_owner")]
    times = table["sent_at"].cast(pa.int64()).to_pylist()
    for thread, sender, text, is_owner, time in zip(*columns, times, strict=True):
        threads.setdefault(thread, []).append((sender, time, text, is_owner))
    return [row for thread in sorted(threads.values(), key=lambda thread: thread[0][1]) for row in thread]


def expected(talks: tuple[Talk, ...] = TALKS) -> list[tuple[str, int, str, bool]]:
    ordered = sorted(talks, key=lambda talk: talk.messages[0][1])
    return [(sender, ms, text, sender == OWNER) for talk in ordered for sender, ms, text in talk.messages]


# The years of Messenger, each as (root folder, talk -> content of a file). Files are written newest first.


def since_2024(talk: Talk) -> dict[str, Any]:
    return _thread(
        talk, lambda message: {"is_geoblocked_for_viewer": False, "is_unsent_image_by_messenger_kid_parent": False}
    )


def of_2022(talk: Talk) -> dict[str, Any]:
    extra = {"type": "Generic", "is_unsent": False, "is_taken_down": False}
    bumped = {"bumped_message_metadata": {"bumped_message": "x", "is_bumped": False}}
    content = _thread(talk, lambda message: {**extra, **bumped})
    kind = "RegularGroup" if len(talk.people) > 2 else "Regular"
    return {**content, "thread_type": kind, "magic_words": [], "joinable_mode": {"mode": 1, "link": ""}}


def of_late_2018(talk: Talk) -> dict[str, Any]:
    kind = "RegularGroup" if len(talk.people) > 2 else "Regular"
    return {**_thread(talk, lambda message: {"type": "Generic"}), "thread_type": kind}


def of_early_2018(talk: Talk) -> dict[str, Any]:
    """Seconds; participants as texts, without the owner."""
    messages = [
        {"sender_name": double_encode(sender), "timestamp": ms // 1000, "content": double_encode(text)}
        for sender, ms, text in reversed(talk.messages)
    ]
    people = [double_encode(name) for name in talk.people if name != OWNER]
    return {"participants": people, "title": double_encode(talk.title), "messages": messages}


ERAS: dict[str, tuple[str, Callable[[Talk], dict[str, Any]]]] = {
    "early 2018": ("messages", of_early_2018),
    "late 2018": ("messages", of_late_2018),
    "2022": ("messages", of_2022),
    "2023": ("your_activity_across_facebook/messages", since_2024),
    "since 2024": ("your_facebook_activity/messages", since_2024),
    "instagram": ("your_instagram_activity/messages", since_2024),
    "old instagram": ("messages", since_2024),
}


def files_of(era: str, talks: tuple[Talk, ...] = TALKS) -> dict[str, bytes]:
    """Path in the download -> content."""
    root, shape = ERAS[era]
    name = "message.json" if era == "early 2018" else "message_1.json"
    return {f"{root}/{talk.box}/{talk.folder}/{name}": as_json(shape(talk)) for talk in talks}


def encrypted_files(talks: tuple[Talk, ...], first: int = 40) -> dict[str, bytes]:
    """The end-to-end-encrypted download: flat, oldest first, in proper UTF-8, its files numbered from `first`."""
    files = {}
    for number, talk in enumerate(talks, start=first):
        name = f"{talk.title}_{number}"
        messages = [
            {
                "senderName": sender,
                "timestamp": ms,
                "text": text,
                "type": "text",
                "media": [],
                "reactions": [],
                "isUnsent": False,
            }
            for sender, ms, text in talk.messages
        ]
        content = {"participants": list(talk.people), "threadName": name, "messages": messages}
        files[f"{name}.json"] = json.dumps(content, ensure_ascii=False, indent=2).encode()
    return files


def as_json(content: Any) -> bytes:
    return json.dumps(content, indent=2).encode()


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_zip(path: Path, files: dict[str, bytes], top: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(top + name, content)
    return path


WRAPPINGS = ("folder", "zip", "zip with a top folder", "folder of zips", "inner folder")


def wrap(folder: Path, files: dict[str, bytes], wrapping: str, root: str) -> Path:
    """The files as a user may have them: the path to give; `root` is the folder of the threads' boxes."""
    if wrapping == "zip":
        return write_zip(folder / "export.zip", files)
    if wrapping == "zip with a top folder":
        return write_zip(folder / "export.zip", files, top="facebook-download/")
    if wrapping == "folder of zips":
        for index, (name, content) in enumerate(files.items()):
            write_zip(folder / "export" / f"part{index}.zip", {name: content})
        return folder / "export"
    path = write_folder(folder / "export", files)
    return path / root if wrapping == "inner folder" else path


def tree(folder: Path) -> dict[str, int]:
    """Every file below a folder with its size, to see what was written."""
    return {
        str(path.relative_to(folder)): path.lstat().st_size for path in sorted(folder.rglob("*")) if not path.is_dir()
    }


@contextmanager
def workers(count: int) -> Iterator[None]:
    before = os.environ.get("JAEGPT_WORKERS")
    os.environ["JAEGPT_WORKERS"] = str(count)
    try:
        yield
    finally:
        if before is None:
            del os.environ["JAEGPT_WORKERS"]
        else:
            os.environ["JAEGPT_WORKERS"] = before


def _thread(talk: Talk, extra: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    messages = [
        {"sender_name": double_encode(sender), "timestamp_ms": ms, "content": double_encode(text), **extra(None)}
        for sender, ms, text in reversed(talk.messages)
    ]
    return {
        "participants": [{"name": double_encode(name)} for name in talk.people],
        "messages": messages,
        "title": double_encode(talk.title),
        "is_still_participant": True,
        "thread_path": f"{talk.box}/{talk.folder}",
    }
