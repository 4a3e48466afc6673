"""WhatsApp's exported chats in the languages and versions of phones."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from helpers.reader_fixtures_text import CONVERSATION, FRIEND, LARGE_TEXTS, moments, write_lines

LRM = "\u200e"


@dataclass(frozen=True)
class Locale:
    """How one phone writes: `stamp` is all before the name, `file` the file with a caption, `omitted` one without."""

    stamp: Callable[[datetime], str]
    file_name: str
    notice: str
    attached: str
    omitted: str
    deleted: str
    resolution_ms: int = 60_000
    line_end: str = "\n"

    @property
    def is_ios(self) -> bool:
        return self.resolution_ms == 1000


def half(moment: datetime, before: str, after: str) -> str:
    return before if moment.hour < 12 else after


def _hour(moment: datetime) -> int:
    return moment.hour % 12 or 12


def _arabic(text: str) -> str:
    return text.translate({ord("0") + digit: 0x660 + digit for digit in range(10)})


NOTICE = "Messages and calls are end-to-end encrypted. Only people in this chat can read them. WhatsApp."
LOCALES = {
    "android en-US": Locale(
        lambda m: f"{m.month}/{m.day}/{m:%y}, {_hour(m)}:{m:%M}\u202f{half(m, 'AM', 'PM')} - ",
        f"WhatsApp Chat with {FRIEND}.txt", NOTICE, "IMG-20240305-WA0001.jpg (file attached)\n", "<Media omitted>",
        "This message was deleted",
    ),
    "android en-CA": Locale(
        lambda m: f"{m:%Y-%m-%d}, {_hour(m)}:{m:%M} {half(m, 'a.m.', 'p.m.')} - ",
        f"WhatsApp_Chat_with_{FRIEND.replace(' ', '_')}.txt", NOTICE, "IMG-20240305-WA0001.jpg (file attached)\n",
        "<Media omitted>", "This message was deleted.",
    ),
    "android de": Locale(
        lambda m: f"{m:%d.%m.%y}, {m:%H:%M} - ", f"WhatsApp Chat mit {FRIEND}.txt",
        "Nachrichten und Anrufe sind Ende-zu-Ende-verschlüsselt. Tippe, um mehr zu erfahren.",
        f"{LRM}photo of a cake.jpg (Datei angehängt)\n", "<Medien ausgeschlossen>", "Diese Nachricht wurde gelöscht.",
    ),
    "android es": Locale(
        lambda m: f"{m.day}/{m.month}/{m:%Y} {_hour(m)}:{m:%M} {half(m, 'a.', 'p.')}\u00a0m. - ",
        f"Chat de WhatsApp con {FRIEND}.txt", "Los mensajes y las llamadas están cifrados de extremo a extremo.",
        "IMG-20240305-WA0001.jpg (archivo adjunto)\n", "<Multimedia omitido>", "Se eliminó este mensaje.",
    ),
    "android fr": Locale(
        lambda m: f"{m:%d/%m/%Y} à {m:%H:%M} - ", f"Discussion WhatsApp avec {FRIEND}.txt",
        "Les messages et les appels sont chiffrés de bout en bout.", "<Médias omis>\n", "<Médias omis>",
        "Ce message a été supprimé",
    ),
    "android fi": Locale(
        lambda m: f"{m.day}.{m.month}.{m:%Y} klo {m.hour}.{m:%M} - ", f"WhatsApp-keskustelu: {FRIEND}.txt",
        "Viestit ja puhelut salataan täysin.", "IMG-20240305-WA0001.jpg (liitetiedosto)\n", "<Media jätetty pois>",
        "Tämä viesti poistettiin.",
    ),
    "android zh": Locale(
        lambda m: f"{m:%Y}/{m.month}/{m.day} {half(m, '上午', '下午')}{_hour(m)}:{m:%M} - ",
        f"与{FRIEND}的 WhatsApp 聊天.txt", "消息和通话都进行端到端加密。", "<省略多媒体文件>\n", "<省略多媒体文件>",
        "这条消息已删除",
    ),
    "android ar": Locale(
        lambda m: _arabic(f"{m.day}\u200f/{m.month}\u200f/{m:%Y}، {_hour(m)}:{m:%M} ") + half(m, "ص", "م") + " - ",
        f"دردشة واتساب مع {FRIEND}.txt", "الرسائل والمكالمات مشفرة تمامًا بين الطرفين.",
        "IMG-20240305-WA0001.jpg (الملف مرفق)\n", "<تم استبعاد الوسائط>", "تم حذف هذه الرسالة",
    ),
    "android hi": Locale(
        lambda m: f"{m.day}/{m.month}/{m:%y}, {_hour(m)}:{m:%M} {half(m, 'पूर्वाह्न', 'अपराह्न')} - ",
        f"{FRIEND} के साथ WhatsApp चैट.txt", "मैसेज और कॉल एंड-टू-एंड एन्क्रिप्टेड हैं.", "<मीडिया के बिना>\n", "<मीडिया के बिना>",
        "यह मैसेज डिलीट कर दिया गया है",
    ),
    "android th": Locale(
        lambda m: f"{m.day}/{m.month}/{m.year + 543} {m:%H:%M} - ", f"แชท WhatsApp กับ {FRIEND}.txt",
        "ข้อความและการโทรได้รับการเข้ารหัสจากต้นทางถึงปลายทาง", "<สื่อถูกลบ>\n", "<สื่อถูกลบ>", "ข้อความนี้ถูกลบแล้ว",
    ),
    "ios en": Locale(
        lambda m: f"[{m:%d/%m/%Y}, {_hour(m)}:{m:%M:%S}\u202f{half(m, 'AM', 'PM')}] ",
        f"WhatsApp Chat - {FRIEND}/_chat.txt", NOTICE, f"{LRM}<attached: 00000012-PHOTO-2024-03-05-15-20-00.jpg>",
        f"{LRM}image omitted", f"{LRM}This message was deleted.", 1000, "\r\n",
    ),
    "ios de": Locale(
        lambda m: f"[{m:%d.%m.%y}, {m:%H:%M:%S}] ", f"WhatsApp Chat - {FRIEND}/_chat.txt",
        "Nachrichten und Anrufe sind Ende-zu-Ende-verschlüsselt. WhatsApp.",
        f"{LRM}<Anhang: 00000012-PHOTO-2024-03-05-15-20-00.jpg>", f"{LRM}Bild weggelassen",
        f"{LRM}Diese Nachricht wurde gelöscht.", 1000, "\r\n",
    ),
    "ios zh-Hant": Locale(
        lambda m: f"[{m:%Y}/{m.month}/{m.day} {half(m, '上午', '下午')}{_hour(m)}:{m:%M:%S}] ",
        f"WhatsApp Chat - {FRIEND}/_chat.txt", "訊息和通話經端對端加密。WhatsApp",
        f"{LRM}<附件：00000012-PHOTO-2024-03-05-15-20-00.jpg>", f"{LRM}圖片已略去", f"{LRM}此訊息已刪除。", 1000, "\n",
    ),
    "ios 2013": Locale(
        lambda m: f"{m:%Y-%m-%d} {m:%H:%M:%S}: ", f"WhatsApp Chat: {FRIEND}.txt", "", "", "image omitted",
        "This message was deleted", 1000,
    ),
}  # fmt: skip


def chat(locale: Locale, zone: str = "Europe/Berlin") -> str:
    """The conversation as a phone in that zone writes it."""
    texts = []
    clocks = moments(zone)
    if locale.notice and locale.is_ios:
        texts.append(f"{locale.stamp(clocks[0])}{FRIEND}: {LRM}{locale.notice}")
    elif locale.notice:
        texts.append(f"{locale.stamp(clocks[0])}{locale.notice}")
    for moment, (_, sender, kind, text) in zip(clocks, CONVERSATION, strict=True):
        if kind == "photo" and text and locale.is_ios:
            text = f"{text} {locale.attached}" if locale.attached else text
        elif kind == "photo" and text:
            text = locale.attached + text
        elif kind == "photo":
            text = locale.omitted
        elif kind == "deleted":
            text = locale.deleted
        mark = LRM if text.startswith(LRM) else ""
        texts.append(f"{mark}{locale.stamp(moment)}{sender}: {text}")
    return locale.line_end.join(texts) + locale.line_end


def write(folder: Path, locale: Locale, text: str | None = None) -> Path:
    path = folder / locale.file_name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((chat(locale) if text is None else text).encode())
    return path


def write_large(path: Path, num_bytes: int) -> None:
    """A group chat of an Android phone, of about that size."""
    start = datetime(2014, 1, 1)

    def line(number: int, rng: random.Random) -> str:
        time = start + timedelta(seconds=number * 20)
        sender = rng.choice((FRIEND, "Ben Ødeby", "Cleo Marsh"))
        text = "<Media omitted>" if rng.random() < 0.08 else rng.choice(LARGE_TEXTS)
        return f"{time.day}/{time.month}/{time.year}, {time.hour:02}:{time.minute:02} - {sender}: {text}\n"

    write_lines(path, num_bytes, line)
