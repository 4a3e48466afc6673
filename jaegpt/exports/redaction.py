"""Addresses, numbers and links replaced by placeholders, on request; the rest of the message stays.

What it finds: e-mail addresses; links with a scheme, with `www.`, of a common ending, or to t.me and its like;
telephone numbers in international form anywhere, and in national form for the regions below (by the plans in Google's
libphonenumber); card numbers (13 to 19 digits with a valid check digit); IBANs (with a valid checksum); other numbers
of 8 digits or more.
What it misses: names, streets, dates (and a number written like one), passwords, user names, short numbers (a house, a
PIN), links of rarer endings, cards with dots in other places than the usual, IBANs with marks other than spaces between
their digits (they become numbers), numbers in words or in scripts without decimal digits, and anything broken over
several messages. It lowers a risk; it does not make a text anonymous.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import phonenumbers
import pyarrow as pa
import pyarrow.compute as pc
from stdnum import luhn
from stdnum.iso7064 import mod_97_10

# Whose ways of writing a number without country code are known.
REGIONS = ("US", "GB", "DE", "FR", "IN", "AU", "BR", "KR")
MAX_LENGTH = 10_000  # characters that are searched for telephone numbers; in longer ones they become <number>

_ENDING = r"\.(?:com|org|net|edu|gov|info|io|ly|app|dev|co|eu|uk|de|fr|ru|br|kr)"
# For RE2, and quick: a message without any of these cannot hold what is replaced. RE2's \d and \s are ASCII; telephones
# write en dashes, and spaces and hyphens that do not break, too.
_SEPARATOR = r"[\s\-./()\x{a0}\x{202f}\x{2010}-\x{2015}]"
_SUSPICIOUS = rf"@|://|(?i:www\.)|(?i:[a-z0-9]{_ENDING}\b)|(?i:\.me/)|\p{{Nd}}(?:{_SEPARATOR}{{0,3}}\p{{Nd}}){{6}}"
_DASHES = "\\-\u2010-\u2015"  # inside a set
EMAIL = re.compile(r"[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
_DOMAIN = rf"\b(?:[a-z0-9-]{{1,63}}\.){{0,4}}[a-z0-9-]{{1,63}}{_ENDING}\b(?:/\S*)?"
_URL = re.compile(rf"\b[a-z][a-z0-9+.-]{{1,15}}://\S+|\bwww\.\S+|\b(?:t|m|wa|paypal)\.me/\S+|{_DOMAIN}", re.IGNORECASE)
# Both cases by hand: IGNORECASE takes "ı", "ſ" and the Kelvin sign for letters of the alphabet.
_IBAN = re.compile(r"\b[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]){11,30}\b")
_DOTTED_CARD = re.compile(r"(?<![\w.,])(?:(?:\d{4}\.){3}\d{4}|\d{4}\.\d{6}\.\d{5})(?!\w)")
_NUMBER = re.compile(rf"(?<![\w.,])\d(?:[ \u00a0\u202f{_DASHES}]?\d){{7,}}(?!\w)")
_YEAR = r"(?:19|20)\d\d"
_DATE = re.compile(
    rf"(?:{_YEAR}([ ./{_DASHES}])[01]?\d\1[0-3]?\d|[0-3]?\d([ ./{_DASHES}])[0-3]?\d\2{_YEAR})"
    rf"(?:[ ,]+\d{{1,2}}(?:[.:]?\d\d)*)?|{_YEAR}[ {_DASHES}]+{_YEAR}"
)


class Span(NamedTuple):
    """What is replaced in a text: characters `start` to `end`; the kind is the placeholder without its brackets."""

    start: int
    end: int
    kind: str


def redact(texts: pa.Array) -> tuple[pa.Array, int]:
    """The texts with placeholders (<email>, <url>, <account>, <card>, <phone>, <number>), and how many changed."""
    mask = pc.match_substring_regex(texts, _SUSPICIOUS)
    before = texts.filter(mask).to_pylist()
    after = [redact_text(text) for text in before]
    num_changed = sum(old != new for old, new in zip(before, after, strict=True))
    if not num_changed:
        return texts, 0
    return pc.replace_with_mask(texts, mask, pa.array(after, pa.string())), num_changed


def redact_text(text: str) -> str:
    """One message: `"a@b.org or +44 20 7946 0958"` -> `"<email> or <phone>"`."""
    return _searched(text).text


def find_spans(texts: pa.Array) -> list[tuple[str, list[Span]]]:
    """Each text in which `redact` would replace something, and what; spans are in order and do not overlap."""
    suspicious = texts.filter(pc.match_substring_regex(texts, _SUSPICIOUS)).to_pylist()
    found = ((text, _searched(text).spans) for text in suspicious)
    return [(text, spans) for text, spans in found if spans]


class _Masked:
    """A text in which what was found is a placeholder, and where that stands in the text as it was given."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.spans: list[Span] = []

    def mask(self, found: Iterable[Span]) -> None:
        """Replace parts of `self.text`, given in order; one may hold placeholders, whole (a link with an address)."""
        pieces, spans, waiting = [], [], self.spans[::-1]
        end = shift = 0  # what is copied of `self.text`; and how far behind the original its next character stands
        for start, stop, kind in found:
            while waiting and waiting[-1].start - shift < start:
                spans.append(waiting.pop())
                shift += _growth(spans[-1])
            original_start = start + shift
            while waiting and waiting[-1].start - shift < stop:
                shift += _growth(waiting.pop())
            spans.append(Span(original_start, stop + shift, kind))
            pieces += [self.text[end:start], f"<{kind}>"]
            end = stop
        self.text = "".join([*pieces, self.text[end:]])
        self.spans = spans + waiting[::-1]


