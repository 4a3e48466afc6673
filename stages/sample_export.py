"""The embedded sample as a Messenger export: `python -m stages.sample_export`."""

from jaegpt.errors import run
from jaegpt.files import writing_folder
from jaegpt.sample import write_sample


def main() -> None:
    with writing_folder("data/sample_export") as folder:
        counts = write_sample(folder)
    print(f"data/sample_export: {counts['messages']:,} messages in {counts['threads']:,} threads")


if __name__ == "__main__":
    run(main)
