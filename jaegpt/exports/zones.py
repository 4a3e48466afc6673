"""Time zones: formats that write local time without its zone need one, named in `export.timezone` or the machine's."""

import contextlib
import difflib
import os
import zoneinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from jaegpt.errors import JaegptError

LOCAL = "local"
_FOLDER = "/zoneinfo/"  # in the path that /etc/localtime leads to


def zone_name(timezone: str | None) -> str:
    """The IANA name of a zone; None and `local` mean the machine's.

    Raises:
        ValueError: there is no such zone.
    """
    if timezone is None or timezone == LOCAL:
        return _machine_zone()
    if not _exists(timezone):
        near = difflib.get_close_matches(timezone, zoneinfo.available_timezones(), n=1)
        hint = (
            f"Did you mean {near[0]!r}?" if near else "Give null for this machine's zone, or a name of the IANA list."
        )
        raise ValueError(f"timezone: there is no time zone {timezone!r} (they are called like Europe/Berlin). {hint}")
    return timezone


def zone_of(name: str) -> ZoneInfo:
    """The zone of a name that `zone_name` gave; another machine of a cluster may not have it.

    Raises:
        JaegptError: this machine does not know it.
    """
    if not _exists(name):
        raise JaegptError(f"export.timezone: {name} is not in the time zones of this machine. Install tzdata.")
    return ZoneInfo(name)


def _machine_zone() -> str:
    """Where this machine is: TZ, else what /etc/localtime leads to, else /etc/timezone; UTC where none of them says."""
    candidates = [os.environ.get("TZ", "").removeprefix(":").rpartition(_FOLDER)[2]]
    candidates.append(os.path.realpath("/etc/localtime").rpartition(_FOLDER)[2])
    with contextlib.suppress(OSError):
        candidates.append(Path("/etc/timezone").read_text(encoding="utf-8", errors="replace").strip())
    return next((name for name in candidates if _exists(name)), "UTC")


def _exists(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name is that of a folder of zones
        return False
    return bool(name)
