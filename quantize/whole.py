"""Whole pictures at full size: four steps by diffusers, and the same by easeld on the exported networks.

    python quantize/whole.py WORK --easeld target/release/easeld --tokenizer FOLDER [--only sd15] [--size 256]

For every architecture: a checkpoint of seeded random weights (architectures.py) is written to WORK, diffusers' pipeline
makes one picture of it in f32, export.py exports it, and `easeld generate` makes the same picture with `--compute f32` and
as it runs by default. Printed are relative errors of the final latents, and PSNR of the pictures; WORK/whole.jsonl keeps
them, and what is there is not done again. It takes 12 GB of disk and 14 GB of memory, one architecture at a time;
SDXL 16 and 20.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import time
from pathlib import Path

import diffusers
import numpy as np
import torch
from PIL import Image

import architectures
import export
from to_onnx import Options
from verify import psnr, relative

# Guidance as these models are used: of LCM it is an input of the UNet.
GUIDANCE = {"sd15": 3.0, "sd-turbo": 1.0, "lcm": 8.0, "sdxl": 3.0}
# Its f32 copies do not fit beside each other into 24 GB; its int8 ones do.
INT8_ONLY = {"sdxl"}
PIPELINES = {"lcm": diffusers.LatentConsistencyModelPipeline, "sdxl": diffusers.StableDiffusionXLPipeline}
STEPS, SEED = 4, 7
PROMPT, NEGATIVE = "a lighthouse on a cliff, oil painting", "blurry"


def by_diffusers(name: str, folder: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Final latents [1, C, h, w] and pixels."""
    kind = PIPELINES.get(name, diffusers.StableDiffusionPipeline)
    more = {"add_watermarker": False} if name == "sdxl" else {"safety_checker": None}
    pipeline = kind.from_pretrained(folder, torch_dtype=torch.float32, **more)
    pipeline.set_progress_bar_config(disable=True)
    more = {} if name == "lcm" else {"negative_prompt": NEGATIVE}
    kept = {}

    def keep(_pipeline, _step, _timestep, values):
        kept.update(values)
        return values

    with torch.no_grad():
        made = pipeline(PROMPT, height=size, width=size, num_inference_steps=STEPS, guidance_scale=GUIDANCE[name],
                        generator=torch.Generator().manual_seed(SEED),
                        callback_on_step_end=keep, output_type="pil", **more)
    return kept["latents"].numpy(), np.asarray(made.images[0])


def by_easeld(binary: str, name: str, pack: Path, size: int, compute: str) -> tuple[np.ndarray, np.ndarray, dict]:
    command = [binary, "generate", PROMPT, "--model", str(pack), "--steps", str(STEPS), "--seed", str(SEED), "--width", str(size),
               "--height", str(size), "--guidance-scale", str(GUIDANCE[name]), "--dump-latents", str(pack / "final.npy"), "-o", str(pack / "picture.png"),
               "--compute", compute, "--json"]
    if name != "lcm":
        command += ["--negative-prompt", NEGATIVE]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"{name}, {compute}: {ran.stderr}")
    picture = np.asarray(Image.open(pack / "picture.png").convert("RGB"))
    return np.load(pack / "final.npy"), picture, json.loads(ran.stdout.splitlines()[-1])["seconds"]


def compare(name: str, args: argparse.Namespace) -> dict:
    work = args.work / name
    shutil.rmtree(work, ignore_errors=True)
    checkpoint, pack = work / "checkpoint", work / "pack"
    architectures.write(name, architectures.ARCHITECTURES[name], checkpoint, args.tokenizer, half=True)
    latents, picture = by_diffusers(name, checkpoint, args.size)
    export.export(checkpoint, pack, Options(half=True))
    shutil.rmtree(checkpoint)
    found = {"architecture": name, "size": args.size, "steps": STEPS, "guidance": GUIDANCE[name]}
    for compute in ("int8",) if name in INT8_ONLY else ("f32", "int8"):
        ours, pixels, seconds = by_easeld(args.easeld, name, pack, args.size, compute)
        found[compute] = {"latents": relative(ours, latents), "psnr_db": psnr(pixels, picture), "seconds": seconds}
        print(name, compute, found[compute], flush=True)
    shutil.rmtree(work)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--easeld", required=True, metavar="BINARY")
    parser.add_argument("--tokenizer", type=Path, required=True, help="the tokenizer/ of any Stable Diffusion folder")
    parser.add_argument("--only", nargs="+", default=list(GUIDANCE), choices=list(GUIDANCE))
    parser.add_argument("--size", type=int, default=256, help="pixels of a side")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    kept = args.work / "whole.jsonl"
    done = [json.loads(line)["architecture"] for line in kept.read_text().splitlines()] if kept.is_file() else []
    for name in (name for name in args.only if name not in done):
        started = time.monotonic()
        found = compare(name, args)
        with kept.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
