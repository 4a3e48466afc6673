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
from collections.abc import Iterator

import phonenumbers
import pyarrow as pa
import pyarrow.compute as pc

# Whose ways of writing a number without country code are known.
REGIONS = ("US", "GB", "DE", "FR", "IN", "AU", "BR", "KR")
MAX_LENGTH = 10_000  # characters that are searched for telephone numbers; in longer ones they become <number>

_ENDING = r"\.(?:com|org|net|edu|gov|info|io|ly|app|dev|co|eu|uk|de|fr|ru|br|kr)"
# For RE2, and quick: a message without any of these cannot hold what is replaced. RE2's \d and \s are ASCII; telephones
# write en dashes, and spaces and hyphens that do not break, too.
_SEPARATOR = r"[\s\-./()\x{a0}\x{202f}\x{2010}-\x{2015}]"
_SUSPICIOUS = rf"@|://|(?i:www\.)|(?i:[a-z0-9]{_ENDING}\b)|(?i:\.me/)|\p{{Nd}}(?:{_SEPARATOR}{{0,3}}\p{{Nd}}){{6}}"
_DASHES = "\\-\u2010-\u2015"  # inside a set
_EMAIL = re.compile(r"[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
_DOMAIN = rf"\b(?:[a-z0-9-]{{1,63}}\.){{0,4}}[a-z0-9-]{{1,63}}{_ENDING}\b(?:/\S*)?"
_URL = re.compile(rf"\b[a-z][a-z0-9+.-]{{1,15}}://\S+|\bwww\.\S+|\b(?:t|m|wa|paypal)\.me/\S+|{_DOMAIN}", re.IGNORECASE)
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b", re.IGNORECASE)
_DOTTED_CARD = re.compile(r"(?<![\w.,])(?:(?:\d{4}\.){3}\d{4}|\d{4}\.\d{6}\.\d{5})(?!\w)")
_NUMBER = re.compile(rf"(?<![\w.,])\d(?:[ \u00a0\u202f{_DASHES}]?\d){{7,}}(?!\w)")
_YEAR = r"(?:19|20)\d\d"
_DATE = re.compile(
    rf"(?:{_YEAR}([ ./{_DASHES}])[01]?\d\1[0-3]?\d|[0-3]?\d([ ./{_DASHES}])[0-3]?\d\2{_YEAR})"
    rf"(?:[ ,]+\d{{1,2}}(?:[.:]?\d\d)*)?|{_YEAR}[ {_DASHES}]+{_YEAR}"
)


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
    """One message, the most certain kinds first: `"a@b.org or +44 20 7946 0958"` -> `"<email> or <phone>"`."""
    text = _EMAIL.sub("<email>", text)
    text = _URL.sub("<url>", text)
    text = _IBAN.sub(_without_iban, text)
    for pattern in (_NUMBER, _DOTTED_CARD):
        text = pattern.sub(lambda match: "<card>" if _is_card(match[0]) else match[0], text)
    for start, end in sorted(_phones(text), reverse=True):
        text = f"{text[:start]}<phone>{text[end:]}"
    return _NUMBER.sub(lambda match: match[0] if _is_date(match[0]) else "<number>", text)


def _phones(text: str) -> Iterator[tuple[int, int]]:
    """Where telephone numbers stand, without overlaps."""
    taken: list[tuple[int, int]] = []
    for region in (None, *REGIONS) if len(text) <= MAX_LENGTH else ():
        for match in phonenumbers.PhoneNumberMatcher(text, region):
            is_free = all(match.end <= start or match.start >= end for start, end in taken)
            if is_free and not _is_date(match.raw_string):
                taken.append((match.start, match.end))
                yield taken[-1]


def _is_date(text: str) -> bool:
    """A date, or two years, in decimal digits of any script."""
    return bool(_DATE.fullmatch("".join(str(int(sign)) if sign.isdecimal() else sign for sign in text)))


def _is_card(text: str) -> bool:
    """13 to 19 digits whose Luhn sum (ISO/IEC 7812-1) is a multiple of 10."""
    digits = [int(letter) for letter in text if letter.isdigit()][::-1]
    doubled = [2 * digit - 9 * (digit > 4) for digit in digits[1::2]]
    return 13 <= len(digits) <= 19 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _without_iban(match: re.Match[str]) -> str:
    """The match, its IBAN replaced; in small letters the words behind it look like more of it."""
    words = match[0].split(" ")
    for count in range(len(words), 0, -1):
        if _is_iban(" ".join(words[:count])):
            return " ".join(["<account>", *words[count:]])
    return match[0]


def _is_iban(text: str) -> bool:
    """ISO 13616: the country and check digits moved to the end, letters as 10 to 35, remainder 1 by 97."""
    packed = text.replace(" ", "")
    return (
        15 <= len(packed) <= 34 and int("".join(str(int(letter, 36)) for letter in packed[4:] + packed[:4])) % 97 == 1
    )
