"""Chat templates as transformers renders them, but not through transformers, whose import takes a second."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from jaegpt.dialogue.bounded import WorkFailed, bounded
from jaegpt.errors import JaegptError

# Some templates print today's date, which would make the tokens depend on the clock, and chat on the day.
_FIXED_DATE = "01 Jan 2024"
_MOST_BYTES = 2**20


def read_template(path: Path) -> str:
    """The template in a file.

    Raises:
        JaegptError: it is larger than any template, or not text.
    """
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise JaegptError(f"{path}: {size:,} bytes, larger than any chat template. Copy the model again.")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise JaegptError(f"{path}: cannot be read ({error}). Copy the model again.") from None


def compiled(template: str) -> Template:
    """A chat template with what transformers gives it. The sandbox matters: a template may come from anywhere.

    Raises:
        JaegptError: it is not a template.
    """

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def to_json(
        value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = to_json
    environment.globals |= {"raise_exception": refuse, "strftime_now": lambda format: _FIXED_DATE}
    try:
        bounded(lambda: environment.compile(template) and "")  # jinja2 computes what is constant as it compiles
    except WorkFailed as error:
        raise JaegptError(f"model: its chat template cannot be read ({error}). Choose another base model.") from None
    return environment.from_string(template)


def render(
    template: Template, messages: list[dict[str, str]], add_generation_prompt: bool, tokens: dict[str, str]
) -> str:
    """A conversation as text.

    Args:
        tokens: the tokenizer's named tokens, such as {"eos_token": "</s>"}; templates refer to them.

    Raises:
        JaegptError: the template refuses the roles, or does not end within its bounds.
    """
    try:
        return bounded(
            partial(
                template.render,
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                # People do not write down what they think: templates that leave room for a thought close it at once.
                enable_thinking=False,
                **tokens,
            )
        )
    except WorkFailed as error:
        roles = ", ".join(message["role"] for message in messages)
        raise JaegptError(
            f"model: its chat template refuses the roles {roles} ({error}). Choose another base model."
        ) from None


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}` marks the assistant's words for a mask; only its content counts here."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it so)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
