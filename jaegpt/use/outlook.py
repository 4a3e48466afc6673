"""What the pipeline would make of a table of messages: its own functions, run on it before anything is decided.

The parts are read twice: first to choose the cut, then to count what is learned under that cut and how long it is.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.arrays import Bools, Ints
from jaegpt.base_model import TINY
from jaegpt.dialogue.cuts import ADVISED, RULES, CutCounts, cut_counts
from jaegpt.dialogue.encode_table import candidates, encode_examples, encoder_of, tokenizer_digest
from jaegpt.dialogue.examples import DatasetConfig, ExampleCounts, build_examples
from jaegpt.dialogue.language import LanguageConfig, filter_language
from jaegpt.dialogue.pieces import numbered
from jaegpt.dialogue.repeats import learned_turns
from jaegpt.dialogue.separators import JOINTS
from jaegpt.dialogue.session_gaps import SessionConfig, Timeline
from jaegpt.dialogue.sessions import session_begins, sessionize
from jaegpt.dialogue.speakers import with_speakers
from jaegpt.dialogue.turns import merge_turns
from jaegpt.errors import JaegptError
from jaegpt.parallel import map_parts
from jaegpt.tables import column, read_part, write_part
from jaegpt.training.block_size import Sizes

TOKENS_PER_TURN = 5  # what a chat template puts around a text


@dataclass(frozen=True)
class Ruler:
    """How many tokens texts have: by the tokenizer in the folder `base`, or about, where that is None.

    The estimate is SmolLM2's: one token per 3.5 letters, as measured on the sample, and in Russian, Arabic, Chinese,
    Japanese and emoji another 0.7 tokens for each UTF-8 byte of a letter after its first.
    """

    base: Path | None
    digest: str = ""
    per_letter: float = 1 / 3.5
    per_further_byte: float = 0.7

    @classmethod
    def of(cls, model: str, base: Path | None) -> "Ruler":
        """For the base model named `model`, unpacked in `base`."""
        if base:
            return cls(base.absolute(), tokenizer_digest(base))
        return cls(None, per_letter=1, per_further_byte=1) if model == TINY else cls(None)  # tiny's tokens are bytes

    def examples(self, examples: pa.Table, joint: str) -> tuple[Sizes, Ints]:
        """The sizes of a part's examples, and [examples] the tokens of each reply."""
        if self.base:
            tokens = encode_examples(examples, encoder_of(self.base, self.digest, joint))
            lengths = pc.list_value_length(column(tokens, "candidate_ids").flatten()).to_numpy(zero_copy_only=False)
            sizes = Sizes.of(tokens)
            ends = np.cumsum(sizes.candidates)
            return sizes, lengths[ends - 1].astype(np.int64)
        history, distractors = column(examples, "history"), column(examples, "distractors")
        turns = self._about(history.flatten().field("text"))
        starts = np.cumsum(counts := _lengths(history)) - counts
        context = np.add.reduceat(turns, starts) if len(starts) else starts
        replies = self._about(column(examples, "reply"))
        others = self._about(distractors.flatten())
        # [examples, num_distractors]; of no examples, -1 could be any number, which NumPy refuses.
        others = others.reshape(len(examples), len(others) // max(len(examples), 1))
        longest = np.maximum(others.max(axis=1, initial=0), replies)
        columns = (context + longest, context + others.sum(axis=1) + replies, _lengths(distractors) + 1)
        return Sizes(*(values.astype(np.int32) for values in columns)), replies

    def texts(self, texts: pa.Array, joint: str) -> Ints:
        """[texts] the tokens of each as a turn."""
        if not self.base:
            return self._about(texts)
        encoder = encoder_of(self.base, self.digest, joint)
        return candidates(encoder, *numbered(texts, encoder))[1]

    def _about(self, texts: pa.Array) -> Ints:
        num_letters, num_bytes = (
            length(texts).to_numpy(zero_copy_only=False) for length in (pc.utf8_length, pc.binary_length)
        )
        tokens = self.per_letter * num_letters + self.per_further_byte * (num_bytes - num_letters)
        return np.ceil(tokens).astype(np.int64) + TOKENS_PER_TURN


def _lengths(lists: pa.Array) -> Ints:
    return pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The sections of params.yaml that decide what is learned."""

    language: LanguageConfig
    session: SessionConfig
    dataset: DatasetConfig
    seed: int


@dataclass(frozen=True)
class Outlook:
    """What would be learned, from all parts.

    Attributes:
        counts: the owner's turns, and the examples that they give.
        languages: messages dropped for their language, by reason.
        sizes: of all examples.
        replies: [examples] tokens of the reply.
        is_train: [examples] whether it is for training.
        learned_turns: the owner's turns that whole sessions teach.
        session_tokens: of all turns in the sessions that these are in.
        learned_tokens: of these turns.
    """

    counts: ExampleCounts
    languages: Counter[str]
    sizes: Sizes
    replies: Ints
    is_train: Bools
    learned_turns: int
    session_tokens: int
    learned_tokens: int

    @classmethod
    def total(cls, parts: Sequence["Outlook"]) -> "Outlook":
        """All parts as one."""
        return cls(
            ExampleCounts.total(part.counts for part in parts),
            sum((part.languages for part in parts), Counter()),
            Sizes.total(part.sizes for part in parts),
            np.concatenate([part.replies for part in parts]),
            np.concatenate([part.is_train for part in parts]),
            *(sum(getattr(part, name) for part in parts) for name in _SUMS),
        )

    def work(self, *, learn: str, block_size: int, batch_size: int, mc_share: float) -> "Work":
        """One epoch: as `Task.plan` makes it.

        Args:
            mc_share: of the examples, that carry their distractors; 0 where the classification loss has no weight.

        Raises:
            JaegptError: no training example fits the block.
        """
        fits = self.is_train & (self.sizes.needed <= block_size)
        num_examples = int(fits.sum())
        if not num_examples:
            raise JaegptError(f"block_size: none of the training examples fits into {block_size:,} tokens.")
        packed = int(self.sizes.packed[fits].sum())
        if learn == "replies":
            # An example without its distractors has at most what is needed.
            tokens = mc_share * packed + (1 - mc_share) * int(self.sizes.needed[fits].sum())
            labels = int(self.replies[fits].sum())
            return Work(steps=math.ceil(num_examples / batch_size), tokens=round(tokens), labels=labels)
        tokens = self.session_tokens + mc_share * packed
        steps = max(1, round(tokens * num_examples / (batch_size * packed)))
        return Work(steps=steps, tokens=round(tokens), labels=self.learned_tokens)


_SUMS = ("learned_turns", "session_tokens", "learned_tokens")


@dataclass(frozen=True, kw_only=True)
class Work:
    """One epoch of training: steps, tokens through the decoder, and tokens that the language modelling loss counts."""

    steps: int
    tokens: int
    labels: int


def keep_part(messages: pa.Table, folder: Path) -> str:
    """Write a part of `messages` into `folder`, under a name that no other part can have; its path, "" for no rows."""
    if not len(messages):
        return ""
    path = folder / f"part-{messages.column('thread_id')[0].as_py()}.parquet"
    write_part(messages, path, "messages")
    return str(path)


def compare_cuts(parts: Sequence[str], language: LanguageConfig, session: SessionConfig) -> tuple[CutCounts, CutCounts]:
    """Of the messages in the languages to keep: the counts of the cut in use, and of that at percentile ADVISED."""
    rows = map_parts(partial(_cuts_of_part, language=language, session=session), parts, "cuts")
    used, advised = (CutCounts.total(counts) for counts in zip(*rows, strict=True))
    return used, advised


def _cuts_of_part(path: str, language: LanguageConfig, session: SessionConfig) -> tuple[CutCounts, CutCounts]:
    timeline = Timeline.of(filter_language(read_part(path, "messages"), language)[0])
    return cut_counts(timeline, session), cut_counts(timeline, RULES[f"p{ADVISED}"])


def look_ahead(parts: Sequence[str], settings: Settings, ruler: Ruler) -> Outlook:
    """What would be learned from parts of `messages` with these settings.

    Raises:
        JaegptError: nothing would, or nothing would be left to validate on.
    """
    whole = Outlook.total(map_parts(partial(_outlook_of_part, settings=settings, ruler=ruler), parts, "counting"))
    whole.counts.refuse_one_sided(settings.dataset)
    return whole


def _outlook_of_part(path: str, settings: Settings, ruler: Ruler) -> Outlook:
    filtered, languages = filter_language(read_part(path, "messages"), settings.language)
    sessions = sessionize(merge_turns(filtered, settings.session))
    examples, counts = build_examples(sessions, settings.dataset, settings.seed)
    joint = JOINTS[settings.session.separator]
    sizes, replies = ruler.examples(examples, joint)
    learned = learned_turns(sessions, settings.dataset, settings.seed, limits={})
    # [turns] the number of each turn's session, and whether anything is learned there
    session = np.cumsum(session_begins(sessions)) - 1
    is_used = (np.bincount(session, weights=learned) > 0)[session] if len(session) else learned
    lengths = ruler.texts(column(with_speakers(sessions, settings.dataset.speakers), "text"), joint)
    is_train = pc.equal(column(examples, "split"), "train").to_numpy(zero_copy_only=False)
    return Outlook(
        counts,
        languages.dropped,
        sizes,
        replies,
        is_train,
        int(learned.sum()),
        int(lengths[is_used].sum()),
        int(lengths[learned].sum()),
    )
