"""Hashed numbers that Python and Rust compute identically, so that no inputs need to be committed.

A tensor is named by a string; its element `i` is `mix(mix(i) ^ fnv1a(name))`, a 32-bit integer,
truncated so that every number derived from it is exact in float32. tests/golden.rs has the same
functions, and compares a checksum of each tensor with the one stored with the results.
"""

import numpy as np

MASK = 0xFFFF_FFFF


def fnv1a(name):
    """FNV-1a of the UTF-8 bytes of `name`."""
    key = 0x811C_9DC5
    for byte in name.encode():
        key = ((key ^ byte) * 0x0100_0193) & MASK
    return key


def mix(x):
    """The 32-bit finalizer of MurmurHash3, on an array of uint64 below 2**32."""
    x = ((x ^ (x >> np.uint64(16))) * np.uint64(0x85EB_CA6B)) & np.uint64(MASK)
    x = ((x ^ (x >> np.uint64(13))) * np.uint64(0xC2B2_AE35)) & np.uint64(MASK)
    return x ^ (x >> np.uint64(16))


def bits(name, count):
    return mix(mix(np.arange(count, dtype=np.uint64)) ^ np.uint64(fnv1a(name)))


def uniform(name, count):
    """Returns multiples of 2**-23 in [-1, 1)."""
    return ((bits(name, count) >> np.uint64(8)).astype(np.int64) - 2**23) * 2.0**-23


def targets(name, count):
    """Returns values in [0, 1]: half of them 0, a quarter 1, the others in between, like gray values."""
    return np.clip(2 * uniform(name, count), 0, 1)


def noise(name, count):
    """Returns nearly normal numbers: half the sum of twelve uniform numbers, multiples of 2**-20."""
    parts = (bits(name, 12 * count) >> np.uint64(12)).astype(np.int64) - 2**19
    return parts.reshape(count, 12).sum(axis=1) * 2.0**-20


def weights(name, count, fan_in):
    """Returns uniform numbers in ±2**-k, for the largest k >= 0 with 2**-k at least 2/sqrt(fan_in)."""
    k = 0
    while 4 ** (k + 2) <= fan_in:
        k += 1
    return uniform(name, count) * 2.0**-k


def checksum(array):
    """`sum (2i + 1) * bits_i` modulo 2**32 over the float32 bit patterns, in hexadecimal."""
    single = array.astype(np.float32)
    assert np.array_equal(single, array), "not exact in float32"
    words = single.view(np.uint32).astype(np.uint64)
    total = int((words * (2 * np.arange(len(words), dtype=np.uint64) + np.uint64(1))).sum())
    return f"{total & MASK:08x}"
