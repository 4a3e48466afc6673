"""The language filter: which threads and messages stay, and that short lines do no harm."""

import pyarrow as pa
import pytest
from helpers.dialogue_reference import messages_of, table
from hypothesis import given, settings
from hypothesis import strategies as st

from jaegpt.dialogue import identifier
from jaegpt.dialogue.identifier import KNOWN, identify, letters_only
from jaegpt.dialogue.language import REASONS, LanguageConfig, LanguageCounts, filter_language

ENGLISH = [
    "what are you doing this weekend",
    "I was thinking about going to the beach",
    "that sounds great, let me know when you leave",
    "did you see the game last night",
    "I really need to finish my homework first",
]
KOREAN = [
    "오늘 저녁에 뭐 먹을까",
    "나는 김치찌개 먹고 싶어",
    "내일 학교에서 만나자",
    "어제 영화 정말 재미있었어",
    "지금 어디에 있어",
]
SPANISH = [
    "mañana no puedo ir porque tengo que trabajar",
    "qué vas a hacer este fin de semana",
    "me gustaría mucho ver esa película contigo",
    "hace mucho calor hoy en la ciudad",
    "te llamo cuando llegue a la casa",
]
SHORT = [
    "ok",
    "lol",
    "hahahaha",
    "😂😂😂",
    "ㅋㅋㅋㅋㅋㅋ",
    "ja",
    "https://example.org/watch?v=el-gato",
    "kkkkk",
    "np",
    "123",
]
ENGLISH_ONLY = LanguageConfig(keep=["en"], min_share=0.5)


def filtered(threads, config=ENGLISH_ONLY):
    """The texts kept of each thread, and the report."""
    rows = messages_of([[(1000, ("Bo", False), text) for text in thread] for thread in threads])
    for row in rows:
        del row["language"]
    found, report = filter_language(table(rows, "messages"), config)
    ids = list(dict.fromkeys(row["thread_id"] for row in rows))
    kept = found.to_pylist()
    return [[row["text"] for row in kept if row["thread_id"] == name] for name in ids], report


def test_threads_are_kept_by_their_language():
    kept, report = filtered([ENGLISH, KOREAN, SPANISH])
    assert kept == [ENGLISH, [], []]
    assert dict(report.dropped) == dict(zip(REASONS, (10, 0, 0), strict=True))
    assert [row[-1] for row in report.threads] == [1, 0, 0]
    assert filtered([ENGLISH, KOREAN, SPANISH], LanguageConfig(keep=["ko", "es"], min_share=0.5))[0] == [
        [],
        KOREAN,
        SPANISH,
    ]


def test_short_lines_follow_their_thread():
    kept, report = filtered([ENGLISH + SHORT, KOREAN + SHORT])
    assert kept == [ENGLISH + SHORT, []]
    assert report.dropped["thread_in_other_language"] == len(KOREAN + SHORT)
    assert [row[2] for row in report.threads] == [5, 5]  # identified


def test_a_foreign_message_of_a_kept_thread_is_dropped_and_counted():
    kept, report = filtered([ENGLISH + KOREAN[:2] + SHORT])
    assert kept == [ENGLISH + SHORT]
    assert report.dropped["message_in_other_language"] == 2


def test_a_code_mixed_thread_is_kept_when_its_share_is_reached():
    mixed = ENGLISH[:3] + KOREAN[:2]
    assert filtered([mixed], LanguageConfig(keep=["en"], min_share=0.6))[0] == [ENGLISH[:3]]
    assert filtered([mixed], LanguageConfig(keep=["en"], min_share=0.61))[0] == [[]]
    assert filtered([mixed], LanguageConfig(keep=["en", "ko"], min_share=1.0))[0] == [mixed]


def test_a_thread_of_short_lines_is_judged_by_all_of_them():
    kept, report = filtered([["hi you", "how are", "you now", "I'm ok", "and you"], ["😂", "ok", "123"]])
    assert [len(thread) for thread in kept] == [5, 0]
    assert report.dropped == {REASONS[0]: 0, REASONS[1]: 3, REASONS[2]: 0}


