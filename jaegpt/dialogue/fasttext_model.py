"""fastText's language model on whole columns: the answers of `fasttext`, each distinct word computed once.

A fastText model is a bag of words and character n-grams: the vector of a line is the mean of the vectors of all its
words and their n-grams, and the likeliest label is found by walking down a binary tree. Both are sums and steps over
columns, which takes a third of the time of asking line by line. Sources: Joulin et al., "Bag of tricks for efficient
text classification", 2016, and "FastText.zip: compressing text classification models", 2016; file format version 12.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

_MAGIC, _VERSION = 793712314, 12
_HIERARCHICAL_SOFTMAX, _SUPERVISED = 1, 3
_LINES_AT_ONCE = 16_384  # keeps the vectors of all words of these lines below 20 MB


@dataclass(frozen=True)
class FastTextModel:
    """A quantized classifier with hierarchical softmax, read once.

    Attributes:
        words: [words] its vocabulary; a word's number is its row in `vectors`.
        labels: [labels] without the prefix `__label__`.
        vectors: [dim, words + n-grams], transposed for summing one dimension at a time.
        ngram_rows: [buckets] the row in `vectors` of an n-gram's bucket, or -1 where it was pruned.
        shortest, longest: characters of an n-gram.
        nodes: [labels - 1, dim] what each inner node of the tree weighs a line by.
        children: [labels - 1, 2] the node that follows; below `len(labels)` it is a label.
    """

    words: pa.Array
    labels: npt.NDArray[np.str_]
    vectors: Floats
    ngram_rows: npt.NDArray[np.int32]
    shortest: int
    longest: int
    nodes: Floats
    children: Ints

    def predict(self, lines: pa.Array) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.float64]]:
        """[lines] the label that the tree's likelier branches lead to, and its probability.

        A label of probability 0.5 or more is always the one found: each branch towards it is at least that likely.
        """
        found = [
            self._walk(self._line_vectors(lines.slice(start, _LINES_AT_ONCE)))
            for start in range(0, len(lines), _LINES_AT_ONCE)
        ]
        numbers, probabilities = (np.concatenate(part) for part in zip(*found, strict=True)) if found else ([], [])
        return self.labels[np.asarray(numbers, dtype=np.int64)], np.asarray(probabilities, dtype=np.float64)

    def _line_vectors(self, lines: pa.Array) -> Floats:
        """[lines, dim] the mean of the vectors of a line's words, their n-grams and the end of the line."""
        split = pc.split_pattern(lines, " ")
        tokens = split.flatten().dictionary_encode()
        sums, counts = self._word_sums(tokens.dictionary)
        end = pc.index_in(pa.array(["</s>"]), self.words)[0].as_py()
        line = np.repeat(np.arange(len(lines)), pc.list_value_length(split).to_numpy(zero_copy_only=False))
        word = tokens.indices.to_numpy(zero_copy_only=False)
        total = np.bincount(line, counts[word], len(lines)) + 1
        columns = [
            (np.bincount(line, sums[dim, word], len(lines)) + self.vectors[dim, end]) / total
            for dim in range(len(sums))
        ]
        return np.stack(columns, axis=1).astype(np.float32)

    def _word_sums(self, words: pa.Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
        """[dim, words] the sum of the vectors of a word and its n-grams, and [words] how many those are."""
        known = pc.index_in(words, self.words)
        is_known = known.is_valid().to_numpy(zero_copy_only=False)
        pairs = [(np.flatnonzero(is_known), known.drop_null().to_numpy(zero_copy_only=False).astype(np.int64))]
        for word, bucket in _ngrams(words, self.shortest, self.longest, len(self.ngram_rows)):
            rows = self.ngram_rows[bucket]
            pairs.append((word[rows >= 0], rows[rows >= 0].astype(np.int64)))
        word, rows = (np.concatenate(part) for part in zip(*pairs, strict=True))
        # Two spaces in a row leave an empty word between them, which is none.
        real = pc.not_equal(words, "").to_numpy(zero_copy_only=False)[word]
        word, rows = word[real], rows[real]
        sums: npt.NDArray[np.float64] = np.stack(
            [np.bincount(word, vector[rows], len(words)) for vector in self.vectors]
        )
        return sums, np.bincount(word, minlength=len(words))

    def _walk(self, hidden: Floats) -> tuple[Ints, npt.NDArray[np.float64]]:
        """[lines] from the root, the likelier child each time, until all lines stand at a label."""
        num_labels = len(self.labels)
        node = np.full(len(hidden), 2 * num_labels - 2)
        score = np.zeros(len(hidden))
        walking = np.arange(len(hidden))
        while len(walking):
            inner = node[walking] - num_labels
            right = 1 / (1 + np.exp(-np.einsum("ij,ij->i", self.nodes[inner], hidden[walking], dtype=np.float64)))
            # The constant is fastText's, against the logarithm of zero.
            score[walking] += np.log(np.maximum(right, 1 - right) + 1e-5)
            node[walking] = self.children[inner, (right >= 0.5).astype(np.int64)]
            walking = walking[node[walking] >= num_labels]
        return node, np.exp(score)


def _ngrams(words: pa.Array, shortest: int, longest: int, num_buckets: int) -> Any:
    """(word, bucket) columns of the n-grams of each length: "no" between its marks is "<no>", with <n, no, o>, ...

    Buckets are 32-bit FNV-1a hashes of the n-gram's UTF-8 bytes, all n-grams of a length at once, each from the one
    that is a character shorter.
    """
    marked = "".join(f"<{word}>" for word in words.to_pylist()).encode()
    text = np.frombuffer(marked, dtype=np.uint8)
    begins = np.flatnonzero((text & 0xC0) != 0x80)  # [characters] the first byte of each
    sizes = np.diff(begins, append=len(text))
    lengths = pc.utf8_length(words).to_numpy(zero_copy_only=False) + 2
    word = np.repeat(np.arange(len(words)), lengths)
    # fastText takes bytes as signed: 0xC3 enters the hash as 0xFFFFFFC3.
    signed = text.view(np.int8).astype(np.int32).view(np.uint32)
    first = np.arange(len(begins))
    hashes = np.full(len(begins), 2166136261, dtype=np.uint32)
    for length in range(1, longest + 1):
        last = first + length - 1
        inside = last < len(begins)
        inside[inside] = word[last[inside]] == word[first[inside]]
        first, last, hashes = first[inside], last[inside], hashes[inside]
        for byte in range(4):
            more = sizes[last] > byte
            hashes[more] = (hashes[more] ^ signed[begins[last[more]] + byte]) * np.uint32(16777619)
        if length >= shortest:
            yield word[first], (hashes % np.uint32(num_buckets)).astype(np.int64)


def load_model(path: Path) -> FastTextModel:
    """Read a quantized supervised model with hierarchical softmax (a `.ftz` file).

    Raises:
        ValueError: the file is of another kind.
    """
    file = _Reader(path.read_bytes())
    if (file.one("i"), file.one("i")) != (_MAGIC, _VERSION):
        raise ValueError(f"{path}: not a fastText model of version {_VERSION}.")
    dim, _, _, _, _, word_ngrams, loss, kind, buckets, shortest, longest, _ = file.many("i", 12)
    file.one("d")
    _, num_words, num_labels, _, num_pruned = (file.one(code) for code in "iiiqq")
    if (word_ngrams, loss, kind) != (1, _HIERARCHICAL_SOFTMAX, _SUPERVISED) or num_pruned < 0 or shortest < 2:
        raise ValueError(f"{path}: only a pruned classifier with hierarchical softmax can be read.")
    entries = [(file.text(), file.one("q"), file.one("b")) for _ in range(num_words + num_labels)]
    pruned = file.array(np.int32, 2 * num_pruned).reshape(-1, 2)
    ngram_rows = np.full(buckets, -1, dtype=np.int32)
    ngram_rows[pruned[:, 0]] = num_words + pruned[:, 1]
    if not file.one("?"):
        raise ValueError(f"{path}: only a quantized model can be read.")
    vectors = _quantized(file)
    if file.one("?"):
        raise ValueError(f"{path}: only a model with plain output weights can be read.")
    rows, columns = file.many("q", 2)
    nodes = file.array(np.float32, rows * columns).reshape(rows, columns)
    counts = [count for _, count, _ in entries[num_words:]]
    return FastTextModel(
        words=pa.array([word for word, _, _ in entries[:num_words]]),
        labels=np.array([label.removeprefix("__label__") for label, _, _ in entries[num_words:]]),
        vectors=np.ascontiguousarray(vectors.T),
        ngram_rows=ngram_rows,
        shortest=shortest,
        longest=longest,
        nodes=nodes[: num_labels - 1, :dim],
        children=_tree(counts),
    )


def _quantized(file: "_Reader") -> Floats:
    """[rows, dim] a matrix by product quantization: each stretch of a row is one of 256 centroids, times a norm."""
    has_norms, rows, _, num_codes = (file.one(code) for code in "?qqi")
    codes = file.array(np.uint8, num_codes).reshape(rows, -1)
    values = _centroids(file, codes)
    if has_norms:
        values = values * _centroids(file, file.array(np.uint8, rows).reshape(rows, 1))
    return values


def _centroids(file: "_Reader", codes: npt.NDArray[np.uint8]) -> Floats:
    """[rows, dim] the centroids that the codes [rows, stretches] stand for."""
    dim, num_stretches, width, last_width = file.many("i", 4)
    table = file.array(np.float32, dim * 256)
    stretches = []
    for stretch in range(num_stretches):
        wide = last_width if stretch == num_stretches - 1 else width
        start = stretch * 256 * width
        stretches.append(table[start : start + 256 * wide].reshape(256, wide)[codes[:, stretch]])
    return np.concatenate(stretches, axis=1)


def _tree(counts: list[int]) -> Ints:
    """[labels - 1, 2] the Huffman tree over the labels' counts, which the file holds in falling order."""
    num = len(counts)
    weights = [*counts, *[10**15] * (num - 1)]
    children = np.zeros((num - 1, 2), dtype=np.int64)
    leaf, node = num - 1, num
    for parent in range(num, 2 * num - 1):
        for side in (0, 1):
            if leaf >= 0 and weights[leaf] < weights[node]:
                children[parent - num, side], leaf = leaf, leaf - 1
            else:
                children[parent - num, side], node = node, node + 1
        weights[parent] = sum(weights[child] for child in children[parent - num])
    return children


class _Reader:
    """The numbers of a little-endian file, in order."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def many(self, code: str, count: int) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{count}{code}", self._content, self._at)
        self._at += struct.calcsize(f"<{count}{code}")
        return values

    def one(self, code: str) -> Any:
        return self.many(code, 1)[0]

    def text(self) -> str:
        end = self._content.index(b"\0", self._at)
        text = self._content[self._at : end].decode("utf-8", errors="replace")
        self._at = end + 1
        return text

    def array(self, kind: Any, count: int) -> npt.NDArray[Any]:
        values = np.frombuffer(self._content, dtype=kind, count=count, offset=self._at)
        self._at += values.nbytes
        return values
