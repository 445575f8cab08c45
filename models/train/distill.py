"""Distils the UNet into one that needs no guidance and 1 to 4 steps.

From every point of a trajectory of the guided teacher (`trajectories.py`) the student guesses where it ends: knowledge
distillation of the sampler (Luhman and Luhman 2021) at all its noise levels, which makes a consistency model
(Song et al. 2023) without the bootstrapping that takes one thousands of steps. Guidance is in the trajectories, so
the student runs once a step (Meng et al. 2023). It is sampled with diffusers' LCMScheduler (Luo et al. 2023), which puts
fresh noise on each guess: half of what the student sees below pure noise is such a sample, of its own first guess.
"""

from __future__ import annotations

from pathlib import Path

import torch

import models
import tokenizer as T
from parallel import barrier
from pool import Pool
from session import Session, averaged, samples
from train_unet import build_unet, signal_and_noise
from trajectories import STEPS, Trajectories, draw_all

BATCH = 48
DRAWING = 0.4  # share of the time in which the teacher draws
FROM_NOISE = 0.4  # share of samples at the first step, which alone decides where objects go
HALFWAY = 0.35  # share at the level of the second of two steps, which the preset takes
RENOISED = 0.5  # share of the others that are the student's own guess with fresh noise on it
TIMESTEP_SCALING, SIGMA_DATA = 10.0, 0.5  # LCMScheduler's boundary
HUBER = 1e-2  # where the loss turns from squares to absolute values
MUON_LR, ADAM_LR = 1e-3, 3e-4


def boundary(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(c_skip, c_out) at times [B], [B, 1, 1, 1] each: all skip at time 0."""
    scaled = t.float()[:, None, None, None] * TIMESTEP_SCALING
    return SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2), scaled / (scaled**2 + SIGMA_DATA**2).sqrt()


def guess(unet: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, states: torch.Tensor, a: torch.Tensor,
          s: torch.Tensor) -> torch.Tensor:
    """Where samples `x` [B, 12, 16, 16] at times `t` [B] end, with signal `a` and noise `s` of every timestep."""
    v = unet(x, t, encoder_hidden_states=states).sample.float()
    skip, out = boundary(t)
    return skip * x + out * (a[t] * x - s[t] * v)


def train_fast(rank: int, world: int, state: Path, seconds: float, device: str, seed: int) -> None:
    """Draws and trains for `seconds` in all; rank 0 writes `fast.pt`."""
    torch.manual_seed(seed)
    tokenizer = T.load_tokenizer(state / "tokenizer")
    text = models.build_text_encoder(len(tokenizer))
    text.load_state_dict(averaged(state / "text.pt", "text"))
    text = text.to(device).eval().requires_grad_(False)
    student = build_unet(device, averaged(state / "unet.pt", "unet"))
    torch.manual_seed(seed + 777 + rank)
    empty = T.encode(tokenizer, [""])[0].to(device)
    draw_all(rank, state, DRAWING * seconds, student.eval(), text, Pool(state, device), empty, device)
    barrier(world)
    drawn = Trajectories(state, device)
    session = Session(state / "fast.pt", {"unet": student.train()}, (1 - DRAWING) * seconds, (MUON_LR, ADAM_LR),
                      rank, world, 0.99)
    torch.manual_seed(seed + 1000 * session.step + rank)
    a, s = signal_and_noise(device)
    count = samples(BATCH, world, device)

    def step():
        later = torch.randint(1, STEPS, (count,), device=device)
        drawn_at = torch.rand(count, device=device)
        at = torch.where(drawn_at < FROM_NOISE, 0, torch.where(drawn_at < FROM_NOISE + HALFWAY, STEPS // 2, later))
        start, x, end, tokens = drawn.batch(at)
        t = drawn.timesteps[at]
        fresh = (torch.rand(count, device=device) < RENOISED) & (at > 0)
        with torch.autocast(device, torch.bfloat16):
            states = models.text_states(text, tokens)
            with torch.no_grad():
                first = guess(student, start, drawn.timesteps[:1].expand(count), states, a, s)
            x = torch.where(fresh[:, None, None, None], a[t] * first + s[t] * torch.randn_like(end), x)
            guessed = guess(student, x, t, states, a, s)
        return ((guessed - end).square() + HUBER**2).sqrt().mean() - HUBER, {}

    session.run(step)
    session.close()
