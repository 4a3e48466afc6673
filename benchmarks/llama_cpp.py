"""Whether llama.cpp computes what jaegpt exports to it: the same greedy tokens, and how near the log-probabilities are.

It wants a llama.cpp in a wheel, which the lock does not hold: `pip install --no-deps --target WHEEL xllamacpp`.

Of each family that `jaegpt export --gguf` writes, a small random model, with a tokenizer of its kind trained on this
project's documentation; or the model in a folder. llama.cpp continues 20 conversations greedily, and transformers
reads the same tokens in float32, with the weights that the file holds; what llama.cpp rounds before it multiplies is
rounded alike. A context counts where every token of llama.cpp's is the likeliest of transformers'; by how much the
others were less likely is `gap`, next to the largest difference and the standard deviation (`spread`) of
log-probabilities.
Texts in many languages are to become the same tokens.

Run: PYTHONPATH=WHEEL python -m benchmarks.llama_cpp [FAMILY ...] [--folder models/jaegpt]
"""

import argparse
import csv
import importlib.metadata
import itertools
import json
import random
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, dequantize, quantize
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.pytorch_utils import Conv1D

from jaegpt.dialogue.encode_table import encode_history
from jaegpt.dialogue.encoding import Encoder
from jaegpt.generation.gguf import PRECISIONS, Precision, export_gguf
from jaegpt.generation.gguf_tokenizer import SPACE, SPLITS

NUM_CONTEXTS, NUM_TOKENS, NUM_TEXTS, NUM_PIECES = 20, 24, 400, 2000
STD = 0.15  # large enough that tokens vary, and small enough that float16's rounding of them does not grow
CONTROLS = ["<unk>", "<s>", "</s>"]
ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
SIZES = {
    "num_hidden_layers": 4, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "rope_parameters": ROPE, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
LLAMA_3 = {"rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0,
           "high_freq_factor": 4.0, "original_max_position_embeddings": 64}  # fmt: skip
LONG = {"rope_type": "longrope", "rope_theta": 10_000.0, "partial_rotary_factor": 0.75,
        "original_max_position_embeddings": 256, "short_factor": [1.0, 1.5, 1.1, 2.0, 1.2, 3.0],
        "long_factor": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}  # fmt: skip
WINDOWS = {"sliding_attention": ROPE, "full_attention": {"rope_type": "default", "rope_theta": 1_000_000.0}}
# The family's name, what its configuration has beside SIZES, and how its tokenizer splits, by llama.cpp's name.
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "gpt2": ("gpt2", {"n_layer": 4, "n_embd": 64, "n_head": 4, "n_positions": 512}, "gpt-2"),
    "llama": ("llama", {"tie_word_embeddings": False, "head_dim": 8, "attention_bias": True}, "smollm"),
    "llama 3": ("llama", {"rope_parameters": LLAMA_3, "tie_word_embeddings": True}, "llama-bpe"),
    "llama 2": ("llama", {"tie_word_embeddings": False}, "prefix"),
    "mistral": ("mistral", {"head_dim": 24, "sliding_window": 500}, "tekken"),
    "smollm3": ("smollm3", {"num_hidden_layers": 5, "tie_word_embeddings": True}, "smaug-bpe"),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}, "qwen2"),
    "qwen3": ("qwen3", {"tie_word_embeddings": False, "head_dim": 32}, "qwen2"),
    "phi3": ("phi3", {"original_max_position_embeddings": 512}, "smaug-bpe"),
    "phi3 longrope": ("phi3", {"rope_parameters": LONG, "original_max_position_embeddings": 256,
                               "tie_word_embeddings": True}, "gpt-4o"),
    "gemma3_text": ("gemma3_text", {"num_hidden_layers": 7, "head_dim": 24, "query_pre_attn_scalar": 24,
                                    "sliding_window": 16, "rope_parameters": WINDOWS}, "pieces"),
}  # fmt: skip


def read_texts() -> list[str]:
    """Lines of this project's documentation, and of many languages."""
    lines = [line for path in sorted(Path("docs").glob("*.md")) for line in path.read_text("utf-8").splitlines()]
    with Path("benchmarks/language_lines.tsv").open(encoding="utf-8") as file:
        lines += [row[-1] for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row]
    return [line for line in lines if line.strip()]


