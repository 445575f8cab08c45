"""Makes the emoji pack from nothing: one command, resumable, bounded by wall time.

    python models/train/train.py --state STATE --minutes 100

renders scenes, trains the autoencoder, trains the UNet with its text encoder, tunes the decoder,
exports to ONNX, quantizes to int8 and writes `models/emoji`. Run it again after a cut and it goes
on where the last checkpoint was (one is written each minute); run it with more minutes and the
UNet trains longer. `--only export` packs whatever the newest checkpoints are.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import tokenizer as T  # noqa: E402
from assemble import assemble  # noqa: E402
from parallel import launch  # noqa: E402
from scenes import FONT, font_digest  # noqa: E402
from train_unet import encode_scenes, train_unet  # noqa: E402
from train_vae import centre_latents, train_vae  # noqa: E402

# Shares of the time budget. Encoding the scenes takes a few minutes on top.
SHARES = {"vae": 0.24, "unet": 0.69, "decoder": 0.07}
ABOUT = ("--title", "Emoji, 64 x 64", "--licence", "MIT OR Apache-2.0; trained on pictures of Noto Color Emoji (OFL-1.1)",
         "--preset", "default:8:3.0", "--preset", "fast:4:3.0")
STAGES = ("vae", "latents", "unet", "decoder", "export")


def export(state: Path, out: Path, untrained: bool = False, fp32: Path | None = None) -> None:
    """Checkpoints -> diffusers folder -> fp32 ONNX -> int8 pack `out`."""
    quantize = HERE.parents[1] / "quantize"
    folder = state / "diffusers"
    onnx = fp32 or state / "onnx-fp32"
    assemble(state, folder, untrained)
    for script, *arguments in (
        ("export.py", folder, onnx), ("quantize.py", onnx, out), ("manifest.py", onnx, *ABOUT), ("manifest.py", out, *ABOUT),
    ):
        subprocess.run([sys.executable, str(quantize / script), *map(str, arguments)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, default=HERE / "state", help="checkpoints and cached latents")
    parser.add_argument("--out", type=Path, default=HERE.parent / "emoji", help="where the int8 pack goes")
    parser.add_argument("--fp32", type=Path, help="keep the fp32 ONNX pack here too")
    parser.add_argument("--minutes", type=float, default=100.0, help="training time in all")
    parser.add_argument("--scenes", type=int, default=64_000, help="scenes encoded for the UNet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="processes of one thread; 0: one a core, 1 on CUDA")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", choices=STAGES, action="append", help="run these stages alone")
    parser.add_argument("--untrained", action="store_true", help="export the random initialisation (for tests)")
    args = parser.parse_args()
    stages = args.only or STAGES
    state = args.state.resolve()
    state.mkdir(parents=True, exist_ok=True)
    world = args.workers or (1 if args.device == "cuda" else min(2, os.cpu_count() or 1))
    seconds = {name: share * args.minutes * 60 for name, share in SHARES.items()}

    if args.untrained:
        export(state, args.out, True, args.fp32)
        return
    T.write_tokenizer(state / "tokenizer")
    (state / "font.json").write_text(json.dumps({"file": FONT.name, "sha256": font_digest()}) + "\n")
    if "vae" in stages:
        launch(world, train_vae, state, seconds["vae"], args.device, args.seed)
    if "latents" in stages:
        centre_latents(state, args.device, args.seed)
        launch(world, encode_scenes, state, args.scenes, args.device, args.seed)
    if "unet" in stages:
        launch(world, train_unet, state, seconds["unet"], args.device, args.seed)
    if "decoder" in stages:
        launch(world, train_vae, state, seconds["decoder"], args.device, args.seed + 1, True)
    if "export" in stages:
        export(state, args.out, fp32=args.fp32)


if __name__ == "__main__":
    main()
