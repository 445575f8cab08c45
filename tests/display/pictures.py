#!/usr/bin/env python3
"""Draws five pictures like photographs (sky, face, leaves, sea, colour chart), 512 x 512, always the same, for quality.py.

    tests/display/pictures.py DIRECTORY
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 512
RANDOM = np.random.default_rng(0)
Y, X = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1)
# A colour chart's patches, in sRGB.
PATCHES = [(115, 82, 69), (196, 148, 130), (92, 122, 156), (87, 107, 66), (133, 128, 176), (102, 189, 171), (217, 122, 46),
           (71, 92, 166), (194, 84, 97), (94, 61, 107), (158, 189, 61), (224, 161, 46)]


def clouds(octaves):
    """Smooth noise, 0 to 1."""
    total = np.zeros((SIDE, SIDE))
    for octave in range(octaves):
        points = 2 ** (octave + 2) + 1
        grid = Image.fromarray(RANDOM.standard_normal((points, points)).astype("f"))
        total += np.asarray(grid.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) / 2**octave
    return (total - total.min()) / (total.max() - total.min())


def between(share, first, second):
    return (1 - share)[..., None] * np.array(first) + share[..., None] * np.array(second)


def sky():
    picture = between(Y, (0.15, 0.25, 0.55), (1.0, 0.6, 0.25)) + 0.15 * (clouds(6) - 0.5)[..., None]
    hill = Y > 0.65 + 0.15 * (clouds(3)[SIDE // 2] - 0.5)[None, :]
    picture[hill] = between(clouds(6), (0.05, 0.1, 0.05), (0.2, 0.3, 0.1))[hill]
    return picture


def face():
    picture = between(clouds(5), (0.2, 0.25, 0.3), (0.45, 0.5, 0.5))
    distance = np.hypot((X - 0.5) / 0.28, (Y - 0.5) / 0.36)
    light = np.clip(1.1 - 0.5 * distance + 0.3 * (0.5 - X), 0, 1)
    skin = between(light, (0.35, 0.2, 0.15), (0.95, 0.78, 0.67)) + 0.04 * (clouds(7) - 0.5)[..., None]
    picture[distance < 1] = skin[distance < 1]
    return picture


def leaves():
    return between(clouds(7), (0.03, 0.1, 0.03), (0.5, 0.65, 0.25)) * (0.6 + 0.4 * (1 - Y))[..., None]


def sea():
    waves = 0.5 + 0.5 * np.sin(60 * Y**2 + 8 * clouds(4))
    picture = between(Y, (0.55, 0.75, 0.95), (0.02, 0.2, 0.4))
    water = picture * (0.7 + 0.3 * waves[..., None])
    return np.where((Y > 0.4)[..., None], water, picture + 0.2 * (clouds(6) - 0.4)[..., None])


def chart():
    picture = np.repeat((0.1 + 0.8 * X)[..., None], 3, 2)
    for index, patch in enumerate(PATCHES):
        row, column = divmod(index, 4)
        picture[60 + row * 140 : 170 + row * 140, 40 + column * 115 : 140 + column * 115] = np.array(patch) / 255
    return picture


for draw in (sky, face, leaves, sea, chart):
    pixels = (np.clip(draw(), 0, 1) * 255 + 0.5).astype("u1")
    Image.fromarray(pixels).save(Path(sys.argv[1]) / f"{draw.__name__}.png")
