"""Writes what a pack's networks and its whole pipeline must give, for the engine's tests.

    python quantize/golden/model_parity.py models/emoji tests/golden/model

The graphs run in ONNX Runtime as they are (weights dequantized, float activations), the scheduler
is diffusers'. Files, all float32 in NumPy's format unless said otherwise:

    prompt.json           prompt, negative prompt, seed, steps, guidance scale, time steps
    token_ids.npy         int32 [2, 77], rows [negative, prompt]
    text_embeddings.npy   [2, 77, C]
    noise.npy             [1, 4, 16, 16]: torch.manual_seed(seed); torch.randn(...) on the CPU
    unet_output.npy       [2, 4, 16, 16]: the UNet on [noise, noise] at the first time step
    latents.npy           [1, 4, 16, 16]: after the last step, still times the scaling factor
    vae_output.npy        [1, 3, 64, 64]: the decoder on latents / scaling factor, not clamped
    picture.png           the picture: (x / 2 + 0.5) clamped to 0..1, times 255, rounded half to even
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipeline import Pack, to_pixels  # noqa: E402

PROMPT, NEGATIVE, SEED = "a fox next to a crown on a pink background", "", 7


def default_preset(folder: Path) -> tuple[int, float]:
    """(steps, guidance scale) of the pack's default preset."""
    values, inside = {}, False
    for line in (folder / "easel.toml").read_text().splitlines():
        if line.startswith("["):
            inside = line.strip() == "[presets.default]"
        elif inside and "=" in line:
            key, value = line.split("=")
            values[key.strip()] = float(value)
    return int(values["steps"]), values["guidance_scale"]


def write(folder: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    pack = Pack(folder)
    steps, guidance = default_preset(folder)
    scheduler = DPMSolverMultistepScheduler.from_pretrained(str(folder / "scheduler"))
    scheduler.set_timesteps(steps)
    states = pack.embed([NEGATIVE, PROMPT])
    torch.manual_seed(SEED)
    noise = torch.randn(1, *pack.latent)
    latents = noise * scheduler.init_noise_sigma
    first = None
    for t in scheduler.timesteps:
        both = scheduler.scale_model_input(torch.cat([latents, latents]), t)
        output = pack.step(both.numpy(), int(t), states)
        first = output if first is None else first
        uncond, cond = torch.from_numpy(output).chunk(2)
        latents = scheduler.step(uncond + guidance * (cond - uncond), t, latents).prev_sample
    image = pack.decode(latents)
    arrays = {
        "token_ids": pack.ids([NEGATIVE, PROMPT]), "text_embeddings": states, "noise": noise.numpy(),
        "unet_output": first, "latents": latents.numpy(), "vae_output": image,
    }
    for name, array in arrays.items():
        np.save(out / f"{name}.npy", array)
    Image.fromarray(to_pixels(image)[0]).save(out / "picture.png")
    (out / "prompt.json").write_text(json.dumps({
        "prompt": PROMPT, "negative_prompt": NEGATIVE, "seed": SEED, "steps": steps, "guidance_scale": guidance,
        "timesteps": [int(t) for t in scheduler.timesteps], "scaling_factor": pack.scaling,
    }, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    write(args.pack, args.out)


if __name__ == "__main__":
    main()
