"""Measures on real renders, by the pack's own ONNX files: its CLIP's retrieval and its autoencoder's fidelity."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from transformers import CLIPTokenizer

import vocabulary as V
from captions import with_article
from pipeline import session
from report import Row
from scenes import Scene, Scenes

PICTURES = 200  # held-out renders retrieved for
CHOICES = 100  # captions to choose from
BATCH = 50


def plain_caption(scene: Scene) -> str:
    """The usual wording: "a cat on a red background", "a cat left of a dog on a red background"."""
    nouns = [with_article(V.NAMES[o[0]][0]) for o in scene.objects]
    relation = {"one": "", "beside": " left of ", "stacked": " above "}[scene.arrangement]
    return f"{relation.join(nouns)} on a {scene.colour} background"


def distractors(scenes: Scenes, scene: Scene, count: int) -> list[str]:
    """Captions of scenes like this one but for an object or the background, half of them by one word only."""
    right, found = plain_caption(scene), {}
    while len(found) < count:
        other = scenes.sibling(scene, trained=False)
        if len(found) >= count // 2:
            other = scenes.sibling(other, trained=False)
        same = sorted(o[0] for o in other.objects) == sorted(o[0] for o in scene.objects)
        text = plain_caption(other)
        if not (same and other.colour == scene.colour) and text != right:
            found[text] = None
    return list(found)


class Clip:
    """Both towers of a pack; embeddings are of unit length."""

    def __init__(self, pack: Path, threads: int):
        self.tokenizer = CLIPTokenizer.from_pretrained(str(pack / "tokenizer"))
        self.text = session(pack / "text_encoder/model.onnx", threads)
        self.image = session(pack / "image_encoder/model.onnx", threads)

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        parts = []
        for i in range(0, len(texts), BATCH):
            ids = self.tokenizer(texts[i : i + BATCH], padding="max_length", max_length=77, truncation=True,
                                 return_tensors="np").input_ids.astype(np.int32)
            parts.append(self.text.run(["text_embeds"], {"input_ids": ids})[0])
        return normal(np.concatenate(parts))

    def embed_images(self, images: np.ndarray) -> np.ndarray:
        parts = [self.image.run(["image_embeds"], {"pixel_values": images[i : i + BATCH]})[0]
                 for i in range(0, len(images), BATCH)]
        return normal(np.concatenate(parts))


def normal(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def retrieval(pack: Path, threads: int) -> list[Row]:
    scenes = Scenes(31)
    drawn = [scenes.place(held_out=True) for _ in range(PICTURES)]
    clip = Clip(pack, threads)
    images = clip.embed_images(scenes.pictures(drawn))
    found = turned = pairs = 0
    for scene, image in zip(drawn, images):
        texts = clip.embed_texts([plain_caption(scene), *distractors(scenes, scene, CHOICES - 1)])
        found += int((texts @ image).argmax() == 0)
        if len(scene.objects) == 2:
            swapped = Scene(scene.colour, scene.arrangement, scene.objects[::-1])
            other = clip.embed_texts([plain_caption(swapped)])[0]
            pairs += 1
            turned += int(texts[0] @ image > other @ image)
    share = 100 * found / len(drawn)
    return [
        Row(f"CLIP of the pack: right caption among {CHOICES} for {PICTURES} real renders", f"{share:.1f} %", ">= 95 %", share >= 95),
        Row("CLIP of the pack: right order of two objects against the swapped one", f"{100 * turned / pairs:.1f} %"),
    ]


def reconstruction(pack: Path, threads: int) -> list[Row]:
    scenes = Scenes(32)
    x = scenes.pictures([scenes.place(held_out=True) for _ in range(200)])
    encoder, decoder = (session(pack / f"vae_{part}/model.onnx", threads) for part in ("encoder", "decoder"))
    channels = json.loads((pack / "vae_decoder/config.json").read_text())["latent_channels"]
    values = []
    for part in np.array_split(x, len(x) // 10):
        z = encoder.run(None, {"sample": part})[0][:, :channels]
        y = np.clip(decoder.run(None, {"latent_sample": z})[0], -1, 1)
        values += list(10 * np.log10(4 / np.square(y - part).mean((1, 2, 3))))
    value = float(np.mean(values))
    return [Row("VAE, int8: PSNR of 200 held-out renders (mean, lowest)", f"{value:.1f} dB, {min(values):.1f} dB", ">= 31 dB",
                value >= 31)]


def rows(pack: Path, threads: int) -> list[Row]:
    """Rows for the parts the pack has."""
    found = reconstruction(pack, threads)
    if (pack / "image_encoder").exists():
        return found + retrieval(pack, threads)
    return [*found, Row("CLIP of the pack", "not run: the pack has no image_encoder", ">= 95 %", False)]
