"""What a model replies to the contexts that fidelity is measured on, as the chat would."""

from collections.abc import Sequence
from pathlib import Path

from jaegpt.evaluation.contexts import Context
from jaegpt.generation.speaker import GenerateConfig, Speaker
from jaegpt.training.devices import Device


def answer_contexts(
    folder: str | Path,
    contexts: Sequence[Context],
    config: GenerateConfig,
    seed: int,
    *,
    block_size: int,
    token_types: bool,
    device: Device,
) -> list[str]:
    """The replies of the model in `folder`, one for each context, in their order.

    Raises:
        JaegptError: the folder holds no model that can be loaded, or a reply of `config.max_tokens` leaves no room for
            a history in `block_size`.
    """
    longest = max((len(context.history) for context in contexts), default=1)  # examples hold num_history at most
    speaker = Speaker(folder, num_history=longest, block_size=block_size, token_types=token_types, device=device)
    return [reply.text for reply in speaker.replies([context.history for context in contexts], config, seed)]
