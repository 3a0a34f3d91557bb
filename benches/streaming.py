"""Writes a .npy file that exceeds the memory of most machines, to measure training from disk.

    python3 benches/streaming.py big.npy            # 6 GB: 7,653,061 rows of 784 bytes
    elbo train --data big.npy --epochs 1 --stream always --out streamed
    elbo train --data big.npy --epochs 1 --stream never --out in-memory

The two models are identical, byte for byte. Each row is an image of a gray square on black with a little
noise. The random generator has a fixed seed, so every machine writes the same file.
"""

import sys

import numpy as np

SIDE = 28
PIECE = 1 << 14


def squares(generator):
    """Returns images of squares with random position, size and gray level."""
    y, x = np.mgrid[:SIDE, :SIDE]
    top, left = generator.integers(0, SIDE - 8, (2, PIECE, 1, 1))
    size = generator.integers(4, 14, (PIECE, 1, 1))
    gray = generator.integers(100, 240, (PIECE, 1, 1))
    inside = (y >= top) & (y < top + size) & (x >= left) & (x < left + size)
    return np.where(inside, gray, 0).astype(np.uint8).reshape(PIECE, -1)


def main(path, gigabytes=6.0):
    count = int(float(gigabytes) * 1e9 / SIDE**2)
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (count, SIDE * SIDE))
    generator = np.random.default_rng(1)
    clean = squares(generator)
    for first in range(0, count, PIECE):
        piece = clean[generator.permutation(PIECE)]
        noise = np.frombuffer(generator.bytes(piece.size), np.uint8).reshape(piece.shape)
        last = min(first + PIECE, count)
        array[first:last] = (piece + (noise & 15))[: last - first]
    array.flush()
    print(f"{path}: {count} rows of {SIDE * SIDE} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