def test_one_telling_line_does_not_speak_for_a_thread_of_short_ones():
    short = ["hi you", "how are", "you now", "I'm ok", "and you", "see you", "at home", "why not", "not now"] * 3
    kept, report = filtered([[*short, SPANISH[0]], [*SHORT, SPANISH[0]], [SPANISH[0]], [ENGLISH[0], "😂"]])
    assert [row[2] for row in report.threads] == [1, 1, 1, 1]  # identified
    assert kept == [short, [], [], [ENGLISH[0], "😂"]]
    assert report.dropped == {REASONS[0]: len(SHORT) + 2, REASONS[1]: 0, REASONS[2]: 1}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from(ENGLISH + KOREAN + SPANISH + SHORT), min_size=1, max_size=12), max_size=4))
def test_read_is_kept_and_dropped_and_order_stays(threads):
    kept, report = filtered(threads)
    assert report.messages_kept == sum(map(len, kept))
    assert report.messages_kept + sum(report.dropped.values()) == sum(map(len, threads))
    for before, after, (_, messages, identified, share, dropped, stays) in zip(
        threads, kept, report.threads, strict=True
    ):
        assert (messages, messages - dropped) == (len(before), len(after))
        assert identified <= messages
        assert 0 <= share <= 1
        assert stays or not after
        places = iter(before)
        assert all(text in places for text in after)


def test_the_sample_loses_next_to_nothing():
    chitchat_dataset = pytest.importorskip("chitchat_dataset")
    texts = [
        said["text"]
        for talk in list(chitchat_dataset.Dataset().values())[:1500]
        for turn in talk["messages"]
        for said in turn
    ]
    assert len(texts) > 20_000
    languages, certain = identify(letters_only(pa.array(texts)))
    foreign = (languages != "en") & (languages != "und")
    assert foreign.mean() < 0.02
    assert (foreign & certain).mean() < 0.001


def test_what_is_asked_about_a_message():
    texts = [
        "LOL see https://x.org, it's 😂",
        "jajajaja ¿qué?",
        "mail me@x.org 12",
        "hahahaha",
        "ㅋㅋㅋㅋ 좋아",
        "хахаха да",
    ]
    assert letters_only(pa.array(texts)).to_pylist() == ["see   it's", "qué", "mail", "", "좋아", "да"]


def test_every_known_code_is_one_the_model_gives():
    assert len(KNOWN) > 100
    labels = {
        label.removeprefix("__label__")
        for text in ("a", "q", "ж", "ñande", "ä", "xyz", *ENGLISH, *KOREAN, *SPANISH)
        for _, label in identifier._model().predict(text + "\n", 1000, 0.0, "strict")
    }
    assert labels >= KNOWN
    assert all(len(code) == 2 for code in KNOWN)
    for code, text in {"en": ENGLISH[0], "ko": KOREAN[0], "es": SPANISH[0]}.items():
        assert identify(letters_only(pa.array([text])))[0].tolist() == [code]


def test_reports_of_parts_add_up():
    one, other = filtered([ENGLISH])[1], filtered([KOREAN])[1]
    total = LanguageCounts.total([one, other])
    assert (total.messages_kept, sum(total.dropped.values()), len(total.threads)) == (5, 5, 2)
    assert total.languages == {"en": 5, "ko": 5}


def test_an_empty_part_gives_an_empty_part():
    assert filtered([])[1].messages_kept == 0


@pytest.mark.parametrize(
    ("keep", "min_share", "message"),
    [([], 0.5, "at least one"), (["english"], 0.5, "'english'"), (["xx"], 0.5, "'xx'"), (["en"], 1.5, "min_share")],
)
def test_bad_settings_are_refused(keep, min_share, message):
    with pytest.raises(ValueError, match=message):
        LanguageConfig(keep=keep, min_share=min_share)
