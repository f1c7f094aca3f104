"""First numbers of many random streams at once, each as numpy's own classes give it.

Every crop has a stream of its own, so that a part more, or a crop more, changes no other crop. Numpy makes a stream in
some 20 us, which is a minute for the million crops of 10,000 scenes; here a whole epoch takes half a second. The steps
are those of ``numpy.random.SeedSequence`` and ``numpy.random.Philox``, whose results numpy promises to keep, and of
``Generator.integers``; all numbers are equal to theirs.

J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox).
D. Lemire, "Fast random integer generation in an interval", ACM TOMACS 29, 2019 (numbers below a limit).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]
Longs = NDArray[np.uint64]

# Constants of SeedSequence.
_INIT_A, _MULT_A, _INIT_B, _MULT_B = 0x43B0D7E5, 0x931E8875, 0x8B51F9DD, 0x58F38DED
_MIX_L, _MIX_R, _POOL = np.uint32(0xCA01F9DD), np.uint32(0x4973F715), 4
# Constants of Philox with four words of 64 bits.
_MULTIPLIERS = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_BUMPS = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
_ROUNDS = 10
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
#: Streams that are computed at a time: their words stay in the processor's cache.
_CHUNK = 16_384


def stream(seed: int, *key: int) -> np.random.Generator:
    """Return one stream: independent of those of other keys, for any seed."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


def first_integers(seed: int, key: tuple[int, ...], limits: NDArray[np.int64], each: int) -> NDArray[np.int64]:
    """Return the first number below a limit of each of many streams.

    Parameters
    ----------
    seed, key
        What the streams have in common.
    limits
        (n,) limits, 1 to 2^32, exclusive.
    each
        Streams for each limit, m.

    Returns
    -------
    numpy.ndarray
        (n, m) int64: ``stream(seed, *key, i, j).integers(limits[i])``.
    """
    numbers = np.empty((len(limits), each), np.int64)
    rows = max(1, _CHUNK // each)
    for first in range(0, len(limits), rows):
        below = limits[first : first + rows, None].astype(np.uint64)
        wide = (_first_words(seed, key, np.arange(first, first + len(below)), each) & _LOW) * below
        numbers[first : first + rows] = wide >> _HALF
        # Lemire's method draws again where the lower half is too small, which is one case in thousands.
        for i, j in np.argwhere((wide & _LOW) < below):
            numbers[first + i, j] = stream(seed, *key, int(first + i), int(j)).integers(limits[first + i])
    return numbers


def _first_words(seed: int, key: tuple[int, ...], ids: NDArray[np.int64], each: int) -> Longs:
    """Return the first 64 bits of the streams with the keys (*key, id, 0 to each - 1), (ids, each)."""
    return _philox(*_states(seed, key, ids, each))


def _states(seed: int, key: tuple[int, ...], ids: NDArray[np.int64], each: int) -> tuple[Longs, Longs]:
    """Return what SeedSequence.generate_state(2, numpy.uint64) does for each key, (ids, each) of both words."""
    constants = _constants(_INIT_A, _MULT_A)
    entropy = [*_split(seed), *([0] * (_POOL - len(_split(seed)))), *(w for k in key for w in _split(k))]
    words: list[Words] = [np.full((1, 1), w, np.uint32) for w in entropy]
    words += [ids[:, None].astype(np.uint32), np.arange(each, dtype=np.uint32)[None]]
    pool = [_hashed(word, constants) for word in words[:_POOL]]
    for source in range(_POOL):
        for i in range(_POOL):
            if i != source:
                pool[i] = _mixed(pool[i], _hashed(pool[source], constants))
    for word in words[_POOL:]:
        pool = [_mixed(p, _hashed(word, constants)) for p in pool]
    constants = _constants(_INIT_B, _MULT_B)
    low = [_hashed(p, constants).astype(np.uint64) for p in pool]
    return low[0] | low[1] << _HALF, low[2] | low[3] << _HALF


def _split(number: int) -> list[int]:
    """Return a number as words of 32 bits, the lowest first; 0 is one word."""
    return [number >> shift & 0xFFFFFFFF for shift in range(0, max(number.bit_length(), 1), 32)]


def _constants(first: int, factor: int) -> Iterator[tuple[np.uint32, np.uint32]]:
    """Yield the constants of SeedSequence's hash for each call, before and after they change."""
    while True:
        following = first * factor & 0xFFFFFFFF
        yield np.uint32(first), np.uint32(following)
        first = following


def _hashed(word: Words, constants: Iterator[tuple[np.uint32, np.uint32]]) -> Words:
    before, after = next(constants)
    hashed: Words = (word ^ before) * after
    return hashed ^ hashed >> np.uint32(16)


def _mixed(x: Words, y: Words) -> Words:
    both: Words = x * _MIX_L - y * _MIX_R
    return both ^ both >> np.uint32(16)


def _philox(key0: Longs, key1: Longs) -> Longs:
    """Return the first of the four words that Philox makes of the first counter, (1, 0, 0, 0), and a key."""
    words = key0, np.zeros_like(key0), key1, np.full_like(key0, _MULTIPLIERS[0])  # after the first round
    for _ in range(_ROUNDS - 2):
        key0, key1 = key0 + _BUMPS[0], key1 + _BUMPS[1]
        high0, high1 = _upper(words[0], _MULTIPLIERS[0]), _upper(words[2], _MULTIPLIERS[1])
        low0, low1 = words[0] * _MULTIPLIERS[0], words[2] * _MULTIPLIERS[1]
        words = high1 ^ words[1] ^ key0, low1, high0 ^ words[3] ^ key1, low0
    return _upper(words[2], _MULTIPLIERS[1]) ^ words[1] ^ key0 + _BUMPS[0]


def _upper(x: Longs, factor: np.uint64) -> Longs:
    """Return the upper 64 bits of a product."""
    x_low, x_high, f_low, f_high = x & _LOW, x >> _HALF, factor & _LOW, factor >> _HALF
    cross = x_high * f_low + (x_low * f_low >> _HALF)
    middle = x_low * f_high + (cross & _LOW)
    upper: Longs = x_high * f_high + (cross >> _HALF) + (middle >> _HALF)
    return upper
