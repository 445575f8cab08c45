"""Whole trajectories of the guided teacher, from noise to picture: what the few-step UNet learns from.

Each is one picture as the pack's preset `default` makes it: DPM-Solver++ 2M with classifier-free guidance. Kept are the
sample before every step and the latents it ends at, in float16, in files `trajectories-RANK-NUMBER.pt`.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from tqdm import tqdm

import models
from optim import save_atomic
from pool import Pool
from session import samples

STEPS = 8
GUIDANCE = 1.5
BATCH = 32
SHARD = 256  # trajectories in a file


@torch.no_grad()
def draw(unet, text, tokens: torch.Tensor, empty: torch.Tensor, noise: torch.Tensor, steps: int = STEPS,
         guidance: float = GUIDANCE) -> tuple[torch.Tensor, torch.Tensor]:
    """(samples before each step [B, steps, 12, 16, 16], latents at the end [B, 12, 16, 16])."""
    device = noise.device.type
    scheduler = models.build_scheduler()
    scheduler.set_timesteps(steps)
    count, x, before = len(tokens), noise, []
    with torch.autocast(device, torch.bfloat16):
        states = models.text_states(text, torch.cat([tokens, empty[None]]))
        states = torch.cat([states[-1:].expand(count, -1, -1), states[:-1]])
        for t in scheduler.timesteps:
            before.append(x)
            without, with_text = unet(torch.cat([x, x]), t, encoder_hidden_states=states).sample.float().chunk(2)
            x = scheduler.step(without + guidance * (with_text - without), t, x).prev_sample
    return torch.stack(before, 1), x


def draw_all(rank: int, state: Path, seconds: float, unet, text, pool: Pool, empty: torch.Tensor,
             device: str) -> None:
    """Draws for random captions until this process has spent `seconds` on it, over all runs together."""
    number = spent = 0
    while (path := state / f"trajectories-{rank}-{number}.pt").exists():
        spent += torch.load(path)["seconds"]
        number += 1
    bar = tqdm(total=int(seconds), initial=int(spent), unit="s", desc="trajectories", disable=rank > 0)
    count = samples(BATCH, 1, device)
    while spent < seconds:
        began = time.monotonic()
        parts = []
        for _ in range(SHARD // BATCH):
            tokens = pool.tokens(pool.chosen(count))
            before, end = draw(unet, text, tokens, empty, torch.randn((count, *models.LATENT), device=device))
            parts.append((before.half().cpu(), end.half().cpu(), tokens.to(torch.int16).cpu()))
        before, ends, tokens = (torch.cat(part) for part in zip(*parts))
        took = time.monotonic() - began
        save_atomic({"before": before, "ends": ends, "tokens": tokens, "seconds": took},
                    state / f"trajectories-{rank}-{number}.pt")
        number, spent = number + 1, spent + took
        bar.update(int(spent) - bar.n)
    bar.close()


class Trajectories:
    """All that were drawn, by every process, on one device."""

    def __init__(self, state: Path, device: str):
        parts = [torch.load(path) for path in sorted(state.glob("trajectories-*.pt"))]
        self.before, self.ends, self.tokens = (
            torch.cat([p[key] for p in parts]).to(device) for key in ("before", "ends", "tokens"))
        scheduler = models.build_scheduler()
        scheduler.set_timesteps(STEPS)
        self.timesteps = scheduler.timesteps.to(device)

    def batch(self, at: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(noise [B, 12, 16, 16], sample before step at[i], where it ends, token ids [B, 77]) of random trajectories."""
        chosen = torch.randint(len(self.ends), at.shape, device=at.device)
        noise, before = (self.before[chosen, i].float() for i in (0, at))
        return noise, before, self.ends[chosen].float(), self.tokens[chosen].long()
