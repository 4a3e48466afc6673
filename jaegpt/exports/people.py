"""Display names, which are all that a download says of people; deleted accounts have none in any language."""

import re

from jaegpt.exports.text import repair

NAMELESS = "Facebook user"  # what newer exports call every deleted account; older ones leave the name empty

# "Facebook user" in the account's language. Meta lets nobody be called Facebook, so that the brand with the word for
# user, in whatever order and case, is never somebody's name. The brand takes endings (Facebooku, Facebooka).
_BRAND = (
    r"(?:facebook|instagram)(?:iem|om|iin|[aueioy])?|фейсбук|فيسبوك|فيس بوك|انستغرام|פייסבוק|फ़ेसबुक|फेसबुक|ফেসবুক|เฟซบุ๊ก|"
    r"脸书|臉書|フェイスブック|페이스북"
)
_LINK = r"(?:\s*[-‑–·]\s*|\s+(?:de|di|do|da|van|na|на|của)\s+|\s+d['’]|\s)?"
_USER = (
    r"users?|utilisat(?:eur|rice)|nutzer(?:in|konto)?|benutzer(?:in)?|usuari[oa]|utente|utilizador[a]?|gebruiker|"
    r"användare|bruger|bruker|käyttäjä|notandi|użytkownik|uživatel|používateľ|felhasználó|utilizator|korisnik|"
    r"uporabnik|kullanıcısı|kullanici|kasutaja|lietotājs|vartotojas|përdorues|pengguna|người dùng|gumagamit|mtumiaji|"
    r"erabiltzailea|χρήστης|пользователь|користувач|потребител|корисник|карыстальнік|مستخدم|کاربر|משתמש|"
    r"उपयोगकर्ता|यूज़र|ব্যবহারকারী|ผู้ใช้|用户|用戶|使用者|ユーザー|利用者|사용자"
)
_DELETED = re.compile(rf"(?:(?:{_BRAND}){_LINK}(?:{_USER})|(?:{_USER}){_LINK}(?:{_BRAND}))", re.IGNORECASE)


def clean(text: str) -> str:
    """A name or a title, repaired."""
    return repair(text).replace("\0", "").strip()


def clean_name(name: str) -> str:
    """A display name, repaired; "Facebook user" for deleted accounts, in whatever language they are named."""
    cleaned = clean(name)
    return NAMELESS if not cleaned or _DELETED.fullmatch(cleaned) else cleaned


def names_nobody(name: str) -> bool:
    """Whether a name may stand for any deleted account: also in a language that has no rule here.

    Such names never show that two threads are one person's.
    """
    folded = name.casefold()
    return name == NAMELESS or "facebook" in folded or folded.startswith("instagram ") or folded.endswith(" instagram")
