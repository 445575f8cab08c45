"""Fits how latents look: the linear mixture of channels that comes nearest to the VAE's pictures.

    python quantize/preview.py PACK PICTURE...

Pictures (PNG or JPEG; some dozens of the kind the model makes) go through the pack's vae_encoder. Their latents, as the
UNet sees them, and their pixels, averaged over one latent's square, are fitted by least squares, and `preview.json` is
written into the pack: `latent_rgb_factors` [C, 3] and `latent_rgb_factors_bias` [3], ComfyUI's names.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline import session


def latents_and_colours(pack: Path, pictures: list[Path], side: int) -> tuple[np.ndarray, np.ndarray]:
    """([N, C], [N, 3] in -1..1): every latent of every picture, and the mean colour of its square."""
    encoder = session(pack / "vae_encoder/model.onnx")
    config = json.loads((pack / "vae_decoder/config.json").read_text())
    latents, colours = [], []
    for path in pictures:
        pixels = np.asarray(Image.open(path).convert("RGB").resize((side, side)), np.float32) / 127.5 - 1
        sample = pixels.transpose(2, 0, 1)[None]
        mean = np.split(encoder.run(["latent_parameters"], {"sample": sample})[0][0], 2)[0]
        channels, height, width = mean.shape
        scaled = (mean - (config.get("shift_factor") or 0.0)) * config["scaling_factor"]
        latents.append(scaled.reshape(channels, -1).T)
        square = side // height
        colours.append(pixels.reshape(height, square, width, square, 3).mean((1, 3)).reshape(-1, 3))
    return np.concatenate(latents), np.concatenate(colours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path)
    parser.add_argument("pictures", type=Path, nargs="+")
    args = parser.parse_args()
    side = json.loads((args.pack / "vae_decoder/config.json").read_text())["sample_size"]
    latents, colours = latents_and_colours(args.pack, args.pictures, side)
    with_one = np.concatenate([latents, np.ones((len(latents), 1), np.float32)], axis=1)
    factors, *_ = np.linalg.lstsq(with_one, colours, rcond=None)
    error = np.abs(with_one @ factors - colours).mean() * 127.5
    rounded = factors.round(4).tolist()
    (args.pack / "preview.json").write_text(json.dumps(
        {"latent_rgb_factors": rounded[:-1], "latent_rgb_factors_bias": rounded[-1]}, indent=1) + "\n")
    print(f"{len(latents)} latents, mean error {error:.1f} of 255")


if __name__ == "__main__":
    main()
