"""How many examples each block size holds. Run: python -m stages.block_size"""

from pathlib import Path

from jaegpt.errors import JaegptError, run
from jaegpt.files import write_csv, write_json
from jaegpt.parallel import map_parts
from jaegpt.params import Params
from jaegpt.tables import part_paths, read_part
from jaegpt.training.block_size import Sizes
from jaegpt.training.limits import check_block
from jaegpt.training.packing import Plan

FILL_EXAMPLES = 20_000  # enough to know how full rows get; planning all of a large archive takes memory


def sizes_of_part(path: Path) -> Sizes:
    """The sizes of the examples of one part."""
    return Sizes.of(read_part(path, "tokens"))


def main() -> None:
    params = Params()
    block_size, seed = params.value("block_size"), params.value("seed")
    batch_size, pack_width = (params.field(name, int) for name in ("train.batch_size", "train.pack_width"))
    if batch_size < 1 or pack_width < 0:
        raise JaegptError(
            "params.yaml: train.batch_size must be at least 1 and train.pack_width not negative, "
            f"found {batch_size} and {pack_width}."
        )
    check_block("data/base_model", block_size)
    sizes = Sizes.total(map_parts(sizes_of_part, part_paths("data/tokens"), "block_size"))
    lengths = sizes.fitting(block_size).packed[:FILL_EXAMPLES].tolist()
    stand_ins = [range(length) for length in lengths]  # only their lengths count
    plan = Plan.training(stand_ins, batch_size=batch_size, pack_width=pack_width, seed=seed)
    content = sizes.metrics(block_size, plan.fill())
    write_json("metrics/block_size.json", content)
    rows = [(int(size), round(100 * share, 2)) for size, share in content["yield"].items()]
    write_csv("plots/block_size.csv", ("block_size", "yield_percent"), rows)
    kept, padded, packed = (content[key] for key in ("examples_kept", "tokens_padded", "tokens_packed"))
    print(f"block_size: {kept:,} of {content['examples']:,} examples fit into {block_size:,} tokens")
    if warning := sizes.warning(block_size):
        print(warning)
    fewer = f"{padded / packed:.1f} times fewer; rows {plan.fill():.1%} full"
    print(f"  padded {padded:,} tokens, packed {packed:,} ({fewer})")


if __name__ == "__main__":
    run(main)
