"""KakaoTalk's exported chats: Windows, Android and iPhone, Korean and English, and the Mac's CSV."""

import csv
import io
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from helpers.reader_fixtures_text import CONVERSATION, FRIEND, LARGE_TEXTS, moments, write_lines


@dataclass(frozen=True)
class Shape:
    head: str
    day: Callable[[datetime], str]
    stamp: Callable[[datetime, str], str]  # all before the text
    photo: str
    deleted: str


def _korean(m: datetime) -> str:
    return f"{'오전' if m.hour < 12 else '오후'} {m.hour % 12 or 12}:{m:%M}"


def _english(m: datetime) -> str:
    return f"{m.hour % 12 or 12}:{m:%M} {m:%p}"


WEEKDAYS = "월화수목금토일"
SHAPES = {
    "windows ko": Shape(
        f"{FRIEND} 님과 카카오톡 대화\n저장한 날짜 : 2024-04-01 10:30:00\n\n",
        lambda m: f"--------------- {m.year}년 {m.month}월 {m.day}일 {WEEKDAYS[m.weekday()]}요일 ---------------",
        lambda m, name: f"[{name}] [{_korean(m)}] ", "사진", "삭제된 메시지입니다.",
    ),
    "windows en": Shape(
        f"{FRIEND} with KakaoTalk Chats\nDate Saved : 2024-04-01 10:30:00\n\n",
        lambda m: f"--------------- {m:%A}, {m:%B} {m.day}, {m.year} ---------------",
        lambda m, name: f"[{name}] [{_english(m)}] ", "Photo", "This message was deleted.",
    ),
    "android ko": Shape(
        f"{FRIEND} 님과 카카오톡 대화\n저장한 날짜 : 2024년 4월 1일 오전 10:30\n\n\n",
        lambda m: f"{m.year}년 {m.month}월 {m.day}일 {_korean(m)}",
        lambda m, name: f"{m.year}년 {m.month}월 {m.day}일 {_korean(m)}, {name} : ", "사진", "삭제된 메시지입니다.",
    ),
    "ios ko": Shape(
        f"{FRIEND} 님과 카카오톡 대화\n저장한 날짜 : 2024. 4. 1. 오전 10:30\n\n",
        lambda m: f"{m.year}년 {m.month}월 {m.day}일 {WEEKDAYS[m.weekday()]}요일",
        lambda m, name: f"{m.year}. {m.month}. {m.day}. {_korean(m)}, {name} : ", "사진", "삭제된 메시지입니다.",
    ),
    "ios en": Shape(
        f"KakaoTalk Chats with {FRIEND}\nDate Saved : Apr 1, 2024, 10:30 AM\n\n",
        lambda m: f"{m:%A}, {m:%B} {m.day}, {m.year}",
        lambda m, name: f"{m:%b} {m.day}, {m.year}, {_english(m)}, {name} : ", "Photo", "This message was deleted.",
    ),
    "android en, 2015": Shape(
        f"KakaoTalk Chats with {FRIEND}\nDate Saved : 10:30am, April 1, 2024\n\n", lambda m: "",
        lambda m, name: f"{m.hour % 12 or 12}:{m:%M}{'am' if m.hour < 12 else 'pm'}, {m:%B} {m.day}, {m.year}"
        f", {name} : ",
        "<Photo>", "This message was deleted.",
    ),
}  # fmt: skip


def chat(shape: Shape, zone: str = "Asia/Seoul") -> str:
    """The conversation; a caption is a message of its own."""
    lines, before = [], None
    for moment, (_, sender, kind, text) in zip(moments(zone), CONVERSATION, strict=True):
        if moment.date() != before:
            day = shape.day(moment)
            lines += [day] if day else []
            before = moment.date()
        texts = {"text": [text], "photo": [shape.photo, text], "deleted": [shape.deleted]}[kind]
        lines += [f"{shape.stamp(moment, sender)}{part}" for part in texts if part]
    return shape.head + "\n".join(lines) + "\n"


def chat_csv(zone: str = "Asia/Seoul") -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(("Date", "User", "Message"))
    for moment, (_, sender, kind, text) in zip(moments(zone), CONVERSATION, strict=True):
        texts = {"text": [text], "photo": ["사진", text], "deleted": ["삭제된 메시지입니다."]}[kind]
        for part in texts:
            if part:
                writer.writerow((f"{moment:%Y-%m-%d %H:%M:%S}", sender, part))
    return out.getvalue().encode("utf-8-sig")


def write_large(path: Path, num_bytes: int) -> None:
    """A chat of an Android phone of about that size."""
    start = datetime(2015, 1, 1)

    def line(number: int, rng: random.Random) -> str:
        m = start + timedelta(seconds=number * 30)
        text = rng.choice(LARGE_TEXTS) if rng.random() > 0.08 else "사진"
        return f"{m.year}년 {m.month}월 {m.day}일 {_korean(m)}, {rng.choice((FRIEND, '김민지'))} : {text}\n"

    write_lines(path, num_bytes, line)
