"""What WhatsApp writes itself in the place of a text, in the languages of phones, and what a person wrote beside it.

On iOS all of it begins with U+200E, so that the words are needed only to say what it is; on Android they decide. Only
whole texts are compared, never parts.
"""

import functools
import re
from collections.abc import Iterable, Sequence

from jaegpt.exports.readers.local_times import MARKS

LRM = "\u200e"
_ENDS = " \n.。।…"  # with and without a full stop, as versions differ
# "You deleted this message": who seems to have written this is the owner.
_OWN_DELETED = """
    You deleted this message|You deleted this message as admin|Du hast diese Nachricht gelöscht|Eliminaste este mensaje|
    Vous avez supprimé ce message|Hai eliminato questo messaggio|Você apagou esta mensagem|Apagou esta mensagem|
    U hebt dit bericht verwijderd|Je hebt dit bericht verwijderd|Вы удалили данное сообщение|Вы удалили это сообщение|
    Ви видалили це повідомлення|Usunąłeś tę wiadomość|Usunęłaś tę wiadomość|Usunąłeś(aś) tę wiadomość|
    Usunąłeś(-ęłaś) tę wiadomość|Tuto zprávu jste smazal/a|Tuto zprávu jste odstranil/a|Túto správu ste odstránili|
    Törölted ezt az üzenetet|Ezt az üzenetet törölted|Ați șters acest mesaj|Izbrisali ste ovu poruku|
    To sporočilo ste izbrisali|Изтрихте това съобщение|Διαγράψατε αυτό το μήνυμα|Διαγράψατε το μήνυμα|
    Bu mesajı sildiniz|Du raderade detta meddelande|Du raderade det här meddelandet|Du har tagit bort meddelandet|
    Du slettede denne besked|Du har slettet denne besked|Du slettet denne meldingen|Poistit tämän viestin|
    Kustutasid selle sõnumi|Jūs izdzēsāt šo ziņu|Jūs ištrynėte šią žinutę|Has suprimit aquest missatge|
    Has esborrat aquest missatge|Anda menghapus pesan ini|Anda telah menghapus pesan ini|
    Anda telah memadamkan mesej ini|Umefuta ujumbe huu|Bạn đã xóa tin nhắn này|Bạn đã xoá tin nhắn này|
    คุณลบข้อความนี้|คุณได้ลบข้อความนี้|מחקת הודעה זו|מחקת את ההודעה הזו|أنت حذفت هذه الرسالة|لقد حذفت هذه الرسالة|
    لقد حذَفت هذه الرسالة|شما این پیام را حذف کردید|آپ نے یہ میسج حذف کر دیا ہے|आपने यह मैसेज डिलीट किया|
    आपने यह संदेश मिटाया|तुम्ही हा मेसेज हटवला|আপনি এই মেসেজটি বাদ দিয়েছেন|તમે આ મેસેજ ડિલીટ કર્યો|
    このメッセージを削除しました|이 메시지를 삭제했습니다|삭제한 메시지입니다|
    您已刪除此訊息|你已刪除此訊息|您已删除这条消息|
    你已删除这条消息|你已删除此消息
"""
_DELETED = """
    This message was deleted|This message was deleted by an admin|This message was deleted by admin|Message deleted|
    Diese Nachricht wurde gelöscht|Se eliminó este mensaje|Este mensaje fue eliminado|Ce message a été supprimé|
    Questo messaggio è stato eliminato|Mensagem apagada|Esta mensagem foi apagada|Essa mensagem foi apagada|
    Esta mensagem foi eliminada|Dit bericht is verwijderd|Данное сообщение удалено|Это сообщение удалено|
    Це повідомлення було видалено|Ta wiadomość została usunięta|Tato zpráva byla smazána|Tato zpráva byla odstraněna|
    Táto správa bola odstránená|Ez az üzenet törlésre került|Acest mesaj a fost șters|Ova je poruka izbrisana|
    Ova poruka je izbrisana|Ова порука је обрисана|To sporočilo je bilo izbrisano|Съобщението беше изтрито|
    Αυτό το μήνυμα διαγράφηκε|Bu mesaj silindi|Detta meddelande raderades|Det här meddelandet raderades|
    Denne besked blev slettet|Denne besked er blevet slettet|Denne meldingen ble slettet|Tämä viesti poistettiin|
    See sõnum on kustutatud|Šī ziņa tika izdzēsta|Ši žinutė buvo ištrinta|Aquest missatge s'ha suprimit|
    Aquest missatge està esborrat|Pesan ini dihapus|Pesan ini telah dihapus|Mesej ini telah dipadam|
    Ujumbe huu ulifutwa|Tin nhắn này đã bị xóa|Tin nhắn này đã bị xoá|ข้อความนี้ถูกลบแล้ว|ข้อความนี้ได้ถูกลบ|
    הודעה זו נמחקה|تم حذف هذه الرسالة|این پیام حذف شد|این پیام حذف شده است|یہ میسج حذف کر دیا گیا ہے|
    यह मैसेज डिलीट कर दिया गया है|यह संदेश मिटाया गया|हा मेसेज हटवण्यात आला|এই মেসেজটি বাদ দেওয়া হয়েছে|
    આ મેસેજ ડિલીટ કરાયો|このメッセージは削除されました|이 메시지는 삭제되었습니다|此訊息已刪除|这条消息已删除|
    这条消息已被删除|此消息已删除|信息已删除
"""
# Without media, iOS writes "image omitted" and its like; older phones write it with no U+200E.
_MEDIA = """
    image omitted|video omitted|video note omitted|audio omitted|GIF omitted|document omitted|voice message omitted|
    Bild weggelassen|Video weggelassen|Audio weggelassen|GIF weggelassen|Dokument weggelassen|
    imagen omitida|video omitido|audio omitido|GIF omitido|documento omitido|
    image absente|image omise|vidéo absente|vidéo omise|audio omis|GIF retiré|document manquant|document omis|
    immagine omessa|video omesso|audio omesso|GIF esclusa|documento omesso|
    imagem ocultada|imagem omitida|vídeo omitido|áudio ocultado|áudio omitido|imagem não revelada|vídeo não revelado|
    documento não revelado|ficheiro de áudio não revelado|GIF não revelada|
    afbeelding weggelaten|video weggelaten|audio weggelaten|document weggelaten|GIF weggelaten|
    изображение отсутствует|видео отсутствует|аудио отсутствует|документ отсутствует|GIF отсутствует|
    зображення відсутнє|відео відсутнє|аудіо відсутнє|документ пропущено|obraz pominięty|
    obrázek vynechán|video vynecháno|dokument vynechán|GIF vynechán|görüntü dahil edilmedi|video dahil edilmedi|
    ses dahil edilmedi|GIF dahil edilmedi|תמונה הושמטה|סרטון הושמט|אודיו הושמט|מסמך הושמט|
    لم يتم إدراج الصورة|لم يتم إدراج الفيديوهات|لم يتم إدراج المقاطع الصوتية|لم يتم إدراج المستند|
    圖片已略去|影片已略去|音訊已略去|文件已略去|图片已省略|视频已省略|音频已省略
"""
_STICKERS = """
    sticker omitted|Sticker weggelassen|sticker omitido|sticker omis|autocollant omis|sticker non incluso|
    adesivo omesso|figurinha omitida|sticker não revelado|sticker weggelaten|стикер не добавлен|наклейка отсутствует|
    Наклейку не додано|nálepka vynechána|Çıkartma dahil edilmedi|סטיקר הושמט|تم حذف الملصقات|貼圖已略去|貼圖已忽略|
    贴图已忽略
"""
_CONTACTS = """
    Contact card omitted|Kontaktkarte ausgelassen|Tarjeta de contacto omitida|Fiche contact manquante|
    Scheda contatto omessa|Contacto não revelado|cartão do contato omitido|карточка контакта отсутствует|
    Картка контакту відсутня|Vizitka vynechána|כרטיס איש קשר הושמט|لم يتم إدراج بطاقة جهة اتصال
"""
_CALLS = """
    Missed voice call|Missed video call|Missed group voice call|Missed group video call|Verpasster Sprachanruf|
    Verpasster Videoanruf|Llamada perdida|Llamada de voz perdida|Videollamada perdida|Appel vocal manqué|
    Appel vidéo manqué|Chiamata vocale persa|Videochiamata persa|Chamada de voz perdida|Chamada de vídeo perdida|
    Gemiste spraakoproep|Gemiste video-oproep|Пропущенный аудиозвонок|Пропущенный видеозвонок|Zmeškaný hovor|
    未接語音通話|未接視訊通話|未接语音通话|未接视频通话
"""
_LIVE_LOCATIONS = "live location shared|ubicación en tiempo real compartida|Live-Standort wird geteilt"
_WAITING = """
    Waiting for this message. This may take a while|Waiting for this message|Esperando este mensaje|
    Warte auf diese Nachricht. Dies kann etwas dauern|Esperando el mensaje. Esto puede tomar tiempo
"""
_EDITED = """
    This message was edited|Diese Nachricht wurde bearbeitet|Se editó este mensaje|Ce message a été modifié|
    Mensagem editada|Esta mensagem foi editada|Messaggio modificato|Questo messaggio è stato modificato|
    Dit bericht is bewerkt|Ta wiadomość została zmieniona|Это сообщение изменено|Данное сообщение изменено
"""
# "IMG-1.jpg (file attached)", on Android.
_ATTACHED = """
    file attached|Datei angehängt|archivo adjunto|fichier joint|file allegato|arquivo anexado|ficheiro anexado|
    bestand bijgevoegd|файл добавлен|файл додано|plik załączony|załączony plik|soubor byl přiložen|súbor pripojený|
    fájl csatolva|fișier atașat|datoteka u privitku|priložena datoteka|прикачен файл|прикачен фајл|
    συνημμένο αρχείο|dosya ekli|bifogad fil|fil vedhæftet|vedlagt fil|liitetiedosto|fail lisatud|arxiu adjunt|
    file terlampir|fail dilampirkan|tệp đính kèm|ไฟล์ที่แนบ|קובץ מצורף|הקובץ צורף|الملف مرفق|फाइल संलग्न|फ़ाइल अटैच की गई|
    ফাইল সংযুক্ত হয়েছে|添付ファイル有り|파일 첨부됨|附件檔案|附件檔案|文件附件|档案附件
"""


