"""The fine-tuned model for Ollama: a folder with the weights and the Modelfile that `ollama create` reads.

Ollama knows no Jinja. Its templates are Go's (text/template, with Ollama's variables), so the chat template is taken
apart into what stands before, between and after the texts of a conversation, and put together again in Go.
"""

import jaegpt.environment  # noqa: F401

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaegpt.dialogue.encode_table import encode_history
from jaegpt.dialogue.encoding import Encoder, Turn
from jaegpt.dialogue.separators import JOINTS
from jaegpt.errors import JaegptError
from jaegpt.files import write_text
from jaegpt.generation.gguf import (
    Precision,
    context_length,
    export_gguf,
    licence_files,
    read_config,
    reading_model,
)
from jaegpt.generation.model_export import drawing, handed_on
from jaegpt.generation.settings import FOUND
from jaegpt.training.model_card import NOTICE
from jaegpt.training.model_folder import ORIGINAL

NAME = "jaegpt"  # what the model is called in Ollama
_ROLES = {False: "user", True: "assistant"}
_LONGEST = 6  # turns of the conversations that the pieces are checked on
# Ollama cuts a conversation to num_ctx, but leaves no room for the reply, and of one that has none it then drops half
# of the beginning. So this is roomy, and what the model is shown is bounded by the number of turns, in the template.
_ROOMY = 2048


@dataclass(frozen=True)
class Pieces:
    """What a chat template writes around the texts of a conversation, whatever its length.

    Attributes:
        opening: before the first text, by whose it is (True: the owner's). The owner is not in it where the template
            must begin with someone else: then the owner's first words are left out.
        between: between two texts, by whose the first of them is.
        closing: after the last text, up to where the reply begins, by whose the last text is.
        joint: between two texts of one role.
    """

    opening: dict[bool, str]
    between: dict[bool, str]
    closing: dict[bool, str]
    joint: str

    def render(self, turns: Sequence[Turn]) -> str:
        """The prompt, as Ollama makes it with `go_template`."""
        text, last = "", None
        for is_owner, content in turns:
            if last is None and is_owner not in self.opening:
                continue
            before = self.opening[is_owner] if last is None else self.between[last] if last != is_owner else self.joint
            text, last = text + before + content, is_owner
        return text if last is None else text + self.closing[last]


def take_apart(encoder: Encoder) -> Pieces:
    """The pieces of a model's chat template, or of DialoGPT's form where it has none.

    Raises:
        JaegptError: they vary with the place of a turn, so that no pieces make up the whole.
    """
    asked, answered, again = (_strings(encoder, owners) for owners in ((False,), (False, True), (False, True, False)))
    led = (True, False)
    pieces = Pieces(
        opening={False: asked[0]} | ({} if encoder.layout(led).skipped else {True: _strings(encoder, led)[0]}),
        between={False: answered[1], True: again[2]},
        closing={False: asked[-1], True: answered[-1]},
        joint=encoder.joint,
    )
    for turns in _conversations():
        ids, _ = encode_history(encoder, turns)
        text = pieces.render(turns)
        if encoder.tokenizer.encode(text, add_special_tokens=False).ids != ids:
            raise JaegptError(
                "--ollama: the model's chat template writes a turn in another way by its place in the conversation, "
                "which a template of Ollama's cannot. Use `jaegpt serve`, or `jaegpt export --gguf` with llama.cpp, "
                "which reads the chat template itself."
            )
    return pieces


def _conversations() -> Iterator[list[Turn]]:
    """Histories of every length, begun by either."""
    for length in range(1, _LONGEST + 1):
        for first in (False, True):
            owners = [(turn % 2 == 1) != first for turn in range(length)]
            if owners != [True]:  # some templates take no conversation of the owner alone
                yield [
                    (is_owner, f"{'Yes' if is_owner else 'and'} {turn}: so what?")
                    for turn, is_owner in enumerate(owners)
                ]


def _strings(encoder: Encoder, owners: tuple[bool, ...]) -> list[str]:
    """What stands before each text of turns by these speakers and after the last, one more than texts."""
    layout = encoder.layout(owners)
    before = [
        encoder.decode(sum(ids, ())) + " " * spaced for ids, spaced in zip(layout.before, layout.spaced, strict=True)
    ]
    return [*before, encoder.decode(sum(layout.after, ()))]


