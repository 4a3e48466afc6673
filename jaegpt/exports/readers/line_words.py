"""What LINE writes itself in the place of a text, in the languages of phones."""

import re

_PLACEHOLDERS = {
    word: reason
    for reason, words in {
        "media": "photo image video voice message audio file gif album note notes 写真 画像 動画 "
        "ボイスメッセージ 音声 ファイル アルバム ノート 照片 圖片 图片 影片 视频 語音訊息 语音信息 语音消息 檔案 文件 "
        "相簿 記事本 ภาพ รูป รูปภาพ วิดีโอ ข้อความเสียง ไฟล์ 사진 동영상 음성메시지 파일 foto berkas voice_message "
        "voice_note pesan_suara",
        "sticker": "sticker スタンプ 貼圖 贴图 สติกเกอร์ สติ๊กเกอร์ 스티커 stiker",
        "location": "location 位置情報 位置資訊 位置訊息 位置信息 ตำแหน่ง ตำแหน่งที่ตั้ง 위치정보 lokasi",
        "contact": "contact 連絡先 聯絡資訊 聯絡人 联系人 ผู้ติดต่อ 연락처 kontak",
        "poll": "poll 投票 โพล 투표",
        "call": "call 通話",
        "service": "gift payment ギフト 送金 line_pay 禮物",
    }.items()
    for word in words.split()
}
_UNSENT = re.compile(
    r"(?:[^\n]{1,80} )?unsent a (?:message|photo)\.?|(?:[^\n]{1,80}が)?メッセージの送信を取り消しました。?|"
    r"(?:[^\n]{1,80})?已?收回訊息。?|(?:[^\n]{1,80})?已?(?:撤回|收回)了?(?:一条)?(?:消息|信息)。?"
)
# How texts begin and end that have to be looked at: in brackets or quotation marks, blank, or like the above.
STARTS = frozenset(("", "[", "☎", '"', " ", "\n", "\t"))
ENDS = frozenset(("e.", "ge", "o.", "to", "した", "た。", "訊息", "息。", "消息", "信息", "p.", "up"))
_EVENT = re.compile(r"[^\n]{1,80} (?:joined the group|left the group|invited [^\n]{1,80} to the group)\.?")


def unquoted(text: str) -> str:
    """Texts of several lines stand in quotation marks, those in them are doubled."""
    if "\n" in text and text[0] == text[-1] == '"' and len(text) > 2:
        return text[1:-1].replace('""', '"')
    return text


def reason_of(text: str, is_desktop: bool) -> str | None:
    """Why a text is left out; None for what a person wrote. On the desktop placeholders have no brackets."""
    if text[:1] == "☎":
        return "call"
    if len(text) > 100:
        return None
    word = text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text if is_desktop else ""
    reason = _PLACEHOLDERS.get(word.strip().casefold().replace(" ", "_")) if word else None
    if reason or not text.strip():
        return reason or "empty"
    if _UNSENT.fullmatch(text):
        return "unsent"
    return "system" if " " in text and _EVENT.fullmatch(text) else None
