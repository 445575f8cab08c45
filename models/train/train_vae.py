"""Trains the autoencoder on rendered scenes, bounded by wall time, resumable.

Loss: squared error + absolute error + absolute error of the image gradients (edges), with
a very small KL term so that latents stay near a unit Gaussian. Images are [B, 3, H, W] in -1..1: windows
of 64 x 64 pixels first, whole scenes of 128 x 128 at the end, whose plain parts the group norms must know.
"""

from __future__ import annotations

from pathlib import Path

import torch

import models
from optim import save_atomic
from pool import Pool
from scenes import SIZE
from session import Session, Step, averaged, samples

WINDOWS = 16, 64  # pictures a step over all processes, and their width and height
WHOLE = 4, SIZE
WINDOWS_SHARE = 0.65  # of the time
SQUARES = 5.0  # weight of the squared error
KL = 3e-5  # weight of the KL divergence per latent value
DECODER_NOISE = 0.1  # standard deviations of noise, at most, on the latents the decoder alone is tuned on
MUON_LR, ADAM_LR = 5e-3, 2e-3
TUNING = 0.3  # of those rates, for the decoder alone
DECAY = 0.998  # of the moving average


def edges(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]


def reconstruction_loss(y: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(training loss, mean squared error) of a reconstruction y of x."""
    mse = (y - x).square().mean()
    edge = sum((a - b).abs().mean() for a, b in zip(edges(y), edges(x)))
    return SQUARES * mse + 0.5 * (y - x).abs().mean() + 0.5 * edge, mse


def divergence(mean: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """KL divergence of each latent value's Gaussian from the unit one, averaged."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


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
    vae.load_state_dict(averaged(state / "vae.pt", "vae", device))
    pool = Pool(state, device)
    torch.manual_seed(seed)
    x = pool.pictures(pool.chosen(512))
    z = torch.cat([vae.encode(part).latent_dist.mean for part in x.split(64)])
    mean, deviation = z.mean((0, 2, 3)), z.std((0, 2, 3))
    into, out = vae.quant_conv, vae.post_quant_conv
    channels = len(mean)
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= deviation[None, :, None, None]
    into.weight[:channels] /= deviation[:, None, None, None]
    into.bias[:channels] = (into.bias[:channels] - mean) / deviation
    into.bias[channels:] -= 2 * deviation.log()  # log variances
    save_atomic({"ema": {"vae": vae.state_dict()}}, path)
    return path


def train_vae(rank: int, world: int, state: Path, seconds: float, device: str, seed: int) -> None:
    """Encoder and decoder together; rank 0 writes `vae.pt`."""
    torch.manual_seed(seed)
    vae = models.build_vae().to(device).train()
    session = Session(state / "vae.pt", {"vae": vae}, seconds, (MUON_LR, ADAM_LR), rank, world, DECAY)
    pool = Pool(state, device)
    torch.manual_seed(seed + 1000 * session.step + rank)

    def step_on(count: int, size: int) -> Step:
        def step():
            x = pool.pictures(pool.chosen(samples(count, world, device)), size)
            with torch.autocast(device, torch.bfloat16):
                posterior = vae.encode(x).latent_dist
                y = vae.decode(posterior.sample()).sample
            loss, mse = reconstruction_loss(y.float(), x)
            return loss + KL * divergence(posterior.mean.float(), posterior.logvar.float()), {"mse": mse}

        return step

    session.run(step_on(*WINDOWS), until=WINDOWS_SHARE)
    session.run(step_on(*WHOLE))
    session.close()


def train_decoder(rank: int, world: int, state: Path, seconds: float, device: str, seed: int) -> None:
    """The decoder alone, on latents with a little noise, so that it forgives a UNet; rank 0 writes `decoder.pt`.

    The encoder keeps still: latents learned by a UNet stay valid.
    """
    vae = models.build_vae().to(device)
    vae.load_state_dict(averaged(state / "vae-unit.pt", "vae", device))
    vae.requires_grad_(False)
    parts = {"decoder": vae.decoder.requires_grad_(True), "post_quant_conv": vae.post_quant_conv.requires_grad_(True)}
    session = Session(state / "decoder.pt", parts, seconds, (TUNING * MUON_LR, TUNING * ADAM_LR), rank, world, DECAY)
    pool = Pool(state, device)
    torch.manual_seed(seed + 1000 * session.step + rank)

    def step():
        x = pool.pictures(pool.chosen(samples(WHOLE[0], world, device)))
        with torch.autocast(device, torch.bfloat16):
            with torch.no_grad():
                z = vae.encode(x).latent_dist.mean
            noise = DECODER_NOISE * torch.rand(len(z), 1, 1, 1, device=z.device) * torch.randn_like(z)
            y = vae.decode(z + noise).sample
        loss, mse = reconstruction_loss(y.float(), x)
        return loss, {"mse": mse}

    session.run(step)
    session.close()


def tuned_vae(state: Path) -> dict[str, torch.Tensor]:
    """Weights of the autoencoder to ship: the unit-latent one, with its tuned decoder if there is one."""
    weights = averaged(state / "vae-unit.pt", "vae")
    path = state / "decoder.pt"
    if path.exists():
        for part in ("decoder", "post_quant_conv"):
            weights.update({f"{part}.{k}": v for k, v in averaged(path, part).items()})
    return weights