def _growth(span: Span) -> int:
    """How much longer a text is with what was found than with its placeholder."""
    return span.end - span.start - len(f"<{span.kind}>")


def _searched(text: str) -> _Masked:
    """The text with all that is found in it masked, the most certain kinds first."""
    masked = _Masked(text)
    masked.mask(Span(*match.span(), "email") for match in EMAIL.finditer(masked.text))
    masked.mask(Span(*match.span(), "url") for match in _URL.finditer(masked.text))
    masked.mask(_accounts(masked.text))
    for pattern in (_NUMBER, _DOTTED_CARD):
        masked.mask(Span(*match.span(), "card") for match in pattern.finditer(masked.text) if _is_card(match[0]))
    masked.mask(sorted(_phones(masked.text)))
    masked.mask(Span(*match.span(), "number") for match in _NUMBER.finditer(masked.text) if not _is_date(match[0]))
    return masked


def _accounts(text: str) -> Iterator[Span]:
    """IBANs; in small letters the words behind one look like more of it."""
    for match in _IBAN.finditer(text):
        words = match[0].split(" ")
        starts = (" ".join(words[:count]) for count in range(len(words), 0, -1))
        iban = next((start for start in starts if _is_iban(start)), None)
        if iban:
            yield Span(match.start(), match.start() + len(iban), "account")


def _phones(text: str) -> Iterator[Span]:
    """Telephone numbers, without overlaps."""
    taken: list[Span] = []
    for region in (None, *REGIONS) if len(text) <= MAX_LENGTH else ():
        for match in phonenumbers.PhoneNumberMatcher(text, region):
            is_free = all(match.end <= start or match.start >= end for start, end, _ in taken)
            if is_free and not _is_date(match.raw_string):
                taken.append(Span(match.start, match.end, "phone"))
                yield taken[-1]


def _is_date(text: str) -> bool:
    """A date, or two years."""
    return bool(_DATE.fullmatch(plain_digits(text)))


def _is_card(text: str) -> bool:
    digits = "".join(filter(str.isdecimal, plain_digits(text)))
    return 13 <= len(digits) <= 19 and luhn.is_valid(digits)


def _is_iban(text: str) -> bool:
    """By ISO 13616's checksum alone: the library's `iban` also wants one of the countries that it knows."""
    packed = text.replace(" ", "")
    return 15 <= len(packed) <= 34 and mod_97_10.is_valid(packed[4:] + packed[:4])


def plain_digits(text: str) -> str:
    """`text` with the decimal digits of any script as 0 to 9."""
    return "".join(str(int(sign)) if sign.isdecimal() else sign for sign in text)
