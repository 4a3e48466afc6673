"""Slack's names of emoji, which its reactions have in place of signs: `tada`, `+1::skin-tone-3`, `woman-shrugging`."""

import functools
import re
import unicodedata

from rich.emoji import Emoji, NoEmoji

# Names of emoji that are neither GitHub's, which rich knows, nor Unicode's, or that stand for something else there; and
# those that are younger than Python 3.11's tables, so that all Pythons know the same.
_SIGNS = {
    "uk": "🇬🇧", "hash": "#️⃣", "keycap_star": "*️⃣", "simple_smile": "🙂", "upside_down_face": "🙃",
    "zipper_mouth_face": "🤐", "money_mouth_face": "🤑", "face_with_head_bandage": "🤕", "face_exhaling": "😮‍💨",
    "face_with_spiral_eyes": "😵‍💫", "face_in_clouds": "😶‍🌫️", "head_shaking_horizontally": "🙂‍↔️",
    "head_shaking_vertically": "🙂‍↕️", "shaking_face": "🫨", "face_with_bags_under_eyes": "🫩",
    "heart_on_fire": "❤️‍🔥", "mending_heart": "❤️‍🩹", "light_blue_heart": "🩵", "grey_heart": "🩶",
    "pink_heart": "🩷", "the_horns": "🤘", "spock-hand": "🖖", "leftwards_pushing_hand": "🫷",
    "rightwards_pushing_hand": "🫸", "mrs_claus": "🤶", "mx_claus": "🧑‍🎄", "technologist": "🧑‍💻",
    "person_in_tuxedo": "🤵", "man_in_tuxedo": "🤵‍♂️", "woman_in_tuxedo": "🤵‍♀️", "woman_and_man_holding_hands": "👫",
    "men_holding_hands": "👬", "women_holding_hands": "👭", "black_cat": "🐈‍⬛", "polar_bear": "🐻‍❄️",
    "phoenix": "🐦‍🔥", "goose": "🪿", "moose": "🫎", "jellyfish": "🪼", "ladybug": "🐞", "beetle": "🪲", "egg": "🥚",
    "fried_egg": "🍳", "hotdog": "🌭", "lime": "🍋‍🟩", "champagne": "🍾", "knife_fork_plate": "🍽️", "medal": "🎖️",
    "hyacinth": "🪻", "wing": "🪽", "donkey": "🫏", "ginger_root": "🫚", "pea_pod": "🫛", "flute": "🪈", "khanda": "🪯",
    "folding_hand_fan": "🪭", "hair_pick": "🪮", "bricks": "🧱", "maracas": "🪇",
    "satellite": "🛰️", "broken_chain": "⛓️‍💥", "wireless": "🛜",
    "mostly_sunny": "🌤️", "sun_small_cloud": "🌤️", "barely_sunny": "🌥️", "sun_behind_cloud": "🌥️",
    "partly_sunny_rain": "🌦️", "rain_cloud": "🌧️", "snow_cloud": "🌨️", "lightning": "🌩️", "lightning_cloud": "🌩️",
    "tornado_cloud": "🌪️", "transgender_flag": "🏳️‍⚧️",
}  # fmt: skip
_FLAG = re.compile(r"flag-([a-z]{2})|(cn|de|es|fr|gb|it|jp|kr|ru|us)")
_TONES = {str(number): chr(0x1F3F9 + number) for number in range(2, 7)}  # by their numbers on Fitzpatrick's scale


@functools.lru_cache(maxsize=1024)
def _sign(name: str) -> str | None:
    if name in _SIGNS:
        return _SIGNS[name]
    if flag := _FLAG.fullmatch(name):
        return "".join(chr(0x1F1E6 + ord(letter) - ord("a")) for letter in flag[1] or flag[2])
    # woman-shrugging and male-cook are woman_shrugging and man_cook there.
    alike = re.sub("^(fe)?male_", lambda sex: "woman_" if sex[1] else "man_", name.replace("-", "_"))
    for known in (name, alike):
        try:
            return _shown(str(Emoji(known)))
        except NoEmoji:
            continue
    try:
        return _shown(unicodedata.lookup(name.replace("_", " ")))
    except KeyError:
        return None


def _shown(sign: str) -> str:
    """The sign as Slack has it: what is narrow by itself is followed by the mark that makes a picture of it."""
    return f"{sign}\ufe0f" if len(sign) == 1 and unicodedata.east_asian_width(sign) != "W" else sign


def emoji_named(name: object) -> str | None:
    """The emoji of that name; None for one that Slack does not have, as a workspace's own, which is a picture.

    The names are those of emoji-data (github.com/iamcal/emoji-data); of its 1,964, these are known as they are there: 9
    in 10. What is missing are families, some professions, and directions in which people walk.
    """
    if not isinstance(name, str):
        return None
    base, _, tone = name.partition("::skin-tone-")
    sign = _sign(base)
    if sign is None or not tone:
        return sign
    if tone not in _TONES:
        return None
    return sign[0] + _TONES[tone] + sign[1:].removeprefix("\ufe0f")
