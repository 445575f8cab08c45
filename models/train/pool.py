"""A great many scenes, drawn once by every core and kept as numbers; pictures are painted from them where training runs.

A scene is its background [3] in 0..1, its objects [2, 4] (glyph, size, x, y; size 0 where there is none), what it shows
[4] (`truth`: arrangement, first, second, background) and the token ids of WORDINGS captions [WORDINGS, 77]. Scenes 2k and
2k + 1 differ in one thing only (`Scenes.sibling`), which is what CLIP learns from. A CUDA device draws its batches from
such a pool without waiting for Python.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import tokenizer as T
import vocabulary as V
from optim import save_atomic
from scenes import ONE, SIZE, TWO, Scene, Scenes

WORDINGS = 2  # captions kept for each scene
SHARD = 4096  # scenes in a file
LEARNED, EVERY = "scenes", "every"  # pools: what training may show, with captions; all combinations, for the judge


def truth(scene: Scene) -> list[int]:
    """Arrangement, first, second (-1 where there is none), background, as indices."""
    second = scene.objects[1][0] if len(scene.objects) > 1 else -1
    return [V.ARRANGEMENTS.index(scene.arrangement), scene.objects[0][0], second, V.COLOUR_NAMES.index(scene.colour)]


def _draw(state: Path, name: str, number: int, seed: int) -> None:
    """Writes one file of a pool, NAME-NUMBER.pt."""
    scenes = Scenes(seed)
    drawn = []
    for _ in range(SHARD // 2):
        first = scenes.place(held_out=False if name == LEARNED else None)
        drawn += [first, scenes.sibling(first, trained=name == LEARNED)]
    objects = np.zeros((SHARD, 2, 4), np.int16)
    for place, scene in zip(objects, drawn):
        place[: len(scene.objects)] = scene.objects
    saved = {
        "shades": torch.from_numpy(np.stack([scenes.shade(s.colour) for s in drawn])),
        "objects": torch.from_numpy(objects),
        "truth": torch.from_numpy(np.array([truth(s) for s in drawn], np.int16)),
    }
    if name == LEARNED:
        texts = [scenes.caption(s) for s in drawn for _ in range(WORDINGS)]
        ids = T.encode(T.load_tokenizer(state / "tokenizer"), texts, "np").astype(np.int16)
        saved["ids"] = torch.from_numpy(ids.reshape(SHARD, WORDINGS, -1))
    save_atomic(saved, state / f"{name}-{number}.pt")


def draw_scenes(state: Path, name: str, count: int, seed: int) -> None:
    """Draws `count` scenes of pool `name`, on all cores. Files that are there are kept: a larger count later adds to them."""
    missing = [n for n in range(-(-count // SHARD)) if not (state / f"{name}-{n}.pt").exists()]
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with ProcessPoolExecutor(os.cpu_count(), get_context("fork")) as workers:
        jobs = [workers.submit(_draw, state, name, n, seed + n) for n in missing]
        for job in tqdm(jobs, desc=name, unit="file"):
            job.result()


def files(state: Path, name: str) -> list[Path]:
    """The files of a pool in their order."""
    return sorted(state.glob(f"{name}-*.pt"), key=lambda p: int(p.stem.rpartition("-")[2]))


class Painter:
    """Paints scenes, or windows of them, by looking every pixel up in the glyphs: no step waits for the host."""

    def __init__(self, device: str | torch.device):
        glyphs = Scenes(0).glyphs
        sizes = sorted({*ONE, *TWO})
        self.side = max(sizes)
        atlas = torch.zeros(len(sizes), len(glyphs), self.side, self.side, 4, dtype=torch.float16)
        for level, size in enumerate(sizes):
            atlas[level, :, :size, :size] = torch.from_numpy(np.stack([g[size] for g in glyphs]))
        self.count = len(glyphs)
        self.atlas = atlas.view(-1, 4).to(device)
        self.level = torch.zeros(self.side + 1, dtype=torch.long, device=device)  # of each size
        for level, size in enumerate(sizes):
            self.level[size] = level

    def paint(self, shades: torch.Tensor, objects: torch.Tensor, corners: torch.Tensor | None = None,
              size: int = SIZE) -> torch.Tensor:
        """[B, 3, size, size] in -1..1: the windows of B scenes whose upper left corners (x, y) are `corners` [B, 2]."""
        at = torch.arange(size, device=shades.device)
        picture = shades[:, None, None, :].expand(-1, size, size, -1)
        for slot in range(objects.shape[1]):
            which, side, x, y = objects[:, slot].long().unbind(1)
            if corners is not None:
                x, y = x - corners[:, 0], y - corners[:, 1]
            u, v = at - x[:, None], at - y[:, None]  # column and row within the glyph
            columns, rows = ((w >= 0) & (w < side[:, None]) for w in (u, v))
            u, v = (w.clamp(0, self.side - 1) for w in (u, v))
            glyph = (self.level[side] * self.count + which)[:, None] * self.side
            rgba = self.atlas[((glyph + v) * self.side)[:, :, None] + u[:, None, :]].float()
            rgba = rgba * (rows[:, :, None] & columns[:, None, :])[..., None]
            picture = picture * (1 - rgba[..., 3:]) + rgba[..., :3]
        return (picture * 2 - 1).permute(0, 3, 1, 2).contiguous()


class Pool:
    """All scenes of a pool on one device, and random batches of them by that device's own random numbers."""

    def __init__(self, state: Path, device: str | torch.device, name: str = LEARNED):
        parts = [torch.load(p) for p in files(state, name)]
        if not parts:
            raise FileNotFoundError(f"{state}/{name}-0.pt is missing: run the stage `scenes` first")
        self.device = device
        self.fields = {key: torch.cat([p[key] for p in parts]).to(device) for key in parts[0]}
        self.painter = Painter(device)

    def __len__(self) -> int:
        return len(self.fields["shades"])

    def chosen(self, count: int) -> torch.Tensor:
        """Indices of `count` random scenes."""
        return torch.randint(len(self), (count,), device=self.device)

    def paired(self, count: int) -> torch.Tensor:
        """Indices of `count` random scenes of which the second half are the siblings of the first."""
        first = 2 * torch.randint(len(self) // 2, (count // 2,), device=self.device)
        return torch.cat([first, first + 1])

    def tokens(self, chosen: torch.Tensor) -> torch.Tensor:
        """Token ids [B, 77] of one of the captions of each scene."""
        wording = torch.randint(WORDINGS, chosen.shape, device=self.device)
        return self.fields["ids"][chosen, wording].long()

    def pictures(self, chosen: torch.Tensor, size: int = SIZE, stray: int = 0) -> torch.Tensor:
        """[B, 3, size, size] in -1..1: windows anywhere in the scenes, or up to `stray` pixels off their edges."""
        corners = torch.randint(-stray, SIZE - size + 1 + stray, (len(chosen), 2), device=self.device)
        return self.painter.paint(self.fields["shades"][chosen], self.fields["objects"][chosen], corners, size)
