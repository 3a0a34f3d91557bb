"""Makes the embedded sample: the first images of MNIST's training and test sets.

    python3 make.py FOLDER

FOLDER holds the original train-images-idx3-ubyte.gz and t10k-images-idx3-ubyte.gz. The bytes
written are the same on each run: the gzip header carries neither time nor name.
"""

import gzip
import struct
import sys
from pathlib import Path

SETS = (
    ("train-images-idx3-ubyte.gz", "train-images-idx3-ubyte.gz", 5000),
    ("t10k-images-idx3-ubyte.gz", "test-images-idx3-ubyte.gz", 1000),
)

source, here = Path(sys.argv[1]), Path(__file__).parent
for original, name, count in SETS:
    idx = gzip.decompress((source / original).read_bytes())
    magic, _, height, width = struct.unpack(">IIII", idx[:16])
    assert magic == 0x803, f"{original} is not an IDX file of images"
    header = struct.pack(">IIII", magic, count, height, width)
    pixels = idx[16 : 16 + count * height * width]
    (here / name).write_bytes(gzip.compress(header + pixels, compresslevel=9, mtime=0))
