"""The pack's small world: its nouns and colours, and which combinations training never sees.

Each object is one glyph of Noto Color Emoji (`objects.txt`). The first word of an entry is the usual
one; the others are accepted as synonyms and appear more rarely in training captions.
"""

from __future__ import annotations

import hashlib
from pathlib import Path


def read_objects(path: Path) -> dict[tuple[str, ...], int]:
    """Words of each object -> Unicode code point, in the order of the file."""
    found = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            code, _, names = line.partition(" ")
            found[tuple(n.strip() for n in names.split(","))] = int(code, 16)
    return found


OBJECTS = read_objects(Path(__file__).with_name("objects.txt"))
NAMES = list(OBJECTS)

# word -> sRGB of the plain background
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 48, 49),
    "orange": (240, 140, 40),
    "yellow": (250, 215, 70),
    "green": (60, 160, 80),
    "teal": (30, 150, 150),
    "blue": (50, 100, 215),
    "purple": (125, 70, 180),
    "pink": (250, 160, 190),
    "brown": (125, 85, 55),
    "white": (250, 250, 250),
    "gray": (135, 138, 142),
    "black": (16, 16, 20),
}
COLOUR_NAMES = list(COLOURS)
COLOUR_SYNONYMS: dict[str, tuple[str, ...]] = {
    "gray": ("grey",),
    "purple": ("violet",),
    "teal": ("turquoise",),
}

# How two objects can stand: side by side or one above the other. The first of a pair is the left or the upper one.
ARRANGEMENTS = ("one", "beside", "stacked")

HELD_OUT_SHARE = 10  # one combination in this many is never trained on


def _held_out(*words: object) -> bool:
    digest = hashlib.sha256("|".join(map(str, words)).encode()).digest()
    return digest[0] % HELD_OUT_SHARE == 0


def pair_held_out(which: int, colour: str) -> bool:
    """Whether training never shows this object on this background, alone or beside another."""
    return _held_out(NAMES[which][0], colour)


def triple_held_out(first: int, second: int, arrangement: str) -> bool:
    """Whether training never shows these two objects in this arrangement and order."""
    return _held_out(NAMES[first][0], NAMES[second][0], arrangement)
