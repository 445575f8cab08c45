"""Measures what quantizing each layer alone costs, to decide which layers stay float.

    python quantize/sensitivity.py DIFFUSERS_FOLDER --target-error 0.03 --json table.json
    python quantize/quantize.py onnx-fp32 my-model --sensitivity table.json

For every convolution and linear layer in turn, its weights are rounded to s8 with one scale per output channel (as quantize.py
does) and its inputs to 8 bits between the least and the largest value of each token or pixel (as the engine does at run time);
everything else stays float. Layers of one kind in the blocks of one transformer are rounded together, and share what that costs.
The error is |changed - float| / |float| (Euclidean norms) of the component's output: the UNet on noisy latents at several
time steps of a real denoising run, the VAE on what that run ends with, text encoders on a few prompts.

Layers are kept in float, those first that save most error for their weights, until all others rounded together stay below the
target. Errors of layers add up as squares do, about; how they really do is measured as often as it takes.
"""

from __future__ import annotations

import argparse
import json
import re
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from torch import nn
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from networks import load_unet, load_vae
from quantize import FLOAT, SMALLEST, channel_scales

PROMPTS = ["a cat on a blue background", "rocket next to star on black", "a panda above a cake", "an owl"]
STEPS, GUIDANCE = 8, 3.0
TARGET = 0.03
# Choices that are measured before the last one is taken as it is.
TRIES = 5


def round_tokens(x: torch.Tensor, axis: int) -> torch.Tensor:
    """256 values between the least and the largest of every position, over the channels on `axis`."""
    least, largest = x.amin(axis, keepdim=True), x.amax(axis, keepdim=True)
    scale = ((largest - least) / 255).clamp(min=1e-12)
    return ((x - least) / scale).round() * scale + least


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
            if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.weight.numel() >= SMALLEST
            and not any(part in name for part in FLOAT)}


@torch.no_grad()
def denoise(folder: Path, unet: UNet2DConditionModel) -> tuple[list[tuple], torch.Tensor]:
    """(inputs of the UNet at each step of a guided run, final scaled latents)."""
    text = CLIPTextModel.from_pretrained(folder / "text_encoder", attn_implementation="eager").float()
    states = text(input_ids=token_ids(folder, [""] * len(PROMPTS) + PROMPTS)).last_hidden_state
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


def token_ids(folder: Path, prompts: list[str]) -> torch.Tensor:
    tokenizer = CLIPTokenizer.from_pretrained(str(folder / "tokenizer"))
    return tokenizer(prompts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids


@torch.no_grad()
def table(run: Callable[[], torch.Tensor], layers: dict[str, nn.Module], title: str, target: float) -> dict:
    """What run() gives away with each layer quantized alone, and what to keep so that the others stay below `target`.

    {"layers": {name: {"error", "weights"}}, "together": error, "keep": names, "rest": error of the others together}
    """
    clean = run()

    def error(changed: list[str]) -> float:
        with quantized([layers[name] for name in changed]):
            return float((run() - clean).norm() / clean.norm())

    kinds: dict[str, list[str]] = {}
    for name in layers:
        kinds.setdefault(re.sub(r"transformer_blocks\.\d+\.", "transformer_blocks.*.", name), []).append(name)
    rows = {}
    for names in tqdm(kinds.values(), desc=title):
        each = error(names) / len(names) ** 0.5
        rows |= {name: {"error": each, "weights": layers[name].weight.numel()} for name in names}
    together = error(list(layers))
    keep, rest = [], together
    aim = target * min(root(rows.values()) / together, 1.0)
    for _ in range(TRIES):
        if rest <= target:
            break
        keep = cheapest(rows, aim)
        rest = error([name for name in layers if name not in keep])
        aim *= target / rest
    return {"layers": rows, "together": together, "keep": keep, "rest": rest}


def root(rows) -> float:
    """What layers cost together if they have nothing to do with each other."""
    return sum(row["error"] ** 2 for row in rows) ** 0.5


def cheapest(rows: dict[str, dict], target: float) -> list[str]:
    """Layers to keep so that the root of the others' squares is below `target`: those that save most error for their weights."""
    left = dict(sorted(rows.items(), key=lambda item: -(item[1]["error"] ** 2) / item[1]["weights"]))
    kept = []
    while left and root(left.values()) > target:
        kept.append(next(iter(left)))
        del left[kept[-1]]
    return sorted(kept)


def measure(folder: Path, components: list[str], target: float) -> dict[str, dict]:
    found = {}
    if "text_encoder" in components:
        text = CLIPTextModel.from_pretrained(folder / "text_encoder", attn_implementation="eager").float()
        ids = token_ids(folder, PROMPTS)
        found["text_encoder"] = table(lambda: text(input_ids=ids).last_hidden_state, quantizable(text), "text_encoder", target)
    unet, vae = load_unet(folder / "unet").float().eval(), load_vae(folder / "vae").float().eval()
    inputs, final = denoise(folder, unet)
    if "unet" in components:
        found["unet"] = table(lambda: torch.cat([unet(*i).sample for i in inputs[::3]]), quantizable(unet), "unet", target)
    if "vae" in components:
        latents = final / vae.config.scaling_factor
        with torch.no_grad():
            pixels = vae.decode(latents).sample
        for name, run in (("vae_decoder", lambda: vae.decode(latents).sample), ("vae_encoder", lambda: vae.encode(pixels)[0].mean)):
            part = name.removeprefix("vae_")
            layers = {f"{part}.{key}": layer for key, layer in quantizable(getattr(vae, part)).items()}
            found[name] = table(run, layers, name, target)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="diffusers folder")
    parser.add_argument("--components", nargs="+", choices=("unet", "vae", "text_encoder"), default=["unet", "vae", "text_encoder"])
    parser.add_argument("--target-error", type=float, default=TARGET, metavar="SHARE",
                        help=f"of a network's output, weights and the engine's 8-bit activations together [{TARGET}]")
    parser.add_argument("--json", type=Path, help="write the whole table here")
    parser.add_argument("--worst", type=int, default=20, help="layers printed for each component")
    args = parser.parse_args()
    found = measure(args.source, args.components, args.target_error)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for component, errors in found.items():
        print(f"\n| {component} | relative error | weights |\n| --- | ---: | ---: |")
        for name, row in sorted(errors["layers"].items(), key=lambda item: -item[1]["error"])[: args.worst]:
            print(f"| {name} | {row['error']:.5f} | {row['weights']} |")
        print(f"| all together | {errors['together']:.5f} | |")
        print(f"| all but {len(errors['keep'])} that stay float | {errors['rest']:.5f} | |")


if __name__ == "__main__":
    main()
