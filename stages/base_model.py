"""The base model of params.yaml -> data/base_model/. Run: python -m stages.base_model"""

from jaegpt.base_model import save_base_model
from jaegpt.errors import run
from jaegpt.files import writing_folder
from jaegpt.params import Params


def main() -> None:
    name = Params().value("model")
    with writing_folder("data/base_model") as folder:
        save_base_model(name, folder)
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"base_model: {name}, {size / 1e6:,.0f} MB")


if __name__ == "__main__":
    run(main)
