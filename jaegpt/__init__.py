"""jaegpt: a person's own chat export -> a small language model that answers the way that person does."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaegpt.project import open_project as open_project


def __getattr__(name: str) -> Any:
    """`jaegpt.open_project`, loaded when it is first asked for, as each stage imports this package."""
    if name == "open_project":
        from jaegpt.project import open_project

        return open_project
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
