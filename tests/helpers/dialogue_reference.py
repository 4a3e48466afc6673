"""What turns, sessions and examples mean, message by message in plain Python, and random threads to try it on."""

import hashlib
import itertools
from fractions import Fraction
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from jaegpt.tables import SCHEMAS

Row = dict[str, Any]

# The owner writes under two names, and one of them is also somebody else's.
SENDERS = [("Ann", True), ("Annie", True), ("Ann", False), ("Bo", False), ("Cy", False)]
GAPS = st.one_of(st.sampled_from([0, 0, 1, 1000, 1000, 2000, 60_000]), st.integers(0, 5_000), st.just(40_000_000_000))
TEXTS = st.sampled_from(["yes", "no", "ok", "yes no", "hé", "안녕", "😂", "so what", "a", "b", "c", "d", "e"])
MESSAGES = st.lists(st.tuples(GAPS, st.sampled_from(SENDERS), TEXTS), min_size=1, max_size=40)
PARTS = st.lists(MESSAGES, min_size=1, max_size=4)
# Threads of a format that knows minutes only, long and short ones.
START_MS = 1_500_000_000_000  # a whole minute
MINUTE_GAPS = st.sampled_from([0, 0, 60_000, 60_000, 60_000, 120_000, 180_000, 3_600_000])
MINUTE_MESSAGES = st.lists(st.tuples(MINUTE_GAPS, st.sampled_from(SENDERS), TEXTS), min_size=1, max_size=40)
SOURCES = st.sampled_from(["messenger", "whatsapp", "line", "kakaotalk", "telegram"])
PERCENTILES = st.sampled_from([0, 10, 25, 50, 75, 90, 99, 100])


def messages_of(threads: list[list[tuple[int, tuple[str, bool], str]]], source: str = "messenger") -> list[Row]:
    """Rows of `filtered` from lists of (gap, (sender, is_owner), text)."""
    rows = []
    for number, thread in enumerate(threads):
        time = START_MS
        for gap, (sender, is_owner), text in thread:
            time += gap
            rows.append(
                {
                    "source": source,
                    "thread_id": hashlib.sha256(str(number).encode()).hexdigest()[:16],
                    "box": "inbox",
                    "is_group": False,
                    "sender": sender,
                    "is_owner": is_owner,
                    "sent_at": time,
                    "text": text,
                    "language": "und",
                }
            )
    return rows


def table(rows: list[Row], name: str) -> pa.Table:
    """Rows as a table of the schema `name`; columns it does not have are left out."""
    schema = SCHEMAS[name]
    return pa.table([pa.array([row[field.name] for row in rows], field.type) for field in schema], schema=schema)


def rows_of(found: pa.Table) -> list[Row]:
    """A table as rows, its times as milliseconds."""
    for index, field in enumerate(found.schema):
        if pa.types.is_timestamp(field.type):
            found = found.set_column(index, field.name, found.column(index).cast(pa.int64()))
    rows: list[Row] = found.to_pylist()
    return rows


def by_thread(rows: list[Row]) -> list[list[Row]]:
    threads: dict[str, list[Row]] = {}
    for row in rows:
        threads.setdefault(row["thread_id"], []).append(row)
    return list(threads.values())


def threshold(times: list[int], percentile: float, fixed_gap_s: float | None) -> Fraction | None:
    if fixed_gap_s is not None:
        return Fraction(fixed_gap_s) * 1000
    gaps = sorted(after - before for before, after in itertools.pairwise(times))
    if not gaps:
        return None
    place = Fraction(percentile) * (len(gaps) - 1) / 100
    low = int(place)
    high = min(low + 1, len(gaps) - 1)
    return gaps[low] + (gaps[high] - gaps[low]) * (place - low)


def resolution(thread: list[Row]) -> int:
    """The coarsest of 1 ms, 1 s and 60 s that all times are multiples of; minutes by the source, or by 20 messages."""
    steps = [step for step in (1, 1_000, 60_000) if all(row["sent_at"] % step == 0 for row in thread)]
    if thread[0]["source"] not in ("whatsapp", "line", "kakaotalk") and len(thread) < 20:
        steps = [step for step in steps if step < 60_000]
    return max(steps)


