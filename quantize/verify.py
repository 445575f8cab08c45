"""Prints how far an int8 pack is from its fp32 original, component by component.

    python quantize/verify.py ONNX_FOLDER INT8_FOLDER

Relative error is |int8 - fp32| / |fp32| (Euclidean norms) on the same inputs, with ONNX Runtime.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch

from pipeline import Pack, session, to_pixels

PROMPTS = ["a cat on a blue background", "rocket next to star on black", "a panda above a cake", "an owl"]


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def compare(fp32: Path, int8: Path) -> dict[str, float]:
    """Relative error of each component's output, and the PSNR of whole pictures in dB."""
    a, b = Pack(int8), Pack(fp32)
    states = b.embed(PROMPTS)
    latents = b.noise(len(PROMPTS), 1)
    found = {"text_encoder": relative(a.embed(PROMPTS), states)}
    for t in (999, 500, 100):
        found[f"unet, t = {t}"] = relative(a.step(latents.numpy(), t, states), b.step(latents.numpy(), t, states))
    final_b = b.denoise(PROMPTS, 1, 8, 3.0)
    image_b = b.decode(final_b)
    found["vae_decoder"] = relative(a.decode(final_b), image_b)
    encoders = [session(folder / "vae_encoder/model.onnx") for folder in (int8, fp32)]
    means = [e.run(None, {"sample": image_b})[0][:, : b.latent[0]] for e in encoders]
    found["vae_encoder"] = relative(*means)
    image_a = a.decode(a.denoise(PROMPTS, 1, 8, 3.0))
    error = np.square(to_pixels(image_a).astype(float) - to_pixels(image_b)).mean()
    found["whole picture, 8 steps, PSNR dB"] = 10 * math.log10(255**2 / max(error, 1e-9))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fp32", type=Path)
    parser.add_argument("int8", type=Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    for name, value in compare(args.fp32, args.int8).items():
        print(f"{name:32} {value:.5f}")


if __name__ == "__main__":
    main()
