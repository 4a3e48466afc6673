"""The one error that speaks to the user, and the wrapper that prints it as a single line with exit code 1."""

import sys
from collections.abc import Callable


class JaegptError(ValueError):
    """Something the user can mend: the text names the file or key, what was found and what to do."""


def run(main: Callable[[], None]) -> None:
    """Call `main`; a JaegptError becomes `error: ...` on standard error and exit code 1, without a traceback."""
    try:
        main()
    except JaegptError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
