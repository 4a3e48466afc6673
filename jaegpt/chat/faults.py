"""What went wrong, without anyone's words: as JSON for a client, as type and place on the server's console."""

import sys
import traceback
from pathlib import Path
from typing import Any


def error_body(status: int, message: str) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def report_fault(error: BaseException) -> None:
    """One line on standard error: the error's type and where it was raised.

    Its own words are left out, and so are the lines of a traceback: a tokenizer or a model may put what was said there.
    """
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    places = [f"{'/'.join(Path(code.co_filename).parts[-3:])}:{line} ({code.co_name})" for code, line in frames]
    ours = [place for place in places if place.startswith("jaegpt/")]
    # Our last line, and the one that raised it, where that is a library's.
    shown = list(dict.fromkeys([*ours[-1:], *places[-1:]]))
    print(f"error: {type(error).__name__} at {', from '.join(reversed(shown)) or 'an unknown place'}", file=sys.stderr)
