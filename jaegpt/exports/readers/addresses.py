"""Telephone numbers and e-mail addresses as ids of people: one form for all the ways in which they are written."""

import re
from collections import Counter
from collections.abc import Iterable

import phonenumbers

_SPELLING = re.compile(r"[\s\-().\u00a0\u2010-\u2015\u200e\u200f\u202a-\u202e\u2066-\u2069/]+")
_NUMBER = re.compile(r"\+?\d+")
MAX_SHORT = 6  # digits of the numbers that companies and services send from


def region_of(addresses: Iterable[str]) -> str | None:
    """The region (ISO 3166: "DE") in which most international numbers among `addresses` lie; None without any."""
    counts: Counter[int] = Counter()
    for address in addresses:
        number = _parsed(_SPELLING.sub("", address), None) if address.startswith("+") else None
        if number is not None and number.country_code:
            counts[number.country_code] += 1
    # Ties go to the smaller code, so that the same numbers in another order give the same region.
    best = min(counts, key=lambda code: (-counts[code], code), default=None)
    return phonenumbers.region_code_for_country_code(best) if best is not None else None


class AddressBook:
    """Addresses in their one form; `region` is where numbers without a country code are from."""

    def __init__(self, region: str | None) -> None:
        self._region = region
        self._known: dict[str, str] = {}

    def normal(self, address: str) -> str:
        """`"0171 123-4567"` -> `"+491711234567"` (in DE); short codes and names of senders stay, in one spelling."""
        found = self._known.get(address)
        if found is None:
            found = self._known[address] = self._normal(address)
        return found

    def _normal(self, address: str) -> str:
        bare = _SPELLING.sub("", address)
        if not _NUMBER.fullmatch(bare):
            return " ".join(address.split()).lower()
        if is_short_code(bare):
            return bare
        number = _parsed(bare, self._region)
        if number is None or not phonenumbers.is_possible_number(number):
            return bare
        return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def is_short_code(address: str) -> bool:
    """Whether nobody's telephone has this address: a short number, or a name that a company gave itself."""
    bare = _SPELLING.sub("", address)
    if _NUMBER.fullmatch(bare):
        return not bare.startswith("+") and len(bare) <= MAX_SHORT
    return "@" not in bare


def _parsed(number: str, region: str | None) -> phonenumbers.PhoneNumber | None:
    try:
        return phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
