"""The judge: a small classifier of pictures, trained on real renders alone, that says what a picture shows.

It never sees a generated picture and shares nothing with the pack: `evaluate.py` counts right pictures
with it, and its features carry the FID-like distance. It reads four things from [B, 3, 128, 128] in
-1..1: how many objects stand how (ARRANGEMENTS), the first (left, upper or only) object, the second, and
the background. Training blurs, shifts and dirties the renders a little, so that it names an object by its
shape and not by a pixel.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import vocabulary as V
from pool import EVERY, Pool, truth
from scenes import Scene, Scenes
from session import Session, averaged, samples

BATCH = 128  # over all processes
MUON_LR, ADAM_LR = 5e-3, 2e-3
FEATURES = 256
SHIFT = 5  # pixels a render is moved by, at most


class Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels),
        )

    def forward(self, x):
        return F.relu(x + self.layers(x))


def halve(inside: int, out: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, out, kernel, stride=2, padding=kernel // 2, bias=False), nn.BatchNorm2d(out), nn.ReLU())


class Judge(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            halve(3, 32, 5), halve(32, 64), halve(64, 96), Residual(96), halve(96, 160), Residual(160),
            halve(160, 192), Residual(192), nn.Flatten(), nn.Linear(192 * 16, FEATURES), nn.ReLU(),
        )
        self.arrangement = nn.Linear(FEATURES, len(V.ARRANGEMENTS))
        self.first = nn.Linear(FEATURES, len(V.OBJECTS))
        self.second = nn.Linear(FEATURES, len(V.OBJECTS))
        self.colour = nn.Linear(FEATURES, len(V.COLOURS))

    def forward(self, x):
        """(arrangement [B, 3], first [B, objects], second [B, objects], colour [B, 12], features [B, 256])."""
        features = self.trunk(x)
        return (self.arrangement(features), self.first(features), self.second(features), self.colour(features),
                features)


def targets(scenes: list[Scene]) -> torch.Tensor:
    """[B, 4]: what each scene shows (`pool.truth`)."""
    return torch.tensor([truth(s) for s in scenes])


def dirty(x: torch.Tensor) -> torch.Tensor:
    """Renders as a generator might show them: some blurred, some noisy."""
    blurred = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
    x = torch.lerp(x, blurred, torch.rand(len(x), 1, 1, 1, device=x.device))
    return x + 0.06 * torch.rand(len(x), 1, 1, 1, device=x.device) * torch.randn_like(x)


def wrong(logits: tuple[torch.Tensor, ...], truth: torch.Tensor) -> torch.Tensor:
    """Whether each of the four things is wrong, bool [B, 4]; a second object nobody asked for counts in the first."""
    said = torch.stack([part.argmax(-1) for part in logits[:4]], 1)
    missed = said != truth
    missed[:, 2] &= truth[:, 2] >= 0
    return missed


def train_judge(rank: int, world: int, state: Path, seconds: float, device: str, seed: int) -> None:
    """Trains for `seconds` in all; rank 0 writes `judge.pt`."""
    torch.manual_seed(seed)
    judge = Judge().to(device).train()
    session = Session(state / "judge.pt", {"judge": judge}, seconds, (MUON_LR, ADAM_LR), rank, world, 0.998)
    pool = Pool(state, device, EVERY)
    torch.manual_seed(seed + 21 + 1000 * session.step + rank)

    def step():
        chosen = pool.chosen(samples(BATCH, world, device))
        shown = pool.fields["truth"][chosen].long()
        x = dirty(pool.pictures(chosen, stray=SHIFT))
        with torch.autocast(device, torch.bfloat16):
            logits = judge(x)
        loss = sum(F.cross_entropy(part.float(), shown[:, i], ignore_index=-1) for i, part in enumerate(logits[:4]))
        return loss, {"wrong": wrong(logits, shown).any(1).float().mean()}

    session.run(step)
    session.close()


def load_judge(state: Path) -> Judge:
    judge = Judge()
    judge.load_state_dict(averaged(state / "judge.pt", "judge"))
    return judge.eval()


@torch.no_grad()
def accuracy(judge: Judge, count: int, seed: int) -> dict[str, float]:
    """Share of `count` fresh clean renders on which each thing is right (the second object: where there is one)."""
    scenes = Scenes(seed)
    missed, truth = [], []
    for _ in range(0, count, 100):
        drawn = [scenes.place(held_out=None) for _ in range(100)]
        truth.append(targets(drawn))
        missed.append(wrong(judge(torch.from_numpy(scenes.pictures(drawn))), truth[-1]))
    right, two = 1 - torch.cat(missed).float(), torch.cat(truth)[:, 2] >= 0
    return {"arrangement": right[:, 0].mean().item(), "first object": right[:, 1].mean().item(),
            "second object": right[two, 2].mean().item(), "background": right[:, 3].mean().item()}
