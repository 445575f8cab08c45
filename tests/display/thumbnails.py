#!/usr/bin/env python3
"""Draws docs/displays/*.png: what each profile's panel will show of one picture, small, averaged in linear light as the eye does.

    tests/display/thumbnails.py EASELD PICTURE DIRECTORY [PROFILE...]

Needs Pillow and NumPy.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 168, 112
EASELD, PICTURE, DIRECTORY = sys.argv[1:4]
ONLY = sys.argv[4:]


def averaged(picture, size):
    light = (np.asarray(picture).astype(np.float32) / 255) ** 2.2
    channels = [Image.fromarray(light[..., c]).resize(size, Image.Resampling.BOX) for c in range(3)]
    return Image.fromarray((np.stack([np.asarray(c) for c in channels], -1) ** (1 / 2.2) * 255 + 0.5).astype("u1"))


for profile in json.loads(subprocess.check_output([EASELD, "profiles", "--json"])):
    if ONLY and profile["name"] not in ONLY:
        continue
    out = Path(DIRECTORY, profile["name"] + ".png")
    subprocess.check_call([EASELD, "render", PICTURE, "--profile", profile["name"], "--preview", out])
    picture = Image.open(out).convert("RGB")
    scale = min(WIDTH / picture.width, HEIGHT / picture.height)
    if scale >= 2:
        small = picture.resize((picture.width * int(scale), picture.height * int(scale)), Image.Resampling.NEAREST)
    else:
        small = averaged(picture, (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    small.quantize(96, dither=Image.Dither.NONE).save(out, optimize=True)