def _key(text: str) -> str:
    return text.strip(_ENDS).casefold()


def _set(words: str) -> frozenset[str]:
    return frozenset(_key(word) for word in words.split("|"))


_EDITED_WORDS, _ATTACHED_WORDS = _set(_EDITED), _set(_ATTACHED)
_REASONS = {
    word: reason
    for words, reason in (
        (_OWN_DELETED, "deleted"),
        (_DELETED, "deleted"),
        (_MEDIA, "media"),
        (_STICKERS, "sticker"),
        (_CONTACTS, "contact"),
        (_CALLS, "call"),
        (_LIVE_LOCATIONS, "location"),
        (_WAITING, "waiting"),
        ("null", "view_once"),
    )
    for word in _set(words)
}
MAX_WORDS = 1 + max(map(len, _REASONS))
_STARTS = frozenset(("", "<", LRM, " ", "\n", "\u00a0", "\u200f", "\u202a"))
# A sign, and what makes it telling.
_INNER_SIGNS = (
    (LRM, re.compile(LRM)),
    ("\u2068", re.compile("\u2068")),
    (".com/", re.compile(r"maps\.google\.com/\?q=|foursquare\.com/v/")),
    ("\n", re.compile(r"[):：>]\n")),  # a file or a placeholder with a caption, a poll
)
_LAST_SIGNS = frozenset("> )\n")
_ENDINGS = frozenset(
    ending
    for words in (_OWN_DELETED, _DELETED, _MEDIA, _STICKERS, _CONTACTS, _CALLS, _LIVE_LOCATIONS, _WAITING, "null")
    for word in words.split("|")
    for case in (word.strip(), word.strip().lower(), word.strip().upper(), word.strip().casefold())
    for ending in (case[-3:], *(f"{case[-2:]}{dot}" for dot in ".。।"))
)
# Spelled as in the files, so that a whole column is compared at once.
_OWN_DELETED_FORMS = frozenset(
    f"{mark}{word.strip()}{dot}"
    for word in _OWN_DELETED.split("|")
    for mark in ("", LRM)
    for dot in ("", ".", "。", "।")
)

