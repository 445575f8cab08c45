"""Makes the emoji pack from nothing: one command, resumable, bounded by wall time.

    python models/train/train.py --state STATE --minutes 240

draws scenes, trains the autoencoder, CLIP's two towers, the UNet with the text tower, the text tower and the
image tower once more, the few-step UNet and the decoder, exports to ONNX, quantizes to int8 and writes `models/emoji`.
The judge of `evaluate.py` is a stage of its own beside them. Run it again after a cut and it goes on where
the last checkpoint was (one is written each minute); run it with more minutes and every stage that has
time left trains longer. `--only export` packs whatever the newest checkpoints are.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import tokenizer as T  # noqa: E402
from assemble import assemble  # noqa: E402
from distill import train_fast  # noqa: E402
from judge import train_judge  # noqa: E402
from parallel import launch  # noqa: E402
from pool import EVERY, LEARNED, draw_scenes  # noqa: E402
from scenes import FONT, Scenes, font_digest  # noqa: E402
from train_clip import train_clip, train_image, train_text  # noqa: E402
from train_unet import encode_scenes, train_unet  # noqa: E402
from train_vae import centre_latents, train_decoder, train_vae  # noqa: E402

# Stages in order, with their share of the time. Drawing and encoding the scenes takes some minutes on top.
STAGES = {"scenes": 0.0, "vae": 0.12, "latents": 0.0, "clip": 0.05, "unet": 0.55, "text": 0.04, "image": 0.03,
          "fast": 0.12, "decoder": 0.05, "judge": 0.04, "export": 0.0}
TRAINERS = {"vae": train_vae, "clip": train_clip, "unet": train_unet, "text": train_text, "image": train_image,
            "fast": train_fast, "decoder": train_decoder, "judge": train_judge}
ABOUT = ("--title", "Emoji, 128 x 128", "--smallest", "128",
         "--licence", "MIT OR Apache-2.0; trained on pictures of Noto Color Emoji (OFL-1.1)",
         "--preset", "default:8:1.5", "--preset", "fast:2:1.0:lcm:unet_fast",
         # By models/train/schedulers.py: spaced otherwise, noise levels do not suit a zero terminal SNR below 20 steps.
         "--auto-scheduler", "50:dpmpp-2m")


RENDERS = 48  # scenes that the preview's mixture of latents is fitted on


def write_renders(folder: Path) -> list[Path]:
    """Pictures of scenes that training may show, as PNG files."""
    folder.mkdir(exist_ok=True)
    scenes, paths = Scenes(51), [folder / f"{i}.png" for i in range(RENDERS)]
    for path in paths:
        Image.fromarray((scenes.render(scenes.place()) * 255).round().astype(np.uint8)).save(path)
    return paths


def export(state: Path, out: Path, untrained: bool = False, fp32: Path | None = None) -> None:
    """Checkpoints -> diffusers folder -> fp32 ONNX -> int8 pack `out`."""
    quantize = HERE.parents[1] / "quantize"
    folder = state / "diffusers"
    onnx = fp32 or state / "onnx-fp32"
    assemble(state, folder, untrained)
    for script, *arguments in (
        ("export.py", folder, onnx), ("quantize.py", onnx, out), ("preview.py", out, *write_renders(state / "renders")),
        ("manifest.py", onnx, *ABOUT), ("manifest.py", out, *ABOUT),
    ):
        subprocess.run([sys.executable, str(quantize / script), *map(str, arguments)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, default=HERE / "state", help="checkpoints and cached latents")
    parser.add_argument("--out", type=Path, default=HERE.parent / "emoji", help="where the int8 pack goes")
    parser.add_argument("--fp32", type=Path, help="keep the fp32 ONNX pack here too")
    parser.add_argument("--minutes", type=float, default=240.0, help="training time in all")
    parser.add_argument("--scenes", type=int, help="scenes drawn [64,000; 400,000 on CUDA]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="processes of one thread; 0: one a core, 1 on CUDA")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", choices=STAGES, action="append", help="run these stages alone; --minutes is then theirs")
    parser.add_argument("--skip", choices=STAGES, action="append", default=[], help="leave these stages out")
    parser.add_argument("--untrained", action="store_true", help="export the random initialisation (for tests)")
    args = parser.parse_args()
    stages = [stage for stage in args.only or STAGES if stage not in args.skip]
    state = args.state.resolve()
    state.mkdir(parents=True, exist_ok=True)
    world = args.workers or (1 if args.device == "cuda" else min(2, os.cpu_count() or 1))
    T.write_tokenizer(state / "tokenizer")
    if args.untrained:
        export(state, args.out, True, args.fp32)
        return
    (state / "font.json").write_text(json.dumps({"file": FONT.name, "sha256": font_digest()}) + "\n")
    cuda = torch.device(args.device).type == "cuda"
    torch.backends.cudnn.benchmark = cuda
    count = args.scenes or (400_000 if cuda else 64_000)
    for stage in stages:
        if stage == "scenes":
            draw_scenes(state, LEARNED, count, args.seed + 7_000_000)
            draw_scenes(state, EVERY, count // 4, args.seed + 8_000_000)
        elif stage == "latents":
            centre_latents(state, args.device, args.seed)
            launch(world, encode_scenes, state, args.device)
        elif stage == "export":
            export(state, args.out, fp32=args.fp32)
        else:
            share = 1.0 if args.only else STAGES[stage]
            launch(world, TRAINERS[stage], state, share * args.minutes * 60, args.device, args.seed)


if __name__ == "__main__":
    main()
