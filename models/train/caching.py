"""Measures what saves work within a picture on the bundled pack: step caching and guidance that ends early.

    python models/train/caching.py --state STATE --easeld target/release/easeld [--prompts 60]

Prints, for each way and number of steps: the median seconds that the UNet took, of those of the full run; the median PSNR
to the full run's pictures; and the share of pictures that the judge finds right (objects / backgrounds). One seed each, the
same noise for all.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import measures as M  # noqa: E402
from judge import load_judge  # noqa: E402
from trial import Prompt, Setting, held_out_prompts  # noqa: E402

STEPS = (8, 20)
WAYS = {
    "all of every step": {},
    "cache_interval 2": {"cache_interval": 2},
    "cache_interval 3": {"cache_interval": 3},
    "cache_interval 5": {"cache_interval": 5},
    "guidance_stop 0.5": {"guidance_stop": 0.5},
    "both, 2 and 0.5": {"cache_interval": 2, "guidance_stop": 0.5},
}


def make(easeld: Path, pack: Path, setting: Setting, prompts: list[Prompt], out: Path) -> tuple[np.ndarray, float]:
    """Pictures `[n, H, W, 3]` and the median seconds in the UNet, by one process with one thread."""
    folder = out / setting.name.replace(" ", "-").replace(",", "")
    folder.mkdir(parents=True, exist_ok=True)
    requests = folder / "requests.jsonl"
    lines = [{"id": f"{i:04}", "prompt": p.text, "seed": 1000 * i, **setting.request()} for i, p in enumerate(prompts)]
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [easeld, "generate", "--model", pack, "--threads", "1", "--json", "--batch-file", requests, "--out-dir", folder]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    seconds = [json.loads(line)["seconds"]["unet"] for line in done.stdout.splitlines() if line.startswith("{")]
    pictures = [np.asarray(Image.open(folder / f"{line['id']}.png").convert("RGB")) for line in lines]
    return np.stack(pictures), float(np.median(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--pack", type=Path, default=HERE.parent / "emoji")
    parser.add_argument("--easeld", type=Path, default=HERE.parents[1] / "target/release/easeld")
    parser.add_argument("--out", type=Path, help="where the pictures go [default: STATE/trial/caching]")
    parser.add_argument("--prompts", type=int, default=60)
    args = parser.parse_args()
    torch.set_num_threads(1)
    judge, prompts = load_judge(args.state), held_out_prompts(args.prompts)
    scenes = [p.scene for p in prompts]
    print("| steps | what | UNet's time | PSNR to all of every step | right objects / background |\n| --- | --- | --- | --- | --- |")
    for steps in STEPS:
        full = None
        for way, fields in WAYS.items():
            setting = Setting(f"{steps} {way}", steps, **fields)
            pictures, seconds = make(args.easeld, args.pack, setting, prompts, args.out or args.state / "trial/caching")
            full = full or (pictures, seconds)
            verdict = M.judge_pictures(judge, pictures, scenes)
            objects = [r if two else s for r, s, two in zip(verdict.relation, verdict.single, verdict.two)]
            right = f"{100 * sum(objects) / len(objects):.0f} / {100 * verdict.background.mean():.0f} %"
            same = "" if way == "all of every step" else f"{np.median(M.psnr(pictures, full[0])):.1f} dB"
            print(f"| {steps} | {way} | {seconds / full[1]:.2f} | {same} | {right} |", flush=True)


if __name__ == "__main__":
    main()