_SIGNS = re.compile(f"[{MARKS}]")
_MENTION = re.compile("@\u2068(?:~[\u202f ]?)?([^\u2069\n]*)\u2069")
# `<attached: FILE>` of iOS, at the end or the beginning of a text; a name of at most 255 bytes.
_FILE_TAG = rf"{LRM}?<[^<>\n:：]{{1,30}}[:：][ \u00a0\u202f]?([^<>\n]{{1,255}}\.\w{{1,5}})>"
_FILE_BEFORE, _FILE_BEHIND = re.compile(_FILE_TAG), re.compile(rf"{_FILE_TAG}\Z")
_TAG_BEHIND = re.compile(rf"({LRM})?<({LRM}?[^<>\n]{{2,60}})>\Z")
_LONGEST_TAG = 320  # letters; what stands behind a text is looked for in so many of its last ones
_PLACEHOLDER = re.compile(rf"{LRM}?<([^<>\n]{{2,60}})>(?:\n|\Z)")
_FILE_LINE = re.compile(rf"({LRM})?([^\n]{{1,255}}\.\w{{1,5}}) \(([^()\n]{{3,40}})\)(?:\n|\Z)")
_OWN_FILE = re.compile(r"(?:IMG|VID|PTT|AUD|STK|DOC)-\d{8}-WA\d+\.")
_FILE_NAME = re.compile(r"[^\n/]+\.(?:pdf|docx?|xlsx?|pptx?|txt|csv|zip|rar|apk|mp[34]|m4a|opus|jpe?g|png|vcf|ics)")
_PAGES = re.compile(r"[^\n]+\.\w{1,5} • [^\n]+")  # "Report.pdf • 3 pages"
_CALL = re.compile(r"(?:Missed |Silenced )?(?:Group )?(?:voice|video) call\b.*|Call\. .*", re.IGNORECASE)
_CALL_LENGTH = re.compile(r"(?:Voice|Video) call, \d+ (?:sec|min|hr)s?(?:,? \d+ (?:sec|min)s?)*", re.IGNORECASE)
_PLACE = re.compile(
    rf"[{MARKS}]*(?:[^\n:：]{{1,30}}[:：] ?https?://maps\.google\.com/\?q=-?[\d.]+,-?[\d.]+|"
    r"[^\n]{1,300}[:：] ?https?://(?:www\.)?foursquare\.com/v/\S+)\s*"
)
_BY_ADMIN = re.compile(r"This message was deleted by admin [^\n]{1,100}")
_OPTION = re.compile(rf"[{MARKS}]*([^\W\d_]{{2,20}})[:：] .*\([^()\n]*\d[^()\n]*\)")


