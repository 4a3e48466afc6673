"""Random draws that depend on nothing but their own name, so that no row depends on another or on the order of work.

Each draw is a number computed from (seed, purpose, thread, index): a keyed hash of the first three, mixed with the last
by SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014), on whole columns at once.
"""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaegpt.arrays import Floats, Ints, Words

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def thread_key(seed: int, purpose: str, thread_id: str) -> int:
    """64 bits that stand for (seed, purpose, thread)."""
    name = f"{seed}\0{purpose}\0{thread_id}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


def mix(keys: Words, index: Ints | int) -> Words:
    """[rows] the `index`-th output of the SplitMix64 generator whose state is the key."""
    word = keys + (np.atleast_1d(index).astype(np.uint64) + np.uint64(1)) * _GOLDEN
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


def uniform(words: Words) -> Floats:
    """[rows] the upper 53 bits as a number in [0, 1)."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def text_hashes(texts: pa.Array) -> Words:
    """[texts] 64 bits that stand for each text: the sum of its bytes, each times a fixed random number for its place.

    Two different texts agree with a chance of at most 2^-56 (multilinear hashing: Carter and Wegman, "Universal classes
    of hash functions", 1979, over the integers modulo 2^64 with factors of up to 8 bits).
    """
    lengths = pc.binary_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
    used = np.flatnonzero(lengths)
    hashes = np.zeros(len(texts), dtype=np.uint64)
    if len(used) == 0:
        return hashes
    starts = np.cumsum(lengths[used]) - lengths[used]
    text = np.frombuffer("".join(texts.to_pylist()).encode(), dtype=np.uint8)
    place = np.arange(len(text)) - np.repeat(starts, lengths[used])
    factors = mix(np.zeros(1, dtype=np.uint64), np.arange(int(lengths.max())))
    # A byte counts as 1 more than it is, so that a zero byte at the end makes another text.
    hashes[used] = np.add.reduceat((text.astype(np.uint64) + np.uint64(1)) * factors[place], starts)
    return hashes


def draw_others(keys: Words, own: Ints, pool_size: Ints, num: int) -> Ints:
    """[rows, num] places in 0..pool_size-1, all different and none of them `own`, every choice as likely as any other.

    Each row needs pool_size > num. The j-th draw picks among the places not yet taken: with 1 and 3 taken of 0..5, the
    free ones are 0, 2, 4, 5, and pick 1 -> step over 1 -> 2.
    """
    taken = own[:, None]  # [rows, 1 + drawn], each row sorted
    drawn = np.empty((len(own), num), dtype=np.int64)
    for turn in range(num):
        pick = (uniform(mix(keys, turn)) * (pool_size - 1 - turn)).astype(np.int64)
        for place in range(taken.shape[1]):
            pick += pick >= taken[:, place]
        drawn[:, turn] = pick
        taken = np.sort(np.column_stack([taken, pick]), axis=1)
    return drawn
