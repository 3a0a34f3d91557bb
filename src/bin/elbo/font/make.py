"""Cuts DejaVu Sans (regular and bold) down to the characters that the charts use.

    pip install fonttools
    python3 make.py /usr/share/fonts/truetype/dejavu

The argument is the directory of DejaVu Sans 2.37 (Debian: fonts-dejavu-core). The same fonts and
version of fonttools give the same bytes.
"""

import sys
from pathlib import Path

from fontTools import subset

# ASCII, the Latin letters of names of columns and classes, Greek and signs of formulas.
CHARACTERS = "".join(map(chr, [*range(0x20, 0x7F), *range(0xA0, 0x180)])) + "βεμσ−×·–…→≤≥∞‖"

source, here = Path(sys.argv[1]), Path(__file__).parent
for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"):
    options = subset.Options(
        hinting=False,
        layout_features=["kern"],
        name_IDs=[0, 1, 2, 3, 4, 5, 6, 13, 14],
        recalc_timestamp=False,
    )
    font = subset.load_font(source / name, options)
    cutter = subset.Subsetter(options)
    cutter.populate(text=CHARACTERS)
    cutter.subset(font)
    subset.save_font(font, here / name, options)
