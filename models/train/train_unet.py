"""Trains the UNet and the text tower together on cached latents, bounded by wall time, resumable.

v-prediction (Salimans and Ho 2022): with z_t = a z + s e the network learns v = a e - s z. One
caption in ten is dropped for classifier-free guidance (Ho and Salimans 2022). Latents are
[B, 12, 16, 16] of unit deviation (`centre_latents`), token ids [B, 77]. The text tower starts as CLIP's and learns on
at a fraction of the rate: what places two objects is finer than what a contrast of pictures teaches.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tqdm import tqdm

import models
import tokenizer as T
from optim import save_atomic
from parallel import barrier
from scenes import Scenes
from session import Session, averaged

BATCH = 64  # over all processes
CAPTION_DROPOUT = 0.1
MUON_LR, ADAM_LR = 3e-3, 1e-3
DECAY = 0.999  # of the moving average
# Where shapes are decided, between pure noise and a visible picture, the network learns most: timesteps are drawn from a
# logit-normal distribution (Esser et al. 2024) around sigmoid(MIDDLE), some evenly over all. Which of two objects goes
# where is in the text alone, and decided before anything can be seen: others come from the noisiest fifth.
MIDDLE, EVENLY, EARLY = 0.5, 0.25, 0.3
WORDINGS = 2  # captions kept for each scene
SHARD = 4096  # scenes in a file of cached latents


def encode_scenes(rank: int, world: int, state: Path, count: int, device: str, seed: int) -> None:
    """Renders `count` scenes and keeps their latents (float16) and token ids in `latents-NUMBER.pt`.

    Shards that are there already are kept, so a larger count later adds to them.
    """
    vae = models.build_vae().to(device).eval()
    vae.load_state_dict(averaged(state / "vae-unit.pt", "vae", device))
    tokenizer = T.load_tokenizer(state / "tokenizer")
    missing = [n for n in range(rank, -(-count // SHARD), world) if not (state / f"latents-{n}.pt").exists()]
    for number in tqdm(missing, desc="latents", unit="shard", disable=rank > 0):
        scenes = Scenes(seed + 7_000_000 + number)
        latents, ids = [], []
        for _ in range(0, SHARD, 64):
            drawn = [scenes.place() for _ in range(64)]
            x = torch.from_numpy(scenes.pictures(drawn)).to(device)
            with torch.no_grad(), torch.autocast(device, torch.bfloat16):
                latents.append(vae.encode(x).latent_dist.mean.half().cpu())
            texts = [scenes.caption(s) for s in drawn for _ in range(WORDINGS)]
            ids.append(T.encode(tokenizer, texts).to(torch.int16).view(64, WORDINGS, -1))
        save_atomic({"latents": torch.cat(latents), "ids": torch.cat(ids)}, state / f"latents-{number}.pt")
    barrier(world)


class Latents:
    """All cached latents, and batches of them."""

    def __init__(self, state: Path, seed: int):
        parts = [torch.load(p) for p in sorted(state.glob("latents-*.pt"))]
        self.latents = torch.cat([p["latents"] for p in parts])  # [N, 12, 16, 16], float16
        self.ids = torch.cat([p["ids"] for p in parts])  # [N, WORDINGS, 77]
        self.empty = T.encode(T.load_tokenizer(state / "tokenizer"), [""])[0]
        self.random = torch.Generator().manual_seed(seed)

    def batch(self, count: int, dropout: float) -> tuple[torch.Tensor, torch.Tensor]:
        """(latents [count, 12, 16, 16], token ids [count, 77]), captions dropped with probability `dropout`."""
        chosen = torch.randint(len(self.latents), (count,), generator=self.random)
        wording = torch.randint(self.ids.shape[1], (count,), generator=self.random)
        tokens = self.ids[chosen, wording].long()
        tokens[torch.rand(count, generator=self.random) < dropout] = self.empty
        return self.latents[chosen].float(), tokens

    def noise(self, shape: torch.Size) -> torch.Tensor:
        return torch.randn(shape, generator=self.random)

    def timesteps(self, count: int) -> torch.Tensor:
        """One draw in each of `count` equal parts of the distribution: less variance than free draws."""
        parts = (torch.arange(count) + torch.rand(count, generator=self.random)) / count
        middle = torch.sigmoid(MIDDLE + torch.special.ndtri(parts))
        share = torch.rand(count, generator=self.random)
        drawn = torch.where(share < EVENLY, parts, middle)
        drawn = torch.where(share > 1 - EARLY, 0.8 + 0.2 * parts, drawn)
        return (1000 * drawn).long().clamp(0, 999)


def signal_and_noise(device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(a, s) of every timestep, [1000, 1, 1, 1] each."""
    alphas = models.build_scheduler().alphas_cumprod.to(device)[:, None, None, None]
    return alphas.sqrt(), (1 - alphas).sqrt()


def train_unet(rank: int, world: int, state: Path, seconds: float, device: str, seed: int) -> None:
    """Trains (or goes on training) for `seconds` in all; rank 0 writes `unet.pt`."""
    torch.manual_seed(seed)
    text = models.build_text_encoder(len(T.load_tokenizer(state / "tokenizer")))
    text.load_state_dict(averaged(state / "clip.pt", "text"))
    text = text.to(device).train()
    text.text_projection.requires_grad_(False)
    unet = models.build_unet().to(device).train()
    session = Session(state / "unet.pt", {"unet": unet, "text": text}, seconds, (MUON_LR, ADAM_LR), rank, world, DECAY)
    data = Latents(state, seed + 1000 * session.step + rank)
    a, s = signal_and_noise(device)
    count = BATCH // world
    while session.running():
        z, tokens = (x.to(device) for x in data.batch(count, CAPTION_DROPOUT))
        t = data.timesteps(count).to(device)
        noise = data.noise(z.shape).to(device)
        with torch.autocast(device, torch.bfloat16):
            states = models.text_states(text, tokens)
            v = unet(a[t] * z + s[t] * noise, t, encoder_hidden_states=states).sample
        session.learn((v.float() - (a[t] * noise - s[t] * z)).square().mean())
    session.close()
