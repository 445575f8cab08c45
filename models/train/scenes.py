"""Renders training scenes: glyphs of Noto Color Emoji on plain backgrounds, with captions.

The font's bitmaps are drawn once at their native 109 px, shrunk to every size a scene may use and
kept as premultiplied RGBA, so one scene costs a few array operations.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import vocabulary as V

SIZE = 64  # pixels, width and height of a scene
NATIVE = 109  # the only size the font's CBDT bitmaps exist at
ONE = range(38, 53, 2)  # glyph sizes where one object stands alone, pixels
TWO = range(24, 31, 1)  # glyph sizes where two objects share the scene, pixels
FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")  # Debian: fonts-noto-color-emoji


def draw_glyph(font: ImageFont.FreeTypeFont, codepoint: int) -> Image.Image:
    """One glyph, cropped to its ink and centred on a transparent square."""
    canvas = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((12, 12), chr(codepoint), font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise ValueError(f"the font draws nothing for U+{codepoint:X}")
    ink = canvas.crop(box)
    side = max(ink.size)
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(ink, ((side - ink.width) // 2, (side - ink.height) // 2))
    return square


def shrink(glyph: Image.Image, size: int) -> np.ndarray:
    """Premultiplied RGBA in 0..1, shape [size, size, 4]."""
    rgba = np.asarray(glyph, dtype=np.float32) / 255.0
    rgba[..., :3] *= rgba[..., 3:]
    planes = [
        np.asarray(Image.fromarray(rgba[..., i]).resize((size, size), Image.Resampling.HAMMING)) for i in range(4)
    ]
    small = np.clip(np.stack(planes, axis=-1), 0.0, 1.0)
    small[..., :3] = np.minimum(small[..., :3], small[..., 3:])
    return small


class Scenes:
    """Draws random scenes. Same seed, same font: same scenes."""

    def __init__(self, seed: int, font: Path = FONT):
        self.rng = np.random.default_rng(seed)
        face = ImageFont.truetype(str(font), NATIVE)
        self.names = list(V.OBJECTS)
        self.colours = list(V.COLOURS)
        self.glyphs: list[dict[int, np.ndarray]] = []
        for codepoint in V.OBJECTS.values():
            glyph = draw_glyph(face, codepoint)
            self.glyphs.append({s: shrink(glyph, s) for s in sorted({*ONE, *TWO})})

    def _background(self, colour: str) -> np.ndarray:
        """[64, 64, 3] in 0..1, with a slight shade."""
        rgb = np.array(V.COLOURS[colour], dtype=np.float32) / 255.0
        rgb = np.clip(rgb * self.rng.uniform(0.95, 1.05) + self.rng.normal(0, 0.012, 3), 0, 1)
        return np.broadcast_to(rgb.astype(np.float32), (SIZE, SIZE, 3)).copy()

    def _put(self, scene: np.ndarray, which: int, size: int, cx: float, cy: float) -> None:
        glyph = self.glyphs[which][size]
        x = int(np.clip(round(cx - size / 2), 0, SIZE - size))
        y = int(np.clip(round(cy - size / 2), 0, SIZE - size))
        patch = scene[y : y + size, x : x + size]
        patch *= 1.0 - glyph[..., 3:]
        patch += glyph[..., :3]

    def _noun(self, which: int) -> str:
        names = self.names[which]
        if len(names) > 1 and self.rng.random() < 0.25:
            return str(self.rng.choice(names[1:]))
        return names[0]

    def _colour_word(self, colour: str) -> str:
        others = V.COLOUR_SYNONYMS.get(colour, ())
        return str(self.rng.choice(others)) if others and self.rng.random() < 0.4 else colour

    def _pick(self, table: tuple[str, ...]) -> str:
        return table[self.rng.integers(len(table))]

    def one(self, which: int, colour: str) -> tuple[np.ndarray, str]:
        scene = self._background(colour)
        size = int(self.rng.choice(ONE))
        slack = (SIZE - size) / 2 - 2
        dx, dy = np.clip(self.rng.normal(0, 2.0, 2), -slack, slack)
        self._put(scene, which, size, 32 + dx, 32 + dy)
        noun = self._noun(which)
        table = V.ONE_OBJECT_NO_COLOUR if self.rng.random() < 0.12 else V.ONE_OBJECT
        text = self._pick(table).format(a=V.with_article(noun), A=noun, c=self._colour_word(colour))
        return scene, text

    def two(self, first: int, second: int, colour: str) -> tuple[np.ndarray, str]:
        scene = self._background(colour)
        relation = str(self.rng.choice(list(V.RELATIONS)))
        # "a next to b": a stands on the left, as one reads.
        place = "left" if relation == "beside" else relation
        sizes = self.rng.choice(TWO, 2)
        near, far = 16.5 + self.rng.normal(0, 1.0), 47.5 + self.rng.normal(0, 1.0)
        across = 32 + self.rng.normal(0, 2.0, 2)
        centre = {
            "left": ((near, across[0]), (far, across[1])),
            "right": ((far, across[0]), (near, across[1])),
            "above": ((across[0], near), (across[1], far)),
            "below": ((across[0], far), (across[1], near)),
        }[place]
        for which, size, (cx, cy) in zip((first, second), sizes, centre):
            self._put(scene, which, int(size), cx, cy)
        a, b = self._noun(first), self._noun(second)
        table = V.TWO_OBJECTS_NO_COLOUR if self.rng.random() < 0.10 else V.TWO_OBJECTS
        text = self._pick(table).format(
            a=V.with_article(a), b=V.with_article(b), A=a, B=b,
            rel=self._pick(V.RELATIONS[relation]), c=self._colour_word(colour),
        )
        return scene, text

    def draw(self, two_share: float = 0.45) -> tuple[np.ndarray, str]:
        """A random scene [64, 64, 3] in 0..1 and its caption."""
        colour = self.colours[self.rng.integers(len(self.colours))]
        first, second = self.rng.choice(len(self.glyphs), 2, replace=False)
        if self.rng.random() < two_share:
            return self.two(int(first), int(second), colour)
        return self.one(int(first), colour)

    def batch(self, count: int) -> tuple[np.ndarray, list[str]]:
        """Images [count, 3, 64, 64] float32 in -1..1 and captions."""
        pairs = [self.draw() for _ in range(count)]
        images = np.stack([p[0] for p in pairs]).transpose(0, 3, 1, 2) * 2.0 - 1.0
        return np.ascontiguousarray(images, dtype=np.float32), [p[1] for p in pairs]


def font_digest(font: Path = FONT) -> str:
    """SHA-256 of the font file, noted beside the checkpoint."""
    return hashlib.sha256(Path(font).read_bytes()).hexdigest()