def find_suspects(texts: Sequence[str]) -> list[int]:
    """Which texts `judge` has to look at: those with a sign of what WhatsApp writes, and empty ones. Quick."""
    starts, ends, endings = _STARTS, _LAST_SIGNS, _ENDINGS
    found = {
        index
        for index, text in enumerate(texts)
        if text[:1] in starts
        or text[-1:] in ends
        or text[-3:] in endings
        or text[5:11] == " call,"  # "Voice call, 5 min"
        or text[:12] == "This message"
    }
    whole = "\0".join(texts)
    for sign, pattern in _INNER_SIGNS:
        if sign in whole:
            found |= {index for index, text in enumerate(texts) if sign in text and pattern.search(text)}
    return sorted(found)


def own_deleted_among(texts: Iterable[str]) -> frozenset[str]:
    """The texts that say that their sender deleted something and call them "you"."""
    return _OWN_DELETED_FORMS.intersection(texts)


@functools.lru_cache(maxsize=4096)
def judge(text: str, is_ios: bool) -> tuple[str, str | None]:
    """What a person wrote of a suspect text, and the reason to leave it out (None: it is kept).

    Args:
        text: all behind the name.
        is_ios: U+200E at its beginning shows that nobody typed it.
    """
    text = _without_edit_mark(text)
    bare = _SIGNS.sub("", text)
    if not bare.strip():
        return "", "view_once"
    found = _REASONS.get(_key(bare)) or _kind_of(text, bare.strip())
    if found:
        return "", found
    text, file = _without_files(text, is_ios)
    if not text:
        return "", file
    if is_ios and not file and text.startswith(LRM):
        return "", "call" if _CALL.fullmatch(bare.strip()) else "system"
    return _MENTION.sub(r"@\1", text), None


