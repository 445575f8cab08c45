"""Measures what quantizing each layer alone costs, to decide which layers stay float.

    python quantize/sensitivity.py DIFFUSERS_FOLDER [--json FILE] [--components unet vae]

For every convolution and linear layer in turn, its weights are rounded to s8 with one scale per output
channel (as quantize.py does) and its inputs to s8 with one scale per token or pixel, found at run time (as
the engine does); everything else stays float. The error is |changed - float| / |float| (Euclidean norms) of
the component's output: the UNet on noisy latents at several timesteps of a real denoising run, the VAE on
what that run ends with. A last line quantizes all layers but those in quantize.FLOAT together.
"""

from __future__ import annotations

import argparse
import json
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
from torch import nn
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from quantize import FLOAT, SMALLEST, channel_scales

PROMPTS = ["a cat on a blue background", "rocket next to star on black", "a panda above a cake", "an owl"]
STEPS, GUIDANCE = 8, 3.0


def round_tokens(x: torch.Tensor, axis: int) -> torch.Tensor:
    """s8 values with one symmetric scale for every position, over the channels on `axis`."""
    scale = x.abs().amax(axis, keepdim=True).clamp(min=1e-12) / 127
    return (x / scale).round().clamp(-127, 127) * scale


def round_weight(weight: torch.Tensor) -> torch.Tensor:
    rows = weight.detach().flatten(1)
    scale = torch.from_numpy(channel_scales(rows.numpy()))[:, None]
    return ((rows / scale).round().clamp(-127, 127) * scale).view_as(weight)


@contextmanager
def quantized(layers: list[nn.Module]):
    """Within it the layers compute with rounded weights and inputs."""
    kept, hooks = [], []
    for layer in layers:
        axis = 1 if isinstance(layer, nn.Conv2d) else -1
        kept.append(layer.weight.data)
        layer.weight.data = round_weight(layer.weight)
        hooks.append(layer.register_forward_pre_hook(lambda _, args, axis=axis: (round_tokens(args[0], axis), *args[1:])))
    try:
        yield
    finally:
        for layer, weight, hook in zip(layers, kept, hooks):
            layer.weight.data = weight
            hook.remove()


def quantizable(module: nn.Module) -> dict[str, nn.Module]:
    return {name: layer for name, layer in module.named_modules()
            if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.weight.numel() >= SMALLEST}


@torch.no_grad()
def denoise(folder: Path, unet: UNet2DConditionModel) -> tuple[list[tuple], torch.Tensor]:
    """(inputs of the UNet at each step of a guided run, final scaled latents)."""
    tokenizer = CLIPTokenizer.from_pretrained(str(folder / "tokenizer"))
    text = CLIPTextModel.from_pretrained(folder / "text_encoder", attn_implementation="eager").float()
    ids = tokenizer([""] * len(PROMPTS) + PROMPTS, padding="max_length", max_length=77, truncation=True,
                    return_tensors="pt").input_ids
    states = text(input_ids=ids).last_hidden_state
    scheduler = DPMSolverMultistepScheduler.from_pretrained(folder / "scheduler")
    scheduler.set_timesteps(STEPS)
    shape = (len(PROMPTS), unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * scheduler.init_noise_sigma
    inputs = []
    for t in scheduler.timesteps:
        inputs.append((torch.cat([x, x]), t, states))
        without, with_text = unet(*inputs[-1]).sample.chunk(2)
        x = scheduler.step(without + GUIDANCE * (with_text - without), t, x).prev_sample
    return inputs, x


@torch.no_grad()
def table(run, layers: dict[str, nn.Module], title: str) -> dict[str, float]:
    """Relative error of run() with each layer quantized alone, and with all that are not kept float."""
    clean = run()
    error = lambda: float((run() - clean).norm() / clean.norm())  # noqa: E731
    found = {}
    for name, layer in tqdm(layers.items(), desc=title):
        with quantized([layer]):
            found[name] = error()
    with quantized([layer for name, layer in layers.items() if not any(part in name for part in FLOAT)]):
        found["all but quantize.FLOAT"] = error()
    with quantized(list(layers.values())):
        found["all"] = error()
    return found


def measure(folder: Path, components: list[str]) -> dict[str, dict[str, float]]:
    unet = UNet2DConditionModel.from_pretrained(folder / "unet").float().eval()
    vae = AutoencoderKL.from_pretrained(folder / "vae").float().eval()
    inputs, final = denoise(folder, unet)
    found = {}
    if "unet" in components:
        found["unet"] = table(lambda: torch.cat([unet(*i).sample for i in inputs[::3]]), quantizable(unet), "unet")
    if "vae" in components:
        latents = final / vae.config.scaling_factor
        decoder = {f"decoder.{k}": v for k, v in quantizable(vae.decoder).items()}
        found["vae_decoder"] = table(lambda: vae.decode(latents).sample, decoder, "vae_decoder")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="diffusers folder")
    parser.add_argument("--components", nargs="+", choices=("unet", "vae"), default=["unet", "vae"])
    parser.add_argument("--json", type=Path, help="write the whole table here")
    parser.add_argument("--worst", type=int, default=20, help="layers printed for each component")
    args = parser.parse_args()
    found = measure(args.source, args.components)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    for component, errors in found.items():
        print(f"\n| {component} | relative error |\n| --- | --- |")
        for name, error in sorted(errors.items(), key=lambda item: -item[1])[: args.worst + 2]:
            print(f"| {name} | {error:.5f} |")


if __name__ == "__main__":
    main()