def turns_and_sessions(
    messages: list[Row], percentile: float, fixed_gap_s: float | None, joint: str = " "
) -> list[Row]:
    turns: list[Row] = []
    for thread in by_thread(messages):
        limit = threshold([row["sent_at"] for row in thread], percentile, fixed_gap_s)
        step = resolution(thread) if resolution(thread) == 60_000 else 0
        if limit is not None and step:
            limit = max(limit, Fraction(2 * step))
        mine: list[Row] = []
        session = -1
        for row in thread:
            gap = row["sent_at"] - mine[-1]["ended_at"] if mine else None
            is_pause = gap is not None and gap > step
            cut = gap is None or (is_pause and limit is not None and gap >= limit)
            session += cut
            last = mine[-1] if mine else None
            same = last and (
                (last["is_owner"] and row["is_owner"])
                or (not last["is_owner"] and not row["is_owner"] and last["sender"] == row["sender"])
            )
            if last and same and not cut:
                last["text"] += joint + row["text"]
                last["ended_at"] = row["sent_at"]
                last["num_messages"] += 1
                continue
            mine.append(
                {
                    "thread_id": row["thread_id"],
                    "turn_index": len(mine),
                    "sender": row["sender"],
                    "is_owner": row["is_owner"],
                    "started_at": row["sent_at"],
                    "ended_at": row["sent_at"],
                    "num_messages": 1,
                    "threshold_ms": None if limit is None else float(limit),
                    "gap_ms": gap,
                    "text": row["text"],
                    "session_index": session,
                }
            )
        turns += mine
    return turns


def examples(turns: list[Row], config: Any, seed: int) -> tuple[list[Row], dict[str, int]]:
    found: list[Row] = []
    dropped = {"no_turn_before_in_session": 0, "too_few_different_turns_in_thread": 0, "left_out_of_train": 0}
    for thread in by_thread(turns):
        pool = list(dict.fromkeys(turn["text"] for turn in thread if turn["is_owner"]))
        mine: list[Row] = []
        for index, turn in enumerate(thread):
            if not turn["is_owner"]:
                continue
            before = [row for row in thread[:index] if row["session_index"] == turn["session_index"]]
            if not before:
                dropped["no_turn_before_in_session"] += 1
            elif len(pool) <= config.num_distractors + 1:
                dropped["too_few_different_turns_in_thread"] += 1
            else:
                mine.append(
                    {
                        "example_id": f"{turn['thread_id']}-{index:06d}",
                        "thread_id": turn["thread_id"],
                        "session_index": turn["session_index"],
                        "split": _side(seed, turn, config),
                        "replied_at": turn["started_at"],
                        "history": [
                            {"is_owner": row["is_owner"], "text": row["text"]} for row in before[-config.num_history :]
                        ],
                        "reply": turn["text"],
                        "distractors": _distractors(seed, turn, pool, config.num_distractors),
                    }
                )
        if config.split == "time":
            _time_split(mine, config.valid_fraction)
        left_out = [row for row in mine if row["split"] == "train" and not _kept(seed, row, config)]
        dropped["left_out_of_train"] += len(left_out)
        found += [row for row in mine if row not in left_out]
    return found, dropped


def _distractors(seed: int, turn: Row, pool: list[str], num: int) -> list[str]:
    key = _word(_thread_key(seed, "distractors", turn["thread_id"]), turn["turn_index"])
    left = [text for text in pool if text != turn["text"]]
    return [left.pop(int(_fraction(_word(key, draw)) * len(left))) for draw in range(num)]


def _side(seed: int, turn: Row, config: Any) -> str:
    index = {"session": turn["session_index"], "thread": 0, "row": turn["turn_index"], "time": 0}[config.split]
    key = _thread_key(seed, f"split by {config.split}", turn["thread_id"])
    return "valid" if _fraction(_word(key, index)) < config.valid_fraction else "train"


def _kept(seed: int, row: Row, config: Any) -> bool:
    index = int(row["example_id"].split("-")[1])
    return _fraction(_word(_thread_key(seed, "train", row["thread_id"]), index)) < config.train_fraction


def _time_split(mine: list[Row], valid_fraction: float) -> None:
    for row in mine:
        remaining = sum(other["session_index"] >= row["session_index"] for other in mine)
        row["split"] = "valid" if remaining <= valid_fraction * len(mine) else "train"


def _thread_key(seed: int, purpose: str, thread_id: str) -> int:
    name = f"{seed}\0{purpose}\0{thread_id}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


def _word(key: int, index: int) -> int:
    """SplitMix64 as its authors write it: state += golden, then mix."""
    ones = (1 << 64) - 1
    word = (key + (index + 1) * 0x9E3779B97F4A7C15) & ones
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & ones
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & ones
    return word ^ (word >> 31)


def _fraction(word: int) -> float:
    return (word >> 11) / 2**53
