"""What KakaoTalk writes itself in the place of a text, in Korean and English."""

import re

_WORDS = {
    "media": """
        사진|동영상|음성메시지|음성 메시지|파일|(사진)|<사진>|Photo|Photos|Video|Videos|Voice Note|Voice message|
        <Photo>|(Photo)
    """,
    "sticker": "이모티콘|(이모티콘)|Emoticon|Emoticons|(Emoticon)|Sticker",
    "deleted": """
        삭제된 메시지입니다|이 메시지는 삭제되었습니다|메시지가 삭제되었습니다|This message was deleted|
        The message has been deleted|Deleted message
    """,
    "call": "보이스톡 해요|페이스톡 해요|그룹콜 해요|라이브톡|Voice Call|Video Call",
    "contact": "연락처|Contact",
    "location": "지도|위치|Location",
    "poll": "투표|Poll",
}
_REASONS = {word.strip().casefold(): reason for reason, words in _WORDS.items() for word in words.split("|")}
_LONGEST = 300
_CALL = "보이스톡|페이스톡|그룹콜|라이브톡|Voice Call|Video Call|Live Talk"
# One group per reason.
_LINES = re.compile(
    r"(?P<media>(?:사진|동영상) \d+[장개]|\d+ photos|photo \d+|(?:파일|File): [^\n]+|[0-9a-f]{32,64}\.\w{3,4})|"
    rf"(?P<call>(?:{_CALL})(?: [^\n]{{0,20}})? \d+:\d\d(?::\d\d)?|(?:{_CALL}) (?:부재중|취소|응답없음|종료)\.?)|"
    r"(?P<location>(?:지도|위치|Location): [^\n]+)|(?P<poll>(?:투표|Poll): [^\n]+)|"
    r"(?P<contact>(?:연락처|Contact): [^\n]+)|"
    r"(?P<service>샵검색: [^\n]+|[\d,]+원을 (?:받으세요|보냈어요)\.?|[\d,]+원 받기 완료![^\n]*)",
    re.IGNORECASE,
)
_PEOPLE = r"[^\n]{1,200}"
# Lines about the room; they have no time on Windows, and a name in the CSV.
SYSTEM_LINE = re.compile(
    rf"{_PEOPLE}님이 (?:들어왔습니다|나갔습니다|퇴장했습니다|입장했습니다)\.?|"
    rf"{_PEOPLE}님이 {_PEOPLE}님을 (?:초대했습니다|초대하였습니다|내보냈습니다)\.?|{_PEOPLE}님을 내보냈습니다\.?|"
    r"[^\n]{1,60} (?:has )?(?:left|joined)(?: this chatroom| the chatroom)?\.|[^\n]{1,60} invited [^\n]{1,200}\.|"
    r"채팅방 관리자가 메시지를 가렸습니다\.?|메시지가 삭제되었습니다\.?|The message has been deleted\."
)


def reason_of(text: str) -> str | None:
    """Why a text is left out; None for what a person wrote."""
    bare = text.strip()
    if len(bare) > _LONGEST:
        return None
    if not bare:
        return "empty"
    reason = _REASONS.get(bare.removesuffix(".").casefold())
    if reason:
        return reason
    found = _LINES.fullmatch(bare)
    return found.lastgroup if found else None
