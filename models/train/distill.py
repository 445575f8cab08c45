"""Distils the UNet into one that needs no guidance and 1 to 4 steps (latent consistency distillation).

Luo et al. 2023 (Latent Consistency Models), after Song et al. 2023: the student's guess of the clean
latents at a noisy time t must equal its own guess (by its moving average) at the next earlier time, which
the teacher with classifier-free guidance reaches from there by one DDIM step. The guidance scale is fixed,
so the student takes no embedding of it. Sampled with diffusers' LCMScheduler, whose boundary scalings are used here.
"""

from __future__ import annotations

from pathlib import Path

import torch

import models
import tokenizer as T
from session import Session, averaged
from train_unet import Latents, signal_and_noise

BATCH = 48  # over all processes
GUIDANCE = 3.0  # baked in
ORIGINAL_STEPS = 20  # of the grid of times: every jump carries what is known one cell on, so fewer cells learn sooner
TIMESTEP_SCALING, SIGMA_DATA = 10.0, 0.5  # LCMScheduler's boundary
HUBER = 1e-3  # where the loss turns from squares to absolute values
TARGET_DECAY = 0.98  # of the average that sets the target; the one that ships is slower
MUON_LR, ADAM_LR = 1e-3, 3e-4


def boundary(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(c_skip, c_out) at times [B], [B, 1, 1, 1] each: all skip at time 0."""
    scaled = t.float()[:, None, None, None] * TIMESTEP_SCALING
    return SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2), scaled / (scaled**2 + SIGMA_DATA**2).sqrt()


def train_fast(rank: int, world: int, state: Path, seconds: float, device: str, seed: int) -> None:
    """Trains for `seconds` in all; rank 0 writes `fast.pt`."""
    torch.manual_seed(seed)
    teacher = models.build_unet()
    teacher.load_state_dict(averaged(state / "unet.pt", "unet"))
    student, target = models.build_unet(), models.build_unet()
    for module in (student, target):
        module.load_state_dict(teacher.state_dict())
    text = models.build_text_encoder(len(T.load_tokenizer(state / "tokenizer")))
    text.load_state_dict(averaged(state / "unet.pt", "text"))
    teacher, student, target, text = (m.to(device) for m in (teacher, student.train(), target, text))
    for module in (teacher, target, text):
        module.eval().requires_grad_(False)
    session = Session(state / "fast.pt", {"unet": student}, seconds, (MUON_LR, ADAM_LR), rank, world, 0.999)
    if session.step:
        target.load_state_dict(session.averages["unet"].module.state_dict())
    data = Latents(state, seed + 1000 * session.step + rank)
    a, s = signal_and_noise(device)
    grid = (torch.arange(1, ORIGINAL_STEPS + 1) * (1000 // ORIGINAL_STEPS) - 1).to(device)
    empty = data.empty[None].to(device)
    count = BATCH // world

    def clean(unet, x, t, states):
        """The network's guess of the clean latents, with the boundary that makes it the identity at time 0."""
        v = unet(x, t, encoder_hidden_states=states).sample.float()
        skip, out = boundary(t)
        return skip * x + out * (a[t] * x - s[t] * v)

    while session.running():
        z, tokens = (x.to(device) for x in data.batch(count, 0.0))
        # Stratified over the grid as in the UNet's own training; the earlier time of the first cell is 0.
        at = (data.timesteps(count).to(device) * ORIGINAL_STEPS) // 1000
        t, earlier = grid[at], torch.where(at > 0, grid[at - 1], 0)
        noise = data.noise(z.shape).to(device)
        x = a[t] * z + s[t] * noise
        with torch.autocast(device, torch.bfloat16):
            with torch.no_grad():
                states = models.text_states(text, torch.cat([tokens, empty]))
                unconditional = states[-1:].expand(count, -1, -1)
                states = states[:-1]
                v = teacher(torch.cat([x, x]), torch.cat([t, t]),
                            encoder_hidden_states=torch.cat([unconditional, states])).sample.float()
                without, with_text = v.chunk(2)
                v = without + GUIDANCE * (with_text - without)
                guess, direction = a[t] * x - s[t] * v, s[t] * x + a[t] * v
                before = a[earlier] * guess + s[earlier] * direction
                wanted = clean(target, before, earlier, states)
            guessed = clean(student, x, t, states)
        loss = ((guessed - wanted).square() + HUBER**2).sqrt().mean() - HUBER
        session.learn(loss)
        torch._foreach_lerp_(list(target.parameters()), list(student.parameters()), 1 - TARGET_DECAY)
    session.close()
