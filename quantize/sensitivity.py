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
from diffusers import DiffusionPipeline
from torch import nn
from tqdm import tqdm
from transformers import CLIPTokenizer

from quantize import FLOAT, SMALLEST, channel_scales

PROMPTS = ["a cat on a blue background", "rocket next to star on black", "a panda above a cake", "an owl"]
STEPS, GUIDANCE = 8, 3.0
# UNets of more parameters are measured on one prompt, one time step and latents of this side: five minutes for Stable
# Diffusion 1.5's on two cores. What matrix.py chose on latents as small kept to the target on those of 64 x 64, for every UNet.
LARGE, LARGE_SIDE = 100_000_000, 16
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


def compact(weight: torch.Tensor) -> torch.Tensor:
    """In halves where nothing is lost, as of most checkpoints: SDXL's UNet twice over in f32 is 20 GB."""
    half = weight.half()
    return half if torch.equal(half.float(), weight) else weight


@contextmanager
def quantized(layers: list[nn.Module]):
    """Within it the layers compute with rounded weights and inputs."""
    kept, hooks = [], []
    for layer in layers:
        axis = 1 if isinstance(layer, nn.Conv2d) else -1
        kept.append(compact(layer.weight.data))
        layer.weight.data = round_weight(layer.weight)
        hooks.append(layer.register_forward_pre_hook(lambda _, args, axis=axis: (round_tokens(args[0], axis), *args[1:])))
    try:
        yield
    finally:
        for layer, weight, hook in zip(layers, kept, hooks):
            layer.weight.data = weight.float()
            hook.remove()


def quantizable(module: nn.Module) -> dict[str, nn.Module]:
    return {name: layer for name, layer in module.named_modules()
            if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.weight.numel() >= SMALLEST
            and not any(part in name for part in FLOAT)}


@torch.no_grad()
def denoise(pipeline: DiffusionPipeline) -> tuple[list[tuple], torch.Tensor]:
    """(arguments of the UNet at some steps of a guided run, final scaled latents)."""
    unet, calls = pipeline.unet, []
    large = sum(parameter.numel() for parameter in unet.parameters()) > LARGE
    side = min(LARGE_SIDE, unet.config.sample_size) if large else unet.config.sample_size
    pixels = side * pipeline.vae_scale_factor
    pipeline.set_progress_bar_config(desc="a run")
    hook = unet.register_forward_pre_hook(lambda _, args, named: calls.append((args, named)), with_kwargs=True)
    final = pipeline(PROMPTS[:1] if large else PROMPTS, height=pixels, width=pixels, num_inference_steps=STEPS,
                     guidance_scale=GUIDANCE, output_type="latent", generator=torch.Generator().manual_seed(1)).images
    hook.remove()
    return calls[len(calls) // 2 :][:1] if large else calls[::3], final


def token_ids(tokenizer: CLIPTokenizer) -> torch.Tensor:
    return tokenizer(PROMPTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids


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
    pipeline = DiffusionPipeline.from_pretrained(folder, safety_checker=None, torch_dtype=torch.float32)
    found = {}
    for name in ("text_encoder", "text_encoder_2"):
        text = getattr(pipeline, name, None)
        if "text_encoder" in components and text is not None:
            ids = token_ids(getattr(pipeline, name.replace("text_encoder", "tokenizer")))
            # SDXL reads the penultimate layer, others the last.
            of_two = getattr(pipeline, "text_encoder_2", None) is not None
            found[name] = table(lambda: states(text, ids, penultimate=of_two), quantizable(text), name, target)  # noqa: B023
    inputs, final = denoise(pipeline)
    unet, vae = pipeline.unet, pipeline.vae
    if "unet" in components:
        found["unet"] = table(lambda: torch.cat([unet(*args, **named)[0] for args, named in inputs]), quantizable(unet), "unet", target)
    if "vae" in components:
        latents = final / vae.config.scaling_factor
        with torch.no_grad():
            pixels = vae.decode(latents).sample
        for name, run in (("vae_decoder", lambda: vae.decode(latents).sample), ("vae_encoder", lambda: encoded(vae, pixels))):
            part = name.removeprefix("vae_")
            layers = {f"{part}.{key}": layer for key, layer in quantizable(getattr(vae, part)).items()}
            found[name] = table(run, layers, name, target)
    return found


def states(text: nn.Module, ids: torch.Tensor, penultimate: bool) -> torch.Tensor:
    given = text(input_ids=ids, output_hidden_states=penultimate)
    return given.hidden_states[-2] if penultimate else given.last_hidden_state


def encoded(vae: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Latents, or their mean: tiny autoencoders have no variance."""
    given = vae.encode(pixels, return_dict=False)[0]
    return given if isinstance(given, torch.Tensor) else given.mean


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