def train_tokenizer(kind: str, texts: list[str]) -> Tokenizer:
    """A byte-level BPE with the splitting of that name, or one of SentencePiece's kind."""
    if kind in ("pieces", "prefix"):
        return train_pieces(kind == "prefix", texts)
    (parts, whole), _ = next(item for item in SPLITS.items() if item[1] == kind)
    tokenizer = Tokenizer(models.BPE(ignore_merges=whole))
    made = {
        "ByteLevel": lambda regex: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex),
        "Digits": lambda each: pre_tokenizers.Digits(individual_digits=each),
        "Split": lambda regex: pre_tokenizers.Split(Regex(regex), "isolated"),
    }
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([made[name](value) for name, value in parts])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_PIECES, initial_alphabet=alphabet, special_tokens=CONTROLS, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def train_pieces(prefix: bool, texts: list[str]) -> Tokenizer:
    """As Llama 2's (with a prefix): merges in the order of the pieces that they make, and bytes; or as Gemma's, which
    has runs of one character before all.
    """
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="never")
    learner.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=NUM_PIECES, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    runs = [
        (char * left, char * right) for char in ("\n", SPACE) for left in range(1, 16) for right in range(1, 17 - left)
    ]
    runs = [] if prefix else sorted(runs, key=lambda pair: (len(pair[0]), len(pair[1])), reverse=True)
    first = dict.fromkeys(map("".join, runs))
    rows = [*CONTROLS, *(f"<0x{byte:02X}>" for byte in range(256)), *first, "\n", *learned["vocab"]]
    vocab = {piece: number for number, piece in enumerate(dict.fromkeys(rows))}
    merges = runs + [
        (piece[:cut], piece[cut:])
        for piece in learned["vocab"]
        for cut in range(len(piece) - 1, 0, -1)
        if piece[:cut] in vocab and piece[cut:] in vocab and piece not in first
    ]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token=CONTROLS[0], fuse_unk=True, byte_fallback=True))
    space = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), space]) if prefix else space
    if not prefix:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(CONTROLS)
    return tokenizer


def save_case(folder: Path, name: str, texts: list[str]) -> Path:
    """A random model whose greedy tokens vary."""
    family, sizes, kind = CASES[name]
    tokenizer = train_tokenizer(kind, texts)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=CONTROLS[0], bos_token=CONTROLS[1], eos_token=CONTROLS[2]
    )
    wrapped.save_pretrained(folder)
    sizes = sizes if family == "gpt2" else {**SIZES, **sizes}
    config = AutoConfig.for_model(family, vocab_size=tokenizer.get_vocab_size() + 3, **sizes)
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    for key, weight in model.named_parameters():
        norm = weight.ndim == 1 and key.endswith("weight")
        std = STD / 8 if family == "gemma3_text" and "embed" in key else STD  # it multiplies them by the root of 64
        torch.nn.init.normal_(weight, mean=float(norm and family != "gemma3_text"), std=std)
    model.save_pretrained(folder)
    return folder


def conversations(texts: list[str]) -> Iterator[list[tuple[bool, str]]]:
    rng = random.Random(5)
    for number in range(NUM_CONTEXTS):
        yield [(turn % 2 == 1, rng.choice(texts)[:80].strip()) for turn in range(1 + 2 * (number % 3))]


def round_like(precision: Precision, rows: torch.Tensor) -> torch.Tensor:
    """Rows as llama.cpp holds them for a product of that precision, in float32 again."""
    if precision == "q8_0" and rows.shape[-1] % 32 == 0:
        kind = GGMLQuantizationType.Q8_0
        return torch.from_numpy(dequantize(quantize(rows.contiguous().numpy(), kind), kind))
    return rows.half().float()


