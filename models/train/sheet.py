"""Draws a contact sheet of a pack's pictures, made by easeld: every object once, then pairs.

    python models/train/sheet.py --out models/emoji/sheet.png --state STATE
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import vocabulary as V  # noqa: E402
from captions import with_article  # noqa: E402
from scenes import Scene  # noqa: E402
from trial import Prompt, Setting, make_pictures  # noqa: E402

COLUMNS = 24
SIDE = 64  # pixels of a picture on the sheet
PAIRS = (
    "a fox next to a crown on a pink background", "a rocket above a moon on a black background",
    "a cat left of a dog on a blue background", "a panda right of a cake on a yellow background",
    "a whale below a cloud on a teal background", "an owl above a book on a brown background",
    "a robot beside a heart on a white background", "a star next to a rocket on a black background",
    "a bee to the right of a flower on a green background", "an apple and a banana on a purple background",
    "a castle under a rainbow on a blue background", "a pizza left of a burger on a red background",
    "cactus next to sun on orange", "a penguin next to a snowman on a gray background",
    "a ghost above a camera on a black background", "a car below an airplane on a white background",
    "draw me a pizza, green background", "rocket", "a cute happy unicorn please", "white mushroom",
    "an elephant next to a mouse on yellow", "guitar above piano on a purple background",
    "a blue background with an owl", "an astronaut frog on teal",
)


def prompts() -> list[Prompt]:
    nowhere = Scene("red", "one", ())
    colours = V.COLOUR_NAMES
    singles = [f"{with_article(names[0])} on a {colours[i % len(colours)]} background" for i, names in enumerate(V.NAMES)]
    return [Prompt(text, nowhere) for text in (*singles, *PAIRS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="pictures are kept here and not made twice")
    parser.add_argument("--pack", type=Path, default=HERE.parent / "emoji")
    parser.add_argument("--easeld", type=Path, default=HERE.parents[1] / "target/release/easeld")
    parser.add_argument("--preset", help="a preset of the pack other than its default")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    setting = Setting(f"sheet-{args.preset or 'default'}-{args.steps}", args.steps, preset=args.preset)
    pictures = make_pictures(args.easeld, args.pack, setting, prompts(), args.state, 1)
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * SIDE, rows * SIDE))
    for i, picture in enumerate(pictures):
        small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX)
        sheet.paste(small, (i % COLUMNS * SIDE, i // COLUMNS * SIDE))
    # 256 colours keep the file small; the pictures themselves have more.
    sheet.quantize(256, dither=Image.Dither.NONE).save(args.out, optimize=True)


if __name__ == "__main__":
    main()
