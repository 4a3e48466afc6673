"""Which names of this machine and which pages a request may come by: what browsers say of where it was made."""

import ipaddress
import re
from collections.abc import Iterable, Mapping

from jaegpt.errors import JaegptError

# "localhost:8000", "[::1]", "example.org."; not "a@b", "a/b" or "a b".
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]+))(?::([0-9]{0,5}))?")
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(.+)", re.I)
_PORTS = {"http": 80, "https": 443}
_NAMES = re.compile(r"[A-Za-z0-9-]+(\s*,\s*[A-Za-z0-9-]+)*")

# Every value of each header, in lower-case names.
Headers = Mapping[str, list[str]]


def is_loopback(name: str) -> bool:
    """Whether a host's name or address means this machine alone, whoever looks it up."""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def split_host(text: str) -> tuple[str, int | None] | None:
    """The name (lower case, without the root's dot) and port of a Host header; None where it is not one."""
    found = _HOST.fullmatch(text)
    if not found:
        return None
    name = (found[1] or found[2]).lower()
    return name.removesuffix("."), int(found[3]) if found[3] else None


def normal_origin(text: str) -> str | None:
    """An origin as browsers spell it, `scheme://name[:port]`; None where it is not one."""
    found = _ORIGIN.fullmatch(text)
    place = split_host(found[2]) if found else None
    if not found or not place:
        return None
    scheme, (name, port) = found[1].lower(), place
    shown = f"[{name}]" if ":" in name else name
    return f"{scheme}://{shown}" + (f":{port}" if port not in (None, _PORTS.get(scheme)) else "")


def opened_origins(texts: Iterable[str]) -> frozenset[str]:
    """What `--allow-origin` names.

    Raises:
        JaegptError: one is not an origin.
    """
    origins = set()
    for text in texts:
        origin = normal_origin(text.removesuffix("/"))
        if origin is None:
            raise JaegptError(
                f"--allow-origin: must be where a page comes from, like http://localhost:3000 (scheme, name and port, "
                f"no path, no *), found {text!r}."
            )
        origins.add(origin)
    return frozenset(origins)


def foreign(method: str, route: str, headers: Headers) -> str | None:
    """Where a browser says a request was made, if that was another page than the server's own; else None.

    Other ports of this machine are other pages: any program may serve them. A link elsewhere may still open `/`, whole
    and in a window of its own. Programs that are no browser send none of these headers.
    """
    sites = headers.get("sec-fetch-site", [])
    if sites and not set(sites) <= {"same-origin", "none"}:
        shown = headers.get("sec-fetch-mode") == ["navigate"] and headers.get("sec-fetch-dest") == ["document"]
        return None if shown and method in ("GET", "HEAD") and route == "/" else ", ".join(headers.get("origin", sites))
    if sites == ["same-origin"]:  # and the browser knows by what name, even if a proxy has changed the Host header
        return None
    origins = headers.get("origin", [])
    if all(_is_own(origin, headers.get("host", [])) for origin in origins):
        return None
    return ", ".join(origins)


def _is_own(origin: str, hosts: list[str]) -> bool:
    found = _ORIGIN.fullmatch(origin)
    if not found or found[1].lower() not in _PORTS or len(hosts) != 1:
        return False
    default = _PORTS[found[1].lower()]
    ours, theirs = split_host(hosts[0]), split_host(found[2])
    if not ours or not theirs:
        return False
    return (ours[0], ours[1] or default) == (theirs[0], theirs[1] or default)


def preflight(headers: Headers) -> list[tuple[str, str]]:
    """What a page of an opened origin may send, for the browser that asks first: a token in a header, no cookies."""
    wanted = ", ".join(headers.get("access-control-request-headers", []))
    allowed = [
        ("access-control-allow-methods", "GET, HEAD, POST"),
        ("access-control-allow-headers", wanted if _NAMES.fullmatch(wanted) else "authorization, content-type"),
        ("access-control-max-age", "600"),
    ]
    if "access-control-request-private-network" in headers:
        allowed.append(("access-control-allow-private-network", "true"))
    return allowed


def opened(origin: str) -> list[tuple[str, str]]:
    """What makes a browser hand a response to a page of `origin`."""
    return [
        ("access-control-allow-origin", origin),
        ("access-control-expose-headers", "x-jaegpt-notice, retry-after"),
        ("vary", "Origin"),
    ]
