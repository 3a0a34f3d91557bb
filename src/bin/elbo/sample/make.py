"""Makes the embedded sample: the first images of MNIST's training and test sets, and their labels.

    python3 make.py DIRECTORY

DIRECTORY holds the four original files, train- and t10k-, images-idx3-ubyte.gz and labels-idx1-ubyte.gz.
Each run writes the same bytes, because the gzip header holds neither a time nor a name. Each image is
looked up by its bytes in the original file, where it must occur exactly once, at the position of its
label.
"""

import gzip
import struct
import sys
from pathlib import Path

SETS = (("train", "train", 5000), ("t10k", "test", 1000))

source, here = Path(sys.argv[1]), Path(__file__).parent


def original(name):
    return gzip.decompress((source / f"{name}-ubyte.gz").read_bytes())


def write(name, content):
    (here / f"{name}-ubyte.gz").write_bytes(gzip.compress(content, compresslevel=9, mtime=0))


for name, ours, count in SETS:
    images, labels = original(f"{name}-images-idx3"), original(f"{name}-labels-idx1")
    magic, rows, height, width = struct.unpack(">IIII", images[:16])
    assert magic == 0x803, f"{name}: not an IDX file of images"
    assert struct.unpack(">II", labels[:8]) == (0x801, rows), f"{name}: not the images' labels"
    size = height * width
    pixels = images[16 : 16 + count * size]

    places = {}
    for row in range(rows):
        places.setdefault(images[16 + row * size : 16 + (row + 1) * size], []).append(row)
    for row in range(count):
        assert places[pixels[row * size : (row + 1) * size]] == [row], f"{name}: image {row} is not unique"

    write(f"{ours}-images-idx3", struct.pack(">IIII", magic, count, height, width) + pixels)
    write(f"{ours}-labels-idx1", struct.pack(">II", 0x801, count) + labels[8 : 8 + count])
