"""Renders training scenes: glyphs of Noto Color Emoji on plain backgrounds, with captions.

The font's bitmaps are drawn once at their native 109 px, shrunk to every size a scene may use and
kept as premultiplied RGBA, so one scene costs a few array operations. Corners and sizes of glyphs are multiples
of GRID pixels, two latent cells and so one cell of the UNet's middle level, the first that hears the text: a
shift of an object is then a shift of everything that draws it, which a convolutional network gets for nothing,
and all of training goes into shapes rather than phases.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import vocabulary as V
from captions import Captions

SIZE = 128  # pixels, width and height of a scene
GRID = 16  # pixels between places a glyph's corner may have
MARGIN = 0.04  # room on each side of a glyph, so that neighbours and edges are not touched; share of its size
NATIVE = 109  # the only size the font's CBDT bitmaps exist at
ONE = (80, 96, 112)  # glyph sizes where one object stands alone, pixels
TWO = (48, 64)  # glyph sizes where two objects share the scene, pixels
TWO_SHARE = 0.5  # share of scenes with two objects
FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")  # Debian: fonts-noto-color-emoji


@dataclass(frozen=True)
class Scene:
    """What a picture shows: `objects` are (index, size, x, y) with the left or upper one first."""

    colour: str
    arrangement: str
    objects: tuple[tuple[int, int, int, int], ...]


def trainable(scene: Scene) -> bool:
    """Whether training may show this scene: no combination in it is held out, and no object is there twice."""
    which = [o[0] for o in scene.objects]
    if any(V.pair_held_out(i, scene.colour) for i in which):
        return False
    return len(which) == 1 or (which[0] != which[1] and not V.triple_held_out(which[0], which[1], scene.arrangement))


def draw_glyph(font: ImageFont.FreeTypeFont, codepoint: int) -> Image.Image:
    """One glyph, cropped to its ink and centred on a transparent square with a little room around it."""
    canvas = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((12, 12), chr(codepoint), font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise ValueError(f"the font draws nothing for U+{codepoint:X}")
    ink = canvas.crop(box)
    side = round(max(ink.size) * (1 + 2 * MARGIN))
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
        self.captions = Captions(self.rng)
        self.font = font

    @cached_property
    def glyphs(self) -> list[dict[int, np.ndarray]]:
        """Of each object, the glyph at every size."""
        face = ImageFont.truetype(str(self.font), NATIVE)
        drawn = (draw_glyph(face, codepoint) for codepoint in V.OBJECTS.values())
        return [{s: shrink(glyph, s) for s in (*ONE, *TWO)} for glyph in drawn]

    def shade(self, colour: str) -> np.ndarray:
        """A background near `colour`, RGB in 0..1."""
        rgb = np.array(V.COLOURS[colour], dtype=np.float32) / 255.0
        shaded = rgb * self.rng.uniform(0.95, 1.05) + self.rng.normal(0, 0.012, 3)
        return np.clip(shaded, 0, 1).astype(np.float32)

    def _cell(self, centre: int, size: int, reach: int) -> int:
        """A corner on the grid with the glyph's middle within `reach` cells of `centre`, inside the scene."""
        nearest = round((centre - size / 2) / GRID)
        choices = [c for c in range(nearest - reach, nearest + reach + 1) if 0 <= c * GRID <= SIZE - size]
        return GRID * choices[self.rng.integers(len(choices))]

    def place_one(self, which: int, colour: str) -> Scene:
        size = ONE[self.rng.integers(len(ONE))]
        middle = SIZE // 2
        return Scene(colour, "one", ((which, size, self._cell(middle, size, 1), self._cell(middle, size, 1)),))

    def place_two(self, first: int, second: int, arrangement: str, colour: str) -> Scene:
        """`first` left of or above `second`, each within its half."""
        placed = []
        for which, near in ((first, True), (second, False)):
            size = TWO[self.rng.integers(len(TWO))]
            low, high = (0, SIZE // 2 - size) if near else (SIZE // 2, SIZE - size)
            along = int(self.rng.integers(low // GRID, high // GRID + 1)) * GRID
            across = self._cell(SIZE // 2, size, 1)
            placed.append((which, size, along, across) if arrangement == "beside" else (which, size, across, along))
        return Scene(colour, arrangement, tuple(placed))

    def place(self, two_share: float = TWO_SHARE, held_out: bool | None = False) -> Scene:
        """A random scene of combinations that training may show, only of those that it may not, or (None) of all."""
        while True:
            colour = V.COLOUR_NAMES[self.rng.integers(len(V.COLOUR_NAMES))]
            first, second = (int(i) for i in self.rng.choice(len(V.OBJECTS), 2, replace=False))
            if self.rng.random() < two_share:
                arrangement = V.ARRANGEMENTS[1 + self.rng.integers(2)]
                kept = [V.triple_held_out(first, second, arrangement), V.pair_held_out(first, colour),
                        V.pair_held_out(second, colour)]
                if held_out is None or ((kept[0] and (kept[1] or kept[2])) if held_out else not any(kept)):
                    return self.place_two(first, second, arrangement, colour)
            elif held_out is None or V.pair_held_out(first, colour) == held_out:
                return self.place_one(first, colour)

    def sibling(self, scene: Scene, trained: bool = True) -> Scene:
        """The same scene with one thing changed: an object, the background, or the two objects' order.

        A scene that training may show, unless `trained` is false: a scene that is held out twice has no other.
        """
        while True:
            roll, objects, colour = self.rng.random(), list(scene.objects), scene.colour
            if roll < 0.3:
                colour = V.COLOUR_NAMES[self.rng.integers(len(V.COLOUR_NAMES))]
            elif roll < 0.65 or len(objects) == 1:
                at = int(self.rng.integers(len(objects)))
                objects[at] = (int(self.rng.integers(len(V.OBJECTS))), *objects[at][1:])
            else:
                objects = [(b[0], *a[1:]) for a, b in zip(objects, objects[::-1])]
            changed = Scene(colour, scene.arrangement, tuple(objects))
            if changed != scene and (not trained or trainable(changed)):
                return changed

    def render(self, scene: Scene, background: np.ndarray | None = None) -> np.ndarray:
        """Picture [128, 128, 3] in 0..1."""
        rgb = self.shade(scene.colour) if background is None else background
        picture = np.empty((SIZE, SIZE, 3), np.float32)
        picture[:] = rgb
        for which, size, x, y in scene.objects:
            glyph = self.glyphs[which][size]
            patch = picture[y : y + size, x : x + size]
            patch *= 1.0 - glyph[..., 3:]
            patch += glyph[..., :3]
        return picture

    def caption(self, scene: Scene) -> str:
        if scene.arrangement == "one":
            return self.captions.one(scene.objects[0][0], scene.colour)
        return self.captions.two(scene.objects[0][0], scene.objects[1][0], scene.arrangement, scene.colour)

    def pictures(self, scenes: list[Scene]) -> np.ndarray:
        """[count, 3, 128, 128] float32 in -1..1."""
        images = np.stack([self.render(s) for s in scenes]).transpose(0, 3, 1, 2)
        return np.ascontiguousarray(images * 2.0 - 1.0)


def font_digest(font: Path = FONT) -> str:
    """SHA-256 of the font file, noted beside the checkpoint."""
    return hashlib.sha256(Path(font).read_bytes()).hexdigest()
