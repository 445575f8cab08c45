"""What is measured on pictures: right or wrong, crisp, varied, near to real renders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from judge import Judge, targets, wrong
from scenes import ONE, Scene, Scenes


def to_tensor(pictures: np.ndarray) -> torch.Tensor:
    """uint8 [B, H, W, 3] -> float [B, 3, H, W] in -1..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def renders(scenes: list[Scene], drawn_by: Scenes) -> np.ndarray:
    """What a perfect model would give: uint8 [len(scenes), H, W, 3]."""
    return ((drawn_by.pictures(scenes).transpose(0, 2, 3, 1) + 1) * 127.5).round().astype(np.uint8)


@dataclass
class Verdict:
    """Of each picture, bool arrays; `both` and `relation` only mean something where two objects were asked for."""

    two: np.ndarray
    single: np.ndarray  # one object, and the right one
    background: np.ndarray
    both: np.ndarray  # both objects, in either order
    relation: np.ndarray  # in the right order and arrangement
    features: np.ndarray  # [B, 256]


@torch.no_grad()
def judge_pictures(judge: Judge, pictures: np.ndarray, scenes: list[Scene]) -> Verdict:
    outputs = [judge(to_tensor(part)) for part in np.array_split(pictures, max(1, len(pictures) // 100))]
    logits = [torch.cat(parts) for parts in zip(*outputs)]
    truth = targets(scenes)
    missed = wrong(logits, truth)
    said = torch.stack([logits[1].argmax(-1), logits[2].argmax(-1)], 1)
    asked = truth[:, 1:3]
    both = (said.sort(1).values == asked.sort(1).values).all(1) & (logits[0].argmax(-1) > 0)
    right = ~missed
    return Verdict(
        two=(asked[:, 1] >= 0).numpy(), single=(right[:, 0] & right[:, 1]).numpy(), background=right[:, 3].numpy(),
        both=both.numpy(), relation=(right[:, 0] & right[:, 1] & right[:, 2]).numpy(), features=logits[4].numpy(),
    )


@dataclass
class Fit:
    """The real render of an object that comes nearest to a picture."""

    psnr: float  # dB
    size: int  # pixels
    x: int
    y: int
    shade: np.ndarray  # RGB in 0..1


def best_fit(picture: np.ndarray, which: int, scenes: Scenes) -> Fit:
    """Searches all sizes and all shifts of the object over the picture's own background, by cross-correlation.

    With the background b and the glyph's difference d from it, the squared error of a render at (x, y) is
    |I - b|^2 - 2 corr(I - b, d)(x, y) + |d|^2.
    """
    pixels = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
    border = torch.cat([pixels[:, :2].flatten(1), pixels[:, -2:].flatten(1)], 1)
    shade = border.median(1).values
    rest = pixels - shade[:, None, None]
    best = None
    for size in ONE:
        glyph = torch.from_numpy(scenes.glyphs[which][size]).permute(2, 0, 1)
        d = glyph[:3] - glyph[3:] * shade[:, None, None]
        error = rest.square().sum() - 2 * F.conv2d(rest[None], d[None])[0, 0] + d.square().sum()
        least = error.min().item()
        if best is None or least < best[0]:
            y, x = divmod(int(error.argmin()), error.shape[1])
            best = (least, size, x, y)
    mse = max(best[0] / rest.numel(), 1e-9)
    return Fit(10 * np.log10(1 / mse), best[1], best[2], best[3], shade.numpy())


def spread(fits: list[list[Fit]]) -> dict[str, float]:
    """Standard deviations within a prompt, averaged over prompts: position and size in pixels, shade in 0..255."""
    def within(value) -> float:
        return float(np.mean([np.std([value(f) for f in group]) for group in fits]))

    return {
        "position": (within(lambda f: f.x + f.size / 2) + within(lambda f: f.y + f.size / 2)) / 2,
        "size": within(lambda f: f.size),
        "shade": within(lambda f: 255 * f.shade.mean()),
    }


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance of two sets of features [N, D] taken as Gaussians (Heusel et al. 2017)."""
    mean = np.square(a.mean(0) - b.mean(0)).sum()
    ca, cb = np.cov(a.T), np.cov(b.T)
    values, vectors = np.linalg.eigh(ca)
    root = vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cb @ root), 0, None)).sum()
    return float(mean + np.trace(ca) + np.trace(cb) - 2 * cross)


def psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """dB of each pair of uint8 pictures [B, H, W, 3]."""
    mse = np.square(a.astype(np.float64) - b.astype(np.float64)).mean((1, 2, 3))
    return 10 * np.log10(255**2 / np.maximum(mse, 1e-6))


def share(right: np.ndarray) -> tuple[float, float]:
    """(share in per cent, half width of its 95 % interval)."""
    p = right.mean()
    return 100 * p, 196 * float(np.sqrt(p * (1 - p) / len(right)))


def paired(a: np.ndarray, b: np.ndarray, prompts: np.ndarray) -> tuple[float, float]:
    """(mean of a - b in points, half width of its 95 % interval); pictures of one prompt count as one draw."""
    difference = a.astype(float) - b.astype(float)
    groups = np.array([difference[prompts == p].mean() for p in np.unique(prompts)])
    return 100 * groups.mean(), 196 * float(groups.std(ddof=1) / np.sqrt(len(groups)))
