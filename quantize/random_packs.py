"""Packs at full size with seeded random weights: what `benches/estimate` and memory cages are tried with.

    python quantize/random_packs.py WORK --easeld target/release/easeld --tokenizer FOLDER [--only sdxl sdxs]
    benches/estimate --steps 1 WORK/*-int8

For every architecture a checkpoint is written to WORK (architectures.py), exported in half precision (export.py) and
quantized (`easeld pack quantize`) into WORK/NAME-int8, which alone is kept; what is there is not made again. An autoencoder
without a UNet of its own gets that of BK-SDM tiny. It takes 16 GB of memory and of disk for SDXL, half for the others.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

import architectures
import export
from architectures import ARCHITECTURES, Architecture
from to_onnx import Options


def whole(name: str) -> Architecture:
    """The architecture with everything that a picture needs."""
    architecture = ARCHITECTURES[name]
    if architecture.unet is None:
        tiny = ARCHITECTURES["bk-sdm-tiny"]
        return replace(architecture, unet=tiny.unet, text=tiny.text)
    return architecture


def make(name: str, args: argparse.Namespace) -> None:
    checkpoint, onnx, pack = (args.work / f"{name}{end}" for end in ("-checkpoint", "-onnx", "-int8"))
    if (pack / "easel.toml").is_file():
        return
    for left in (checkpoint, onnx, pack):
        shutil.rmtree(left, ignore_errors=True)
    architectures.write(name, whole(name), checkpoint, args.tokenizer, half=True)
    export.export(checkpoint, onnx, Options(half=True))
    shutil.rmtree(checkpoint)
    subprocess.run([args.easeld, "pack", "quantize", onnx, pack], check=True)
    shutil.rmtree(onnx)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--easeld", required=True, metavar="BINARY")
    parser.add_argument("--tokenizer", type=Path, required=True, help="the tokenizer/ of any Stable Diffusion folder")
    parser.add_argument("--only", nargs="+", default=list(ARCHITECTURES), choices=list(ARCHITECTURES))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for name in tqdm(args.only, unit="pack"):
        make(name, args)


if __name__ == "__main__":
    main()
