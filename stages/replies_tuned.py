"""What the fine-tuned model replies to the same contexts. Run: python -m stages.replies_tuned"""

from functools import partial

from jaegpt.errors import run
from stages.replies_base import main

if __name__ == "__main__":
    run(partial(main, "models/jaegpt", "data/replies_tuned"))
