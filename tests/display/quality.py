#!/usr/bin/env python3
"""How near dots come to the picture: ours against Pillow's Floyd-Steinberg, for every profile with a palette.

    tests/display/quality.py EASELD PICTURE... [--profile NAME]... [--sigma PIXELS] [--json FILE]

Both sides dither the same tone-mapped picture (`easeld render --tone-mapped`, a file of 8 bits, which is where a finer one of our
own would lose: steps of sixteen grays are worth so much) with the same palette, its colours as measured.
What comes out is blurred in linear light by a Gaussian that stands for the eye, and so is the tone-mapped picture; the error is
the mean distance in OKLab over all pixels. Needs Pillow and NumPy. Prints a row per profile: the mean over the pictures, and on
how many of them ours is lower; exits 1 where it is not lower in the mean.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image


def linear(srgb):
    value = srgb.astype(np.float64) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def oklab(light):
    cones = np.array([[0.4122214708, 0.5363325363, 0.0514459929],
                      [0.2119034982, 0.6806995451, 0.1073969566],
                      [0.0883024619, 0.2817188376, 0.6299787005]])
    opponents = np.array([[0.2104542553, 0.7936177850, -0.0040720468],
                          [1.9779984951, -2.4285922050, 0.4505937099],
                          [0.0259040371, 0.7827717662, -0.8086757660]])
    return np.cbrt(light @ cones.T) @ opponents.T


def blurred(light, sigma):
    reach = int(np.ceil(3 * sigma))
    weights = np.exp(-np.arange(-reach, reach + 1) ** 2 / (2 * sigma**2))
    weights /= weights.sum()
    for axis in (0, 1):
        pad = [(0, 0)] * 3
        pad[axis] = (reach, reach)
        padded = np.pad(light, pad, mode="edge")
        size = light.shape[axis]
        light = sum(w * np.take(padded, range(k, k + size), axis) for k, w in enumerate(weights))
    return light


def error(dots, wanted, sigma):
    one, two = (oklab(blurred(linear(picture), sigma)) for picture in (dots, wanted))
    return float(np.sqrt(((one - two) ** 2).sum(-1)).mean())


def pillow(wanted, colours):
    palette = Image.new("P", (1, 1))
    padded = list(colours) + [colours[0]] * (256 - len(colours))
    palette.putpalette([value for colour in padded for value in colour])
    dots = Image.fromarray(wanted).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    return np.asarray(dots.convert("RGB"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("easeld")
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--profile", action="append")
    parser.add_argument("--sigma", type=float, default=2.0)
    parser.add_argument("--dither", help="in place of each profile's own")
    parser.add_argument("--json")
    args = parser.parse_args()

    profiles = json.loads(subprocess.check_output([args.easeld, "profiles", "--json"]))
    profiles = [p for p in profiles if p["palette"] != "none" and p["dither"] != "none"]
    if args.profile:
        profiles = [p for p in profiles if p["name"] in args.profile]
    rows, seen = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        dots_file, wanted_file = Path(scratch, "dots.png"), Path(scratch, "wanted.png")
        for profile in profiles:
            # Two products that differ in their bytes alone have the same dots.
            of_bytes = ("name", "title", "source", "encoding", "max_bytes")
            same = json.dumps({key: value for key, value in profile.items() if key not in of_bytes})
            if same in seen:
                rows.append({**seen[same], "profile": profile["name"]})
                continue
            ours, theirs = [], []
            for picture in args.pictures:
                more = ["--dither", args.dither] if args.dither else []
                render = [args.easeld, "render", "--profile", profile["name"]]
                subprocess.check_call([*render, picture, "--tone-mapped", wanted_file])
                as_it_is = ["--tone", "none", "--saturation", "1", "--contrast", "1", "--fit", "stretch", "--rotation", "0"]
                subprocess.check_call([*render, wanted_file, *as_it_is, "--preview", dots_file, *more])
                dots, wanted = (np.asarray(Image.open(f).convert("RGB")) for f in (dots_file, wanted_file))
                colours = [tuple(c) for c in profile["inks"]]
                ours.append(error(dots, wanted, args.sigma))
                theirs.append(error(pillow(wanted, colours), wanted, args.sigma))
            lower = sum(a < b for a, b in zip(ours, theirs))
            row = {"profile": profile["name"], "dither": args.dither or profile["dither"], "ours": float(np.mean(ours)),
                   "pillow": float(np.mean(theirs)), "lower": lower, "of": len(ours)}
            seen[same] = row
            rows.append(row)
            print(f"{row['profile']:30} {row['dither']:16} ours {row['ours']:.4f}  Pillow {row['pillow']:.4f}  "
                  f"lower on {lower} of {len(ours)}", flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(any(row["ours"] >= row["pillow"] for row in rows))


if __name__ == "__main__":
    main()
