"""Writes a VAE with attention, a tiny VAE and an upscaler, all of random weights, and what they give.

    python quantize/golden/vae.py tests/golden/vae

What quantize/golden/tiny.py's packs lack, laid out as parts of a pack, weights in int8 so that the files stay small.
ONNX Runtime runs the graphs (weights multiplied out, activations in float); the tiny VAE's own PyTorch module (diffusers'
AutoencoderTiny) runs once more to hold the export to it. Files:

    vae_decoder/            of an AutoencoderKL whose middle block looks at the whole picture
    vae_decoder_tiny/       of an AutoencoderTiny in TAESD's layout
    upscaler/               an RRDBNet as ESRGAN's, 4 times larger, picture in and out from 0 to 1
    latents.npy             [1, 4, 8, 16]
    decoded.npy tiny.npy    [1, 3, 32, 64]: what the decoders make of the latents as they are
    small.npy large.npy     [1, 3, 8, 12] and [1, 3, 32, 48]: before and after the upscaler
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import diffusers
import numpy as np
import onnxruntime
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import export  # noqa: E402
from quantize import quantize_pack  # noqa: E402

LEAK = 0.2  # of ESRGAN's rectifiers


class ResidualDenseBlock(torch.nn.Module):
    """BasicSR's: five convolutions, each reading all that came before."""

    def __init__(self, features: int, growth: int):
        super().__init__()
        widths = [features + i * growth for i in range(5)]
        self.convs = torch.nn.ModuleList(
            torch.nn.Conv2d(width, growth if i < 4 else features, 3, 1, 1) for i, width in enumerate(widths))

    def forward(self, x):
        seen = [x]
        for i, conv in enumerate(self.convs):
            out = conv(torch.cat(seen, 1))
            seen.append(torch.nn.functional.leaky_relu(out, LEAK) if i < 4 else out)
        return seen[-1] * 0.2 + x


class RRDBNet(torch.nn.Module):
    """Wang et al. 2018, "ESRGAN", https://arxiv.org/abs/1809.00219, in BasicSR's layout, 4 times larger."""

    def __init__(self, features: int, blocks: int, growth: int):
        super().__init__()
        conv = lambda i, o: torch.nn.Conv2d(i, o, 3, 1, 1)  # noqa: E731
        self.first, self.last = conv(3, features), conv(features, 3)
        self.body = torch.nn.Sequential(*(ResidualDenseBlock(features, growth) for _ in range(blocks)))
        self.after, self.up1, self.up2, self.hr = (conv(features, features) for _ in range(4))

    def forward(self, x):
        leaky = lambda y: torch.nn.functional.leaky_relu(y, LEAK)  # noqa: E731
        twice = lambda y: torch.nn.functional.interpolate(y, scale_factor=2, mode="nearest")  # noqa: E731
        x = self.first(x)
        x = x + self.after(self.body(x))
        x = leaky(self.up1(twice(x)))
        x = leaky(self.up2(twice(x)))
        return self.last(leaky(self.hr(x)))


def louder(network: torch.nn.Module) -> torch.nn.Module:
    """Without norms the default weights let every signal die away."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 4:
                parameter.mul_(1.9)
    return network


def networks(out: Path) -> diffusers.AutoencoderTiny:
    """Exports in fp32."""
    torch.manual_seed(7)
    folder = out / "vae"
    diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 16, 16), layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=32,
        scaling_factor=0.5).save_pretrained(folder)
    export.export_vae(folder, out)
    shutil.rmtree(folder)
    shutil.rmtree(out / "vae_encoder")
    tiny = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(16,) * 3, decoder_block_out_channels=(16,) * 3, num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1))
    louder(tiny).save_pretrained(out / "vae_tiny")
    export.export_tiny_vae(out / "vae_tiny", out / "vae_decoder_tiny")
    shutil.move(out / "vae_tiny/config.json", out / "vae_decoder_tiny")
    shutil.rmtree(out / "vae_tiny")
    size = {0: "batch_size", 2: "height", 3: "width"}
    export.write_onnx(louder(RRDBNet(16, 1, 4)), {"input": torch.rand(2, 3, 16, 16)}, ["output"], {"input": size, "output": size},
                      out / "upscaler/model.onnx")
    (out / "upscaler/config.json").write_text(json.dumps({"scale": 4}) + "\n")
    return tiny


def run(path: Path, values: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path / "model.onnx"), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: values})[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    noise = np.random.default_rng(3)
    latents = noise.standard_normal((1, 4, 8, 16)).astype(np.float32)
    with tempfile.TemporaryDirectory() as work:
        fp32 = Path(work)
        tiny = networks(fp32)
        with torch.no_grad():
            own = tiny.decode(torch.from_numpy(latents)).sample.numpy()
        assert np.abs(own - run(fp32 / "vae_decoder_tiny", latents)).max() < 1e-4
        quantize_pack(fp32, args.out)
    decoded = run(args.out / "vae_decoder", latents)
    small = noise.random((1, 3, 8, 12)).astype(np.float32)
    made = {"latents": latents, "decoded": decoded, "tiny": run(args.out / "vae_decoder_tiny", latents),
            "small": small, "large": run(args.out / "upscaler", small)}
    for name, values in made.items():
        np.save(args.out / f"{name}.npy", values)
        print(name, values.shape, f"{values.min():.3f} to {values.max():.3f}")


if __name__ == "__main__":
    main()
