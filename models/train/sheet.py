"""Draws a contact sheet of a pack's pictures, and counts how many show what was asked for.

    python models/train/sheet.py models/emoji --out sheet.png

Every object appears once on a background in turn, then pairs. `--score` also compares each single
object with fresh renderings of all objects (nearest by squared error over place and size), a coarse
but honest check that needs no second network.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "quantize")]

import vocabulary as V  # noqa: E402
from pipeline import Pack, to_pixels  # noqa: E402
from scenes import ONE, Scenes  # noqa: E402

PAIRS = [
    "a fox next to a crown on a pink background", "a rocket above a moon on a black background",
    "a cat left of a dog on a blue background", "a panda right of a cake on a yellow background",
    "a whale below a cloud on a teal background", "an owl above a book on a brown background",
    "a robot beside a heart on a white background", "a star next to a rocket on a black background",
    "a bee to the right of a flower on a green background", "an apple and a banana on a purple background",
    "a castle under a rainbow on a blue background", "a pizza left of a burger on a red background",
    "cactus next to sun on orange", "a penguin next to a snowman on a gray background",
    "a ghost above a camera on a black background", "a car below an airplane on a white background",
]


def singles() -> list[tuple[str, str, str]]:
    """(prompt, object, colour), each object once."""
    colours = list(V.COLOURS)
    nouns = [names[0] for names in V.OBJECTS]
    return [(f"{V.with_article(noun)} on a {colours[i % len(colours)]} background", noun, colours[i % len(colours)])
            for i, noun in enumerate(nouns)]


def draw(pack: Pack, prompts: list[str], seed: int, steps: int, guidance: float) -> np.ndarray:
    """uint8 [len(prompts), 64, 64, 3]."""
    parts = [pack.decode(pack.denoise(prompts[i : i + 16], seed + i, steps, guidance)) for i in range(0, len(prompts), 16)]
    return to_pixels(np.concatenate(parts))


def nearest_object(image: np.ndarray, scenes: Scenes) -> tuple[str, str]:
    """(object, colour) whose rendering is nearest to a picture [64, 64, 3]."""
    pixels = image.astype(np.float32) / 255.0
    border = np.concatenate([pixels[:2].reshape(-1, 3), pixels[-2:].reshape(-1, 3)])
    background = np.median(border, axis=0)
    colour = min(V.COLOURS, key=lambda c: float(np.square(np.array(V.COLOURS[c]) / 255.0 - background).sum()))
    best = ("", np.inf)
    for which, glyphs in enumerate(scenes.glyphs):
        for size in ONE[::2]:
            glyph = glyphs[size]
            for y in range((64 - size) // 2 - 4, (64 - size) // 2 + 5, 2):
                for x in range((64 - size) // 2 - 4, (64 - size) // 2 + 5, 2):
                    if min(x, y) < 0 or max(x, y) + size > 64:
                        continue
                    scene = np.broadcast_to(background, (64, 64, 3)).copy()
                    patch = scene[y : y + size, x : x + size]
                    patch *= 1 - glyph[..., 3:]
                    patch += glyph[..., :3]
                    error = float(np.square(scene - pixels).mean())
                    if error < best[1]:
                        best = (scenes.names[which][0], error)
    return best[0], colour


def tile(images: np.ndarray, columns: int) -> Image.Image:
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    sheet = np.zeros((rows * height, columns * width, 3), np.uint8)
    for i, image in enumerate(images):
        y, x = divmod(i, columns)
        sheet[y * height : (y + 1) * height, x * width : (x + 1) * width] = image
    return Image.fromarray(sheet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--score", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    pack = Pack(args.pack, args.threads)
    asked = singles()
    images = draw(pack, [a[0] for a in asked] + PAIRS, args.seed, args.steps, args.guidance)
    # 256 colours keep the file small; the pictures themselves have more.
    tile(images, 16).quantize(256, dither=Image.Dither.NONE).save(args.out, optimize=True)
    if args.score:
        scenes = Scenes(0)
        found = [nearest_object(image, scenes) for image in images[: len(asked)]]
        right = sum(f[0] == a[1] for f, a in zip(found, asked))
        colours = sum(f[1] == a[2] for f, a in zip(found, asked))
        print(f"object {right}/{len(asked)}, background {colours}/{len(asked)}")
        print("missed:", ", ".join(f"{a[1]} -> {f[0]}" for f, a in zip(found, asked) if f[0] != a[1]) or "none")


if __name__ == "__main__":
    main()