def _without_edit_mark(text: str) -> str:
    match = _search_behind(_TAG_BEHIND, text)
    if (
        match
        and match.start() > 0
        and (_key(match[2].strip(LRM)) in _EDITED_WORDS or (match[1] and ":" not in match[2]))
    ):
        return text[: match.start()].rstrip()
    return text


def _search_behind(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    end = len(text.rstrip())
    return pattern.search(text, max(end - _LONGEST_TAG, 0), end)


def _without_files(text: str, is_ios: bool) -> tuple[str, str | None]:
    """The caption of a file, or the text as it is, and what the file is."""
    line = _FILE_LINE.match(text)
    if line and (line[1] or _OWN_FILE.match(line[2]) or _key(line[3]) in _ATTACHED_WORDS):
        return text[line.end() :].strip(), _kind_of_file(line[2])
    tag = _FILE_BEFORE.match(text)
    if tag:
        return text[tag.end() :].strip(), _kind_of_file(tag[1])
    tag = _search_behind(_FILE_BEHIND, text)
    if tag:
        return _caption(text[: tag.start()], tag[1]), _kind_of_file(tag[1])
    placeholder = _PLACEHOLDER.match(text)
    if placeholder and (" " in placeholder[1] or not placeholder[1].isascii()):
        rest = text[placeholder.end() :].strip()
        return "" if _FILE_NAME.fullmatch(rest) else rest, "media"
    start, mark, words = text.rpartition(LRM)
    if is_ios and mark and start.endswith((" ", "\n")) and start.strip(f"{LRM} \n"):
        # "look: the cake <U+200E>image omitted", in whatever language where a person wrote the beginning
        file = _REASONS.get(_key(words)) or (None if start.startswith(LRM) or "\n" in words else "media")
        if file and 0 < len(words.strip()) < MAX_WORDS:
            return _caption(start, ""), file
    return text, None


def _caption(text: str, file: str) -> str:
    """What stands before a file is its caption, but a document's title is not one."""
    bare = _SIGNS.sub("", text).strip()
    title = bare.partition(" • ")[0]
    return "" if (title and title in file) or _PAGES.fullmatch(bare) else text.strip(f"{LRM} \n")


def _kind_of_file(name: str) -> str:
    upper = name.upper()
    if upper.endswith(".VCF"):
        return "contact"
    return "sticker" if upper.startswith("STK-") or "-STICKER-" in upper or upper.endswith(".WEBP") else "media"


def _kind_of(text: str, bare: str) -> str | None:
    if _PLACE.fullmatch(text):
        return "location"
    if _BY_ADMIN.fullmatch(bare):
        return "deleted"
    if _CALL_LENGTH.fullmatch(bare):
        return "call"
    lines = [line.strip() for line in bare.split("\n") if line.strip()]
    if len(lines) >= 4 and lines[0].endswith((":", "：")):  # a head, the question, two options or more
        options = [_OPTION.fullmatch(line) for line in lines[2:]]
        if all(options) and len({option[1] for option in options if option}) == 1:
            return "poll"
    return None
