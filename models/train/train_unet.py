"""Trains the UNet and the text encoder together on cached latents, bounded by wall time, resumable.

v-prediction (Salimans and Ho 2022): with z_t = a z + s e the network learns v = a e - s z. One
caption in ten is dropped for classifier-free guidance (Ho and Salimans 2022). Latents are
[B, 4, 16, 16] times the scaling factor, token ids [B, 77].
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from tqdm import tqdm

import models
import tokenizer as T
from optim import Ema, Optimisers, rate_factor, save_atomic
from parallel import average, barrier
from scenes import Scenes

BATCH = 32  # over all processes
CAPTION_DROPOUT = 0.1
SAVE_EVERY = 60.0  # seconds
MUON_LR, ADAM_LR = 3e-3, 1e-3


def encode_scenes(rank: int, world: int, state: Path, count: int, device: str, seed: int) -> None:
    """Renders `count` scenes and keeps their latents (float16) and token ids in `latents-RANK.pt`."""
    path = state / f"latents-{rank}.pt"
    if not path.exists():
        vae = models.build_vae().to(device).eval()
        vae.load_state_dict(torch.load(state / "vae-unit.pt", map_location=device)["ema"])
        tokenizer = T.load_tokenizer(state / "tokenizer")
        scenes = Scenes(seed + 7_000_000 + rank)
        latents, ids = [], []
        for _ in tqdm(range(0, count // world, 64), desc="latents", mininterval=10, disable=rank > 0):
            x, captions = scenes.batch(64)
            with torch.no_grad(), torch.autocast(device, torch.bfloat16):
                latents.append(vae.encode(torch.from_numpy(x).to(device)).latent_dist.mean.half().cpu())
            ids.append(T.encode(tokenizer, captions).to(torch.int16))
        save_atomic({"latents": torch.cat(latents), "ids": torch.cat(ids)}, path)
    barrier(world)


def load_latents(state: Path) -> tuple[torch.Tensor, torch.Tensor, float]:
    """All cached latents [N, 4, 16, 16] (unscaled, float16), ids [N, 77] and the scaling factor 1 / std."""
    parts = [torch.load(p) for p in sorted(state.glob("latents-*.pt"))]
    latents = torch.cat([p["latents"] for p in parts])
    return latents, torch.cat([p["ids"] for p in parts]), 1.0 / latents.float().std().item()


def train_unet(rank: int, world: int, state: Path, seconds: float, device: str, seed: int,
               muon_lr: float = MUON_LR, adam_lr: float = ADAM_LR) -> None:
    """Trains (or goes on training) for `seconds` in all; rank 0 writes `unet.pt`."""
    path = state / "unet.pt"
    latents, ids, scaling = load_latents(state)
    tokenizer = T.load_tokenizer(state / "tokenizer")
    empty = T.encode(tokenizer, [""])[0].to(device)
    torch.manual_seed(seed)
    unet = models.build_unet().to(device).train()
    text = models.build_text_encoder(len(tokenizer)).to(device).train()
    averages = Ema(unet, 0.999), Ema(text, 0.999)
    optimisers = Optimisers([unet, text], muon_lr, adam_lr)
    start, spent, history = 0, 0.0, []
    if path.exists():
        saved = torch.load(path, map_location=device)
        unet.load_state_dict(saved["unet"])
        text.load_state_dict(saved["text"])
        averages[0].module.load_state_dict(saved["unet_ema"])
        averages[1].module.load_state_dict(saved["text_ema"])
        optimisers.load(saved["optimisers"])
        start, spent, history = saved["step"], saved["seconds"], saved["history"]
    alphas = models.build_scheduler().alphas_cumprod.to(device)
    random = torch.Generator().manual_seed(seed + 1000 * start + rank)

    def save(step: int, elapsed: float) -> None:
        if rank == 0:
            save_atomic({
                "unet": unet.state_dict(), "text": text.state_dict(),
                "unet_ema": averages[0].module.state_dict(), "text_ema": averages[1].module.state_dict(),
                "optimisers": optimisers.state(), "scaling_factor": scaling,
                "step": step, "seconds": elapsed, "history": history,
            }, path)

    began, saved_at, step, elapsed = time.monotonic() - spent, spent, start, spent
    bar = tqdm(total=int(seconds), initial=int(spent), unit="s", desc="unet", mininterval=10, disable=rank > 0)
    shown: float | None = None
    count = BATCH // world
    while elapsed < seconds:
        chosen = torch.randint(len(latents), (count,), generator=random)
        z = latents[chosen].float().to(device) * scaling
        tokens = ids[chosen].long().to(device)
        dropped = torch.rand(count, generator=random) < CAPTION_DROPOUT
        tokens[dropped] = empty
        # One draw in each of `count` equal parts of the time axis: less variance than free draws.
        t = ((torch.arange(count) + torch.rand(count, generator=random)) * (1000 / count)).long().to(device)
        noise = torch.randn(z.shape, generator=random).to(device)
        a, s = alphas[t].sqrt()[:, None, None, None], (1 - alphas[t]).sqrt()[:, None, None, None]
        with torch.autocast(device, torch.bfloat16):
            v = unet(a * z + s * noise, t, encoder_hidden_states=models.text_states(text, tokens)).sample
        loss = (v.float() - (a * noise - s * z)).square().mean()
        loss.backward()
        elapsed, loss = average(optimisers.parameters, world, time.monotonic() - began, loss.item())
        optimisers.step(rate_factor(step, elapsed / seconds))
        step += 1
        averages[0].update(unet, step)
        averages[1].update(text, step)
        shown = loss if shown is None else 0.98 * shown + 0.02 * loss
        bar.n = int(elapsed)
        bar.set_postfix(step=step, loss=f"{shown:.5f}")
        if step % 50 == 0:
            history.append((step, elapsed, shown))
        if elapsed - saved_at > SAVE_EVERY:
            save(step, elapsed)
            saved_at = elapsed
    save(step, elapsed)
    bar.close()
