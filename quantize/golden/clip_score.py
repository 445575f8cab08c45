"""Writes what CLIP must say of 20 pictures and texts, as transformers has it.

    python quantize/golden/clip_score.py tests/golden/tiny tests/golden/clip

The towers are CLIP's with seeded random weights, in f32: the numbers mean nothing, and every difference shows. Pictures
are made-up ones in odd sizes, so that resizing and cropping have something to do. Files:

    pack/              text_encoder and image_encoder with their projections, and the feature_extractor: what makes a
                       tiny pack of tests/golden/tiny, whose tokenizer they go with, one that can compare
    N.png              the picture, 8-bit RGB
    texts.json         as many texts
    pixel_values.npy   uint8 [20, 3, S, S]: what CLIPImageProcessor makes, times std plus mean, times 255
    similarity.npy     float32 [20, 20]: cosine of picture and text
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "quantize"))

from export import export_image_encoder, export_text_encoder  # noqa: E402

COUNT, SIDE, WIDTH = 20, 48, 32
# OpenAI's numbers, which most packs have.
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
NOUNS = ("cat", "fox", "owl", "crown", "rocket", "apple", "house", "moon", "key", "fish")


def pictures(random: np.random.Generator) -> list[Image.Image]:
    """Discs and boxes with hard edges, the hardest case for the resampling under test."""
    made = []
    for _ in range(COUNT):
        size = tuple(int(n) for n in random.integers(20, 110, 2))
        picture = Image.new("RGB", size, tuple(int(n) for n in random.integers(0, 256, 3)))
        draw = ImageDraw.Draw(picture)
        for shape in (draw.ellipse, draw.rectangle, draw.ellipse):
            x, y = (int(random.integers(0, n)) for n in size)
            reach = int(random.integers(4, 50))
            shape((x, y, x + reach, y + reach), fill=tuple(int(n) for n in random.integers(0, 256, 3)))
        made.append(picture)
    return made


def towers(tokenizer: CLIPTokenizer) -> tuple[CLIPTextModelWithProjection, CLIPVisionModelWithProjection]:
    torch.manual_seed(41)
    shape = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2,
             "projection_dim": 24, "attn_implementation": "eager"}
    end = tokenizer.eos_token_id
    text = CLIPTextModelWithProjection(CLIPTextConfig(
        vocab_size=len(tokenizer), bos_token_id=tokenizer.bos_token_id, eos_token_id=end, pad_token_id=end,
        hidden_act="quick_gelu", **shape))
    image = CLIPVisionModelWithProjection(CLIPVisionConfig(image_size=SIDE, patch_size=16, hidden_act="quick_gelu", **shape))
    for tower in (text, image):
        for name, p in tower.named_parameters():
            # Wide enough that pictures and texts are told apart.
            torch.nn.init.normal_(p, 1.0 if "norm" in name and p.ndim == 1 and "weight" in name else 0.0, 0.25)
    return text.eval(), image.eval()


def normal(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=-1, keepdim=True)


@torch.no_grad()
def write(tiny: Path, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    pack = out / "pack"
    pack.mkdir(parents=True)
    tokenizer = CLIPTokenizer.from_pretrained(str(tiny / "shared/tokenizer"))
    text, image = towers(tokenizer)
    side = {"height": SIDE, "width": SIDE}
    processor = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=side, image_mean=MEAN, image_std=STD)
    processor.save_pretrained(pack / "feature_extractor")
    with tempfile.TemporaryDirectory() as scratch:
        for name, tower, export in (("text_encoder", text, export_text_encoder), ("image_encoder", image, export_image_encoder)):
            tower.save_pretrained(Path(scratch) / name)
            export(Path(scratch) / name, pack / name)
            shutil.copy(Path(scratch) / name / "config.json", pack / name)
    random = np.random.default_rng(41)
    made = pictures(random)
    texts = [f"a {NOUNS[i % 10]} next to a {NOUNS[(i * 3 + i // 10 + 1) % 10]}" for i in range(COUNT)]
    values = processor(made, return_tensors="pt").pixel_values.float()
    ids = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    similarity = normal(image(pixel_values=values).image_embeds) @ normal(text(input_ids=ids).text_embeds).T
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (MEAN, STD))
    np.save(out / "pixel_values.npy", ((values.numpy() * std + mean) * 255).round().astype(np.uint8))
    np.save(out / "similarity.npy", similarity.numpy().astype(np.float32))
    (out / "texts.json").write_text(json.dumps(texts, indent=1) + "\n")
    for i, picture in enumerate(made):
        picture.save(out / f"{i}.png", optimize=True)
    print("cosines", similarity.min().item(), similarity.max().item(), "deviation", similarity.std().item())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiny", type=Path, help="gives the tokenizer")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    write(args.tiny, args.out)


if __name__ == "__main__":
    main()
