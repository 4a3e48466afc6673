"""The base model of params.yaml -> data/base_model/. Run: python -m stages.base_model"""

from jaegpt.base_model import save_base_model
from jaegpt.dialogue.encoding import Encoder
from jaegpt.errors import run
from jaegpt.files import writing_folder
from jaegpt.params import Params
from jaegpt.training.packing_check import check_base


def main() -> None:
    params = Params()
    name = params.value("model")
    token_types, lora_rank = params.field("train.token_types", bool), params.field("train.lora_rank", int)
    with writing_folder("data/base_model") as folder:
        save_base_model(name, folder)
        size = sum(file.stat().st_size for file in folder.iterdir())
        # What cannot be trained is refused here, before the data stages have run for it.
        Encoder(folder).layout((False, True, False))
        dense = check_base(folder, token_types, lora_rank)
        print(f"base_model: {name}, {size / 1e6:,.0f} MB")
        if dense:
            print("  slower: attention over a dense mask, as its own cannot be lined up by example (docs/families.md)")


if __name__ == "__main__":
    run(main)
