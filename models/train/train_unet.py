"""Trains the UNet and the text tower together on cached latents, bounded by wall time, resumable.

v-prediction (Salimans and Ho 2022): with z_t = a z + s e the network learns v = a e - s z. One
caption in ten is dropped for classifier-free guidance (Ho and Salimans 2022). Latents are
[B, 12, 16, 16] of unit deviation (`centre_latents`), token ids [B, 77]. The text tower starts as CLIP's and learns on
at a fraction of the rate: what places two objects is finer than what a contrast of pictures teaches.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch.nn import functional as F
from tqdm import tqdm

import models
import tokenizer as T
from optim import save_atomic
from parallel import barrier
from pool import LEARNED, Painter, Pool, files
from session import Session, averaged, samples

BATCH = 64
CAPTION_DROPOUT = 0.1
MUON_LR, ADAM_LR = 3e-3, 1e-3
DECAY = 0.999  # of the moving average
# Where shapes are decided, between pure noise and a visible picture, the network learns most: timesteps are drawn from a
# logit-normal distribution (Esser et al. 2024) around sigmoid(MIDDLE), some evenly over all. Which of two objects goes
# where is in the text alone, and decided before anything can be seen: others come from the noisiest fifth.
MIDDLE, EVENLY, EARLY = 0.5, 0.25, 0.3


def encode_scenes(rank: int, world: int, state: Path, device: str) -> None:
    """Latents (float16) of every file of scenes, in `latents-NUMBER.pt`; files that are there already are kept."""
    vae = models.build_vae().to(device).eval()
    vae.load_state_dict(averaged(state / "vae-unit.pt", "vae", device))
    painter = Painter(device)
    todo = [(p, state / p.name.replace(LEARNED, "latents")) for p in files(state, LEARNED)[rank::world]]
    for source, target in tqdm([pair for pair in todo if not pair[1].exists()], desc="latents", disable=rank > 0):
        saved, latents = torch.load(source), []
        for at in torch.arange(len(saved["shades"])).split(samples(64, 1, device)):
            x = painter.paint(saved["shades"][at].to(device), saved["objects"][at].to(device))
            with torch.no_grad(), torch.autocast(device, torch.bfloat16):
                latents.append(vae.encode(x).latent_dist.mean.half().cpu())
        save_atomic({"latents": torch.cat(latents)}, target)
    barrier(world)


class Latents(Pool):
    """A pool of scenes with the latents they have, and what else a step of diffusion training draws."""

    def __init__(self, state: Path, device: str):
        super().__init__(state, device)
        parts = [torch.load(p)["latents"] for p in files(state, "latents")]
        self.latents = torch.cat(parts).to(device)  # [N, 12, 16, 16], float16
        if len(self.latents) != len(self):
            raise ValueError(f"{state} holds {len(self)} scenes and latents of {len(self.latents)}: run the stage `latents`")
        self.empty = T.encode(T.load_tokenizer(state / "tokenizer"), [""])[0].to(device)

    def batch(self, count: int, dropout: float) -> tuple[torch.Tensor, torch.Tensor]:
        """(latents [count, 12, 16, 16], token ids [count, 77]), captions dropped with probability `dropout`."""
        chosen = self.chosen(count)
        dropped = torch.rand(count, 1, device=self.device) < dropout
        return self.latents[chosen].float(), torch.where(dropped, self.empty, self.tokens(chosen))

    def timesteps(self, count: int) -> torch.Tensor:
        """One draw in each of `count` equal parts of the distribution: less variance than free draws."""
        parts = (torch.arange(count, device=self.device) + torch.rand(count, device=self.device)) / count
        middle = torch.sigmoid(MIDDLE + torch.special.ndtri(parts))
        share = torch.rand(count, device=self.device)
        drawn = torch.where(share < EVENLY, parts, middle)
        drawn = torch.where(share > 1 - EARLY, 0.8 + 0.2 * parts, drawn)
        return (1000 * drawn).long().clamp(0, 999)


def signal_and_noise(device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(a, s) of every timestep, [1000, 1, 1, 1] each."""
    alphas = models.build_scheduler().alphas_cumprod.to(device)[:, None, None, None]
    return alphas.sqrt(), (1 - alphas).sqrt()


def build_unet(device: str, weights: dict[str, torch.Tensor] | None = None) -> torch.nn.Module:
    """The UNet on its device, with attention and norms as that device does them fastest."""
    unet = models.build_unet()
    if weights:
        unet.load_state_dict(weights)
    if torch.device(device).type == "cuda":
        unet.set_attn_processor(AttnProcessor2_0())
        for module in unet.modules():
            if isinstance(module, (torch.nn.GroupNorm, torch.nn.LayerNorm)):
                module.forward = partial(norm_as_given, module)
    return unet.to(device)


def norm_as_given(module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A norm in its input's precision; autocast would widen it, and all up to the next convolution, to 32 bits."""
    with torch.autocast(x.device.type, enabled=False):
        weight, bias = module.weight.to(x.dtype), module.bias.to(x.dtype)
        if isinstance(module, torch.nn.GroupNorm):
            return F.group_norm(x, module.num_groups, weight, bias, module.eps)
        return F.layer_norm(x, module.normalized_shape, weight, bias, module.eps)


def train_unet(rank: int, world: int, state: Path, seconds: float, device: str, seed: int) -> None:
    """Trains (or goes on training) for `seconds` in all; rank 0 writes `unet.pt`."""
    torch.manual_seed(seed)
    text = models.build_text_encoder(len(T.load_tokenizer(state / "tokenizer")))
    text.load_state_dict(averaged(state / "clip.pt", "text"))
    text = text.to(device).train()
    text.text_projection.requires_grad_(False)
    unet = build_unet(device).train()
    session = Session(state / "unet.pt", {"unet": unet, "text": text}, seconds, (MUON_LR, ADAM_LR), rank, world, DECAY)
    data = Latents(state, device)
    torch.manual_seed(seed + 1000 * session.step + rank)
    a, s = signal_and_noise(device)
    count = samples(BATCH, world, device)

    def step():
        z, tokens = data.batch(count, CAPTION_DROPOUT)
        t, noise = data.timesteps(count), torch.randn_like(z)
        with torch.autocast(device, torch.bfloat16):
            states = models.text_states(text, tokens)
            v = unet(a[t] * z + s[t] * noise, t, encoder_hidden_states=states).sample
        return (v.float() - (a[t] * noise - s[t] * z)).square().mean(), {}

    session.run(step)
    session.close()
