"""Backups as SMS Backup & Restore writes them."""

import base64
from pathlib import Path
from xml.sax.saxutils import quoteattr

from helpers.reader_checks import CONVERSATION, DELETED, FRIEND, OWNER, ms

NUMBER = "+4915112345678"
START = """<?xml version='1.0' encoding='UTF-8' standalone='yes' ?>
<!--File Created By SMS Backup & Restore v10.20.002 on 05/03/2024 17:00:00-->
<?xml-stylesheet type="text/xsl" href="sms.xsl"?>
"""


def attributes(**values: object) -> str:
    lines = {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}
    return " ".join(f"{name}={quoteattr(str(value), lines)}" for name, value in values.items())


def sms(time: str, text: str, own: bool = False, **values: object) -> str:
    about = {"protocol": 0, "address": NUMBER, "date": ms(time), "type": 2 if own else 1, "subject": "null"}
    about |= {"body": text, "read": 1, "status": -1, "date_sent": 0, "readable_date": "05.03.2024 15:03:21"}
    return f"  <sms {attributes(**about | {'contact_name': FRIEND} | values)} />\n"


def part(kind: str, text: str = "null", seq: int = 0, data: bytes | None = None) -> str:
    more = {"data": base64.b64encode(data).decode()} if data is not None else {}
    return f"      <part {attributes(seq=seq, ct=kind, name='null', chset=106, text=text, **more)} />\n"


def mms(time: str, *parts: str, own: bool = False, sender: str = "", to: tuple[str, ...] = (), **values: object) -> str:
    about = {"date": ms(time), "ct_t": "application/vnd.wap.multipart.related", "msg_box": 2 if own else 1}
    about |= {"address": NUMBER, "m_type": 128 if own else 132, "sub": "null", "contact_name": FRIEND, "date_sent": 0}
    smil = part("application/smil", "<smil><body/></smil>", -1)
    addresses = [(sender, 137)] if sender else []
    addresses += [(address, 151) for address in to]
    listed = "".join(f"      <addr {attributes(address=address, type=kind)} />\n" for address, kind in addresses)
    return (
        f"  <mms {attributes(**about | values)}>\n    <parts>\n{smil}{''.join(parts)}    </parts>\n"
        f"    <addrs>\n{listed}    </addrs>\n  </mms>\n"
    )


def backup(*messages: str, start: str = START) -> bytes:
    return f'{start}<smses count="{len(messages)}" backup_set="x">\n{"".join(messages)}</smses>'.encode()


def pairs(content: bytes) -> bytes:
    """Characters beyond U+FFFF as two references each, as versions before 10.05 wrote them."""
    found = []
    for sign in content.decode():
        if ord(sign) > 0xFFFF:
            raw = sign.encode("utf-16-be")
            sign = f"&#{int.from_bytes(raw[:2])};&#{int.from_bytes(raw[2:])};"
        found.append(sign)
    return "".join(found).encode()


def conversation(newest_first: bool = False) -> bytes:
    photo = part("image/jpeg", data=bytes(300))
    messages = []
    for who, time, text in CONVERSATION:
        if text == DELETED:
            continue  # leaves no trace
        own = who == OWNER
        if text in ("", "look: the cake"):
            words = [part("text/plain", text, 1)] if text else []
            messages.append(mms(time, photo, *words, own=own, sender="insert-address-token" if own else NUMBER))
        else:
            messages.append(sms(time, text, own))
    return backup(*messages[:: -1 if newest_first else 1])


def write_large(path: Path, num_bytes: int, photo_bytes: int = 0) -> None:
    """A backup of about that size, with 300 numbers in turn; every hundredth message a photo of `photo_bytes`."""
    texts = (
        "see you at nine then",
        "no idea, ask her",
        "she said &quot;never&quot; &#55357;&#56832;",
        "on my way\nnow",
    )
    photo = part("image/jpeg", data=bytes(photo_bytes)) if photo_bytes else ""
    first = ms("2020-09-13T12:26:40Z")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'{START}<smses count="1">\n')
        number = 0
        while file.tell() < num_bytes:
            rows = []
            for _ in range(1000):
                number += 1
                address, own = f"+49151{number * 7 % 300:08}", number % 3 > 0
                row = sms(
                    "2020-09-13T12:26:40Z", "TEXT", own, address=address, contact_name=f"Friend {number * 7 % 300}"
                )
                rows.append(row.replace("TEXT", texts[number % 4]).replace(str(first), str(first + number * 3000)))
                if photo and number % 100 == 0:
                    rows.append(mms("2021-09-13T12:26:40Z", photo, sender=address, address=address))
            file.write("".join(rows))
        file.write("</smses>")


def write_large_with_photos(path: Path, num_bytes: int) -> None:
    write_large(path, num_bytes, 300_000)