def rounded(folder: Path, precision: Precision) -> Any:
    """The model with the weights that the file holds; what they are multiplied with is rounded alike."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False
    ).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and ".wpe." not in name:
                turned = model.config.model_type == "gpt2" and ".c_" in name  # kept as [in, out]
                weight.copy_(round_like(precision, weight.T).T if turned else round_like(precision, weight))
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | Conv1D):
            module.register_forward_pre_hook(lambda _, inputs: (round_like(precision, inputs[0]),))
        if "GELU" in type(module).__name__:  # read off a table of float16
            module.register_forward_pre_hook(lambda _, inputs: (round_like("f16", inputs[0]),))
            module.register_forward_hook(lambda _, inputs, output: round_like("f16", output))
    return model


class LlamaCpp:
    """llama.cpp's server on one GGUF file, computing with one thread."""

    def __init__(self, path: Path) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel, params.warmup, params.special = 0, 1, False, True
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        # Attention in float32: flash attention rounds to float16 on the way.
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._server = xllamacpp.Server(params)

    def post(self, route: str, **body: Any) -> Any:
        request = urllib.request.Request(
            self._server.listening_address + route, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def tokenize(self, text: str) -> list[int]:
        return list(self.post("/tokenize", content=text, parse_special=True, add_special=True)["tokens"])

    def greedy(self, ids: list[int]) -> tuple[list[int], list[dict[int, float]]]:
        """Tokens, and for each the logarithms of the 1,000 largest probabilities, up to the first token that ends
        within a character: there the server says none.
        """
        answer = self.post(
            "/completion", prompt=ids, n_predict=NUM_TOKENS, temperature=0, samplers=["temperature"], n_probs=1000,
            return_tokens=True, cache_prompt=False,
        )  # fmt: skip
        tokens, steps = answer["tokens"], answer["completion_probabilities"]
        told = itertools.takewhile(lambda pair: pair[0] == pair[1]["id"], zip(tokens, steps, strict=False))
        return tokens, [{each["id"]: each["logprob"] for each in step["top_logprobs"]} for _, step in told]


def compare(folder: Path, precision: Precision, texts: list[str], scratch: Path) -> dict[str, Any]:
    """One row of the table."""
    encoder = Encoder(folder)
    model = rounded(folder, precision)
    server = LlamaCpp(export_gguf(folder, scratch / f"{precision}.gguf", scratch / "none.json", precision))
    equal, told, gaps, differences, spreads = 0, [], [], [], []
    for turns in conversations(texts):
        ids, _ = encode_history(encoder, turns)
        tokens, found = server.greedy(ids)
        with torch.inference_mode():
            wanted = model(torch.tensor([ids + tokens])).logits[0, len(ids) - 1 : -1].log_softmax(-1).numpy()
        equal += wanted.argmax(1).tolist() == tokens
        told += tokens
        gaps += [float(row.max() - row[token]) for row, token in zip(wanted, tokens, strict=True)]
        spreads += [float(row.std()) for row in wanted]
        for row, theirs in zip(wanted, found, strict=False):
            differences.append(float(np.abs(row[list(theirs)] - np.array(list(theirs.values()))).max()))
    some = texts[:: len(texts) // NUM_TEXTS]
    alike = sum(server.tokenize(text) == encoder.tokenizer.encode(text).ids for text in some)
    return {
        "weights": precision,
        "contexts": f"{equal} of {NUM_CONTEXTS}",
        "tokens": len(told),
        "kinds": len(set(told)),
        "others": sum(gap > 0 for gap in gaps),
        "gap": round(max(gaps, default=0.0), 4),
        "compared": len(differences),
        "difference": round(max(differences), 4),
        "median": round(float(np.median(differences)), 4),
        "spread": round(float(np.mean(spreads)), 2),
        "texts": f"{alike} of {len(some)}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("family", nargs="*", default=[*CASES], help=", ".join(CASES))
    parser.add_argument("--folder", type=Path, help="a trained model")
    args = parser.parse_args()
    torch.set_num_threads(1)
    texts = read_texts()
    print("xllamacpp", importlib.metadata.version("xllamacpp"))
    for name in [str(args.folder)] if args.folder else args.family:
        with tempfile.TemporaryDirectory() as scratch:
            folder = args.folder or save_case(Path(scratch) / "model", name, texts)
            for precision in PRECISIONS:
                print(json.dumps({"model": name, **compare(folder, precision, texts, Path(scratch))}), flush=True)


if __name__ == "__main__":
    main()
