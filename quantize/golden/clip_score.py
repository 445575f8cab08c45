"""Writes what CLIP must say of 20 pictures and texts: preprocessing by transformers, towers by ONNX Runtime.

    python quantize/golden/clip_score.py models/emoji tests/golden/clip

Pictures are renders in odd sizes, so that resizing and cropping have something to do. Files:

    N.png              the picture, 8-bit RGB
    texts.json         as many texts
    pixel_values.npy   uint8 [20, 3, S, S]: what CLIPImageProcessor makes, times std plus mean, times 255
    similarity.npy     float32 [20, 20]: cosine of picture and text
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import CLIPImageProcessor

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "quantize"), str(ROOT / "models/train")]

from scenes import Scenes  # noqa: E402
from similarity import Clip, plain_caption  # noqa: E402

COUNT = 20


def pictures(scenes: Scenes) -> tuple[list[Image.Image], list[str]]:
    made, texts = [], []
    for i in range(COUNT):
        scene = scenes.place(held_out=None)
        picture = Image.fromarray((scenes.render(scene) * 255).round().astype(np.uint8))
        width, height = (int(n) for n in scenes.rng.integers(40, 260, 2))
        # Nearest keeps the edges hard, the hardest case for the resampling under test.
        made.append(picture if i == 0 else picture.resize((width, height), Image.Resampling.NEAREST))
        texts.append(plain_caption(scene))
    return made, texts


def write(pack: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    made, texts = pictures(Scenes(41))
    processor = CLIPImageProcessor.from_pretrained(str(pack / "feature_extractor"))
    values = processor(made, return_tensors="np").pixel_values.astype(np.float32)
    clip = Clip(pack, 2)
    similarity = clip.embed_images(values) @ clip.embed_texts(texts).T
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (processor.image_mean, processor.image_std))
    np.save(out / "pixel_values.npy", ((values * std + mean) * 255).round().astype(np.uint8))
    np.save(out / "similarity.npy", similarity.astype(np.float32))
    (out / "texts.json").write_text(json.dumps(texts, indent=1) + "\n")
    for i, picture in enumerate(made):
        picture.save(out / f"{i}.png", optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    write(args.pack, args.out)


if __name__ == "__main__":
    main()
