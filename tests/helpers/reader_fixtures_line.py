"""LINE's exported chats in the languages and versions of phones and of the desktop program."""

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
    clock: Callable[[datetime], str]
    photo: str
    between: str = "\t"
    quotes: str = '"'


def half(moment: datetime, before: str, after: str) -> str:
    return f"{before if moment.hour < 12 else after}{moment.hour % 12 or 12:02}:{moment:%M}"


SHAPES = {
    "en": Shape(
        f"[LINE] Chat history with {FRIEND}\nSaved on: 2024/04/01 10:30\n",
        lambda m: f"{m:%a}, {m.month}/{m.day}/{m.year}", lambda m: f"{m.hour % 12 or 12}:{m:%M}{m:%p}", "[Photo]",
    ),
    "en, day first": Shape(
        f"[LINE] Chat history with {FRIEND}\nSaved on: 01/04/2024, 10:30AM\n",
        lambda m: f"{m:%a}, {m:%d/%m/%Y}", lambda m: f"{m:%I}:{m:%M}{m:%p}", "[Photo]",
    ),
    "ja": Shape(
        f"[LINE] {FRIEND}とのトーク履歴\n保存日時：2024/04/01 10:30\n",
        lambda m: f"{m:%Y/%m/%d}({'月火水木金土日'[m.weekday()]})",
        lambda m: f"{m:%H:%M}", "[写真]",
    ),
    "ja, era": Shape(
        f"[LINE] {FRIEND}とのトーク履歴\n保存日時：R6/04/01 10:30\n",
        lambda m: f"R{m.year - 2018}/{m:%m/%d}({'月火水木金土日'[m.weekday()]})",
        lambda m: f"{m:%H:%M}", "[写真]", "    ",
    ),
    "zh-Hant": Shape(
        f"[LINE] 與{FRIEND}的聊天記錄\n儲存日期：2024/04/01 10:30\n",
        lambda m: f"{m:%Y/%m/%d}（{'一二三四五六日'[m.weekday()]}）", lambda m: half(m, "上午", "下午"), "[照片]",
    ),
    "zh-Hans": Shape(
        f"[LINE] 与{FRIEND}的聊天记录\n保存日期：2024/4/1 10:30\n",
        lambda m: f"{m.year}/{m.month}/{m.day}周{'一二三四五六日'[m.weekday()]}",
        lambda m: half(m, "上午", "下午"), "[图片]",
    ),
    "th": Shape(
        f"[LINE] ประวัติการสนทนากับ {FRIEND}\nบันทึกวันที่: 2567/04/01 10:30\n",
        lambda m: f"{m.year + 543}/{m:%m/%d} อังคาร",
        lambda m: f"{m:%H:%M}", "[รูป]",
    ),
    "desktop": Shape(
        "", lambda m: f"{m:%Y.%m.%d} {m:%A}", lambda m: f"{m:%H:%M}", "Photo", " ", "",
    ),
}  # fmt: skip


def chat(shape: Shape, zone: str = "Asia/Tokyo") -> str:
    """The conversation; LINE keeps neither captions nor deleted messages, so that a caption is a message of its own."""
    lines, before = [shape.head] if shape.head else [], None
    for moment, (_, sender, kind, text) in zip(moments(zone), CONVERSATION, strict=True):
        if kind == "deleted":
            continue
        if moment.date() != before:
            lines += [shape.day(moment)] if before is None else ["", shape.day(moment)]
            before = moment.date()
        if kind == "photo":
            lines.append(shape.between.join((shape.clock(moment), sender, shape.photo)))
        if text:
            quoted = f"{shape.quotes}{text}{shape.quotes}" if "\n" in text else text
            lines.append(shape.between.join((shape.clock(moment), sender, quoted)))
    return "\n".join(lines) + "\n"


def write_large(path: Path, num_bytes: int) -> None:
    """A chat of a phone of about that size."""
    start = datetime(2015, 1, 1)

    def line(number: int, rng: random.Random) -> str:
        time = start + timedelta(seconds=number * 30)
        text = rng.choice(LARGE_TEXTS) if rng.random() > 0.08 else "[Photo]"
        text = f'"{text}"' if "\n" in text else text
        day = f"\n{time:%Y/%m/%d}(Mon)\n" if number % 2880 == 0 else ""
        return f"{day}{time:%H:%M}\t{rng.choice((FRIEND, 'Ben Ødeby'))}\t{text}\n"

    write_lines(path, num_bytes, line)