def go_template(pieces: Pieces, num_history: int | None) -> str:
    """The pieces as a template of Ollama's, which shows the model the last `num_history` messages, or all where None.

    Every message is written here; System, Tools and the rest are left out, since training had none.
    """
    user, owner, joint = "user", "assistant", _go(pieces.joint)
    parts = ['{{ $last := "" }}{{ range $index, $message := .Messages }}']
    if num_history is not None:
        parts.append(f"{{{{ if le (len (slice $.Messages $index)) {num_history} }}}}")
    for is_owner, role in ((False, user), (True, owner)):
        other = _ROLES[not is_owner]
        begins = f'eq $message.Role "{role}"'
        if is_owner in pieces.opening:
            opening = f'{{{{ if eq $last "" }}}}{_go(pieces.opening[is_owner])}{{{{ else if eq $last "{other}" }}}}'
        else:
            begins = f'and ({begins}) (ne $last "")'
            opening = f'{{{{ if eq $last "{other}" }}}}'
        parts.append(
            f"{{{{ {'else ' if is_owner else ''}if {begins} }}}}{opening}{_go(pieces.between[not is_owner])}"
            f'{{{{ else }}}}{joint}{{{{ end }}}}{{{{ $message.Content }}}}{{{{ $last = "{role}" }}}}'
        )
    parts.append("{{ end }}" * (2 if num_history is None else 3))
    parts.append(f'{{{{ if eq $last "{user}" }}}}{_go(pieces.closing[False])}')
    parts.append(f'{{{{ else if eq $last "{owner}" }}}}{_go(pieces.closing[True])}{{{{ end }}}}')
    return "".join(parts)


def _go(piece: str) -> str:
    """Text in a Go template. Braces, quotes and what a Modelfile loses (unprintable characters) are spelled out."""
    plain = all(char == "\n" or (char.isprintable() and char != '"') for char in piece)
    if plain and "{{" not in piece and not piece.endswith("{"):
        return piece
    spelled = "".join(char if char.isprintable() and char not in '"\\{' else f"\\U{ord(char):08x}" for char in piece)
    return f'{{{{ "{spelled}" }}}}'


def modelfile(
    weights: str, template: str, stops: Sequence[str], parameters: Mapping[str, Any], texts: Sequence[str]
) -> str:
    """The Modelfile. https://docs.ollama.com/modelfile

    Args:
        weights: the GGUF file's name, beside it.
        texts: each becomes a LICENSE.
    """
    lines = [
        "# Written by `jaegpt export --ollama`. Treat the model as private as the chats: do not push it.",
        f"FROM ./{weights}",
    ]
    lines += [f'TEMPLATE """{template}"""']
    lines += [f'PARAMETER stop "{stop}"' for stop in stops]
    lines += [f"PARAMETER {name} {value}" for name, value in parameters.items()]
    # Three quotes would end the text.
    lines += ['LICENSE """' + text.strip("\n").replace('"""', "'''") + '"""' for text in texts]
    return "\n".join(lines) + "\n"


def parameters(settings: dict[str, Any], num_ctx: int) -> dict[str, Any]:
    """Ollama's names for how to draw, from a generation_config.json that says it; `calibrate`'s does."""
    length = {"num_predict": settings["max_new_tokens"]} if "max_new_tokens" in settings else {}
    said = drawing(settings)
    # `calibrate` had no penalty, and versions differ in what they take where nothing is said.
    return {"num_ctx": num_ctx, **length, **said, **({"repeat_penalty": 1.0} if said else {})}


def export_ollama(folder: Path, target: Path, found: Path = FOUND, precision: Precision = "f16") -> Path:
    """Write the weights and the Modelfile of the model in `folder` into `target`, and nothing else there.

    The weights have their precision in the name, so that several can lie there; the Modelfile is of those written last.

    Returns:
        The Modelfile.

    Raises:
        JaegptError: there is no model, or Ollama cannot be told how to talk to it, or as `export_gguf`.
    """
    if target.exists() and not target.is_dir():
        raise JaegptError(f"--ollama: {target} is a file. Give the name of a folder.")
    weights = target / f"{NAME}-{precision}.gguf"
    with reading_model(folder, weights):
        config = read_config(folder, weights)
        view = {**ORIGINAL, **getattr(config, "jaegpt", {})}
        encoder = Encoder(folder, JOINTS[view["separator"]])
        text = modelfile(
            weights.name,
            go_template(take_apart(encoder), view.get("num_history")),
            stops(encoder),
            parameters(handed_on(folder, found), min(context_length(config), max(_ROOMY, view.get("block_size", 0)))),
            [*(path.read_text("utf-8", "replace") for path in licence_files(folder)), NOTICE],
        )
    export_gguf(folder, weights, found, precision)
    write_text(target / "Modelfile", text)  # last: it names the weights
    return target / "Modelfile"


def stops(encoder: Encoder) -> list[str]:
    """What ends a reply: the end of a turn, and the control tokens that begin one, which chat never draws."""
    layout = encoder.layout((False, True, False))
    pieces = [encoder.end_of_turn[-1:], *(ids for before in layout.before for ids in before), *layout.after]
    used = dict.fromkeys(token for ids in pieces for token in ids)
    return [encoder.decode([token]) for token in used if token in encoder.controls]
