"""Trains the autoencoder on rendered scenes, bounded by wall time, resumable.

Loss: mean squared error + mean absolute error + absolute error of the image gradients (edges), with
a very small KL term so that latents stay near a unit Gaussian. Images are [B, 3, 64, 64] in -1..1.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from tqdm import tqdm

import models
from optim import Ema, Optimisers, rate_factor, save_atomic
from parallel import average
from scenes import Scenes

BATCH = 16  # over all processes
KL = 3e-5  # weight of the KL divergence per latent value
DECODER_NOISE = 0.03  # standard deviations of noise on the latents the decoder alone is tuned on
SAVE_EVERY = 60.0  # seconds
MUON_LR, ADAM_LR = 5e-3, 2e-3


def edges(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]


def reconstruction_loss(y: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(training loss, mean squared error) of a reconstruction y of x."""
    mse = (y - x).square().mean()
    edge = sum((a - b).abs().mean() for a, b in zip(edges(y), edges(x)))
    return mse + 0.5 * (y - x).abs().mean() + 0.5 * edge, mse


@torch.no_grad()
def centre_latents(state: Path, device: str, seed: int) -> Path:
    """Folds each latent channel's mean and deviation into the 1x1 convolutions around the latents.

    `vae.pt` -> `vae-unit.pt`: the same pictures, but latents of mean 0 and deviation 1 in every channel,
    which one scaling factor for all channels (the SD 1.x convention) could not give.
    """
    path = state / "vae-unit.pt"
    if path.exists():
        return path
    vae = models.build_vae().to(device).eval()
    vae.load_state_dict(torch.load(state / "vae.pt", map_location=device)["ema"])
    x = torch.from_numpy(Scenes(seed + 5_000_000).batch(512)[0]).to(device)
    z = torch.cat([vae.encode(part).latent_dist.mean for part in x.split(64)])
    mean, deviation = z.mean((0, 2, 3)), z.std((0, 2, 3))
    into, out = vae.quant_conv, vae.post_quant_conv
    channels = len(mean)
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= deviation[None, :, None, None]
    into.weight[:channels] /= deviation[:, None, None, None]
    into.bias[:channels] = (into.bias[:channels] - mean) / deviation
    into.bias[channels:] -= 2 * deviation.log()  # log variances
    save_atomic({"ema": vae.state_dict()}, path)
    return path


def train_vae(rank: int, world: int, state: Path, seconds: float, device: str, seed: int,
              decoder_only: bool = False, muon_lr: float = MUON_LR, adam_lr: float = ADAM_LR) -> None:
    """Trains (or goes on training) for `seconds` in all; rank 0 writes `vae.pt` or `decoder.pt`.

    With `decoder_only` the encoder keeps still, so that latents learned by a UNet stay valid.
    """
    path = state / ("decoder.pt" if decoder_only else "vae.pt")
    torch.manual_seed(seed)
    vae = models.build_vae().to(device).train()
    start, spent, history = 0, 0.0, []
    trained = [vae]
    if decoder_only:
        vae.load_state_dict(torch.load(state / "vae-unit.pt", map_location=device)["ema"])
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
        trained = [vae.decoder, vae.post_quant_conv]
    ema = Ema(vae, 0.998)
    optimisers = Optimisers(trained, muon_lr, adam_lr)
    if path.exists():
        saved = torch.load(path, map_location=device)
        vae.load_state_dict(saved["model"])
        ema.module.load_state_dict(saved["ema"])
        optimisers.load(saved["optimisers"])
        start, spent, history = saved["step"], saved["seconds"], saved["history"]
    scenes = Scenes(seed + 1000 * start + rank)
    torch.manual_seed(seed + 1000 * start + rank)

    def save(step: int, elapsed: float) -> None:
        if rank == 0:
            save_atomic({
                "model": vae.state_dict(), "ema": ema.module.state_dict(), "optimisers": optimisers.state(),
                "step": step, "seconds": elapsed, "history": history,
            }, path)

    began, saved_at, step, elapsed = time.monotonic() - spent, spent, start, spent
    bar = tqdm(total=int(seconds), initial=int(spent), unit="s", desc=path.stem, mininterval=10, disable=rank > 0)
    shown: dict[str, float] = {}
    while elapsed < seconds:
        x = torch.from_numpy(scenes.batch(BATCH // world)[0]).to(device)
        with torch.autocast(device, torch.bfloat16):
            posterior = vae.encode(x).latent_dist
            z = posterior.sample()
            if decoder_only:
                z = (z + DECODER_NOISE * z.std() * torch.randn_like(z)).detach()
            y = vae.decode(z).sample
        loss, mse = reconstruction_loss(y.float(), x)
        if not decoder_only:
            mean, logvar = posterior.mean.float(), posterior.logvar.float()
            loss = loss + KL * 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        loss.backward()
        elapsed, mse, loss = average(
            optimisers.parameters, world, time.monotonic() - began, mse.item(), loss.item())
        optimisers.step(rate_factor(step, elapsed / seconds))
        step += 1
        ema.update(vae, step)
        for name, value in (("mse", mse), ("loss", loss)):
            shown[name] = 0.98 * shown.get(name, value) + 0.02 * value
        bar.n = int(elapsed)
        bar.set_postfix(step=step, **{k: f"{v:.5f}" for k, v in shown.items()})
        if step % 50 == 0:
            history.append((step, elapsed, shown["loss"], shown["mse"]))
        if elapsed - saved_at > SAVE_EVERY:
            save(step, elapsed)
            saved_at = elapsed
    save(step, elapsed)
    bar.close()
