"""Averaged weights of all checkpoints as pieces under 16 MB, for machines that let no larger file out, and back again.

    python models/train/pieces.py pack STATE FOLDER [NAME...]
    python models/train/pieces.py unpack FOLDER STATE

Weights travel in float16; optimisers stay behind, so a training that goes on elsewhere begins with fresh momentum.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import torch

from optim import save_atomic

PIECE = 15 * 2**20  # bytes
CHECKPOINTS = ("vae", "vae-unit", "clip", "unet", "text", "image", "fast", "decoder", "judge")


def light(saved: dict) -> dict:
    """A checkpoint with its averaged weights alone, in half the bytes."""
    halved = {name: {k: v.half() if v.is_floating_point() else v for k, v in module.items()}
              for name, module in saved["ema"].items()}
    return {"ema": halved, **{k: saved[k] for k in ("step", "seconds", "history") if k in saved}}


def full(saved: dict) -> dict:
    """What a training resumes from."""
    whole = {name: {k: v.float() if v.is_floating_point() else v for k, v in module.items()}
             for name, module in saved["ema"].items()}
    return {**saved, "ema": whole, "model": whole} if "step" in saved else {**saved, "ema": whole}


def pack(state: Path, folder: Path, names: list[str]) -> None:
    found = {name: light(torch.load(path, map_location="cpu"))
             for name in names if (path := state / f"{name}.pt").exists()}
    buffer = io.BytesIO()
    torch.save(found, buffer)
    whole = buffer.getbuffer()
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("weights-*.bin"):
        old.unlink()
    for number, at in enumerate(range(0, len(whole), PIECE)):
        (folder / f"weights-{number}.bin").write_bytes(whole[at : at + PIECE])
    print(f"{', '.join(found)}: {len(whole) / 1e6:.1f} MB in {number + 1} pieces")


def unpack(folder: Path, state: Path) -> None:
    paths = sorted(folder.glob("weights-*.bin"), key=lambda p: int(p.stem.partition("-")[2]))
    for name, saved in torch.load(io.BytesIO(b"".join(p.read_bytes() for p in paths))).items():
        save_atomic(full(saved), state / f"{name}.pt")
        print(f"{state / name}.pt, step {saved.get('step', '-')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("pack", "unpack"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("names", nargs="*", default=list(CHECKPOINTS))
    args = parser.parse_args()
    if args.verb == "pack":
        pack(args.source, args.target, args.names)
    else:
        unpack(args.source, args.target)


if __name__ == "__main__":
    main()
