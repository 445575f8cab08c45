"""Whether the two ways to an int8 pack are worth the same: quantize.py and `easeld pack quantize`.

    python quantize/both_paths.py FLOAT_PACK --easeld target/release/easeld [--pictures 20]

Both make an int8 pack of FLOAT_PACK. The same prompts and seeds are painted with the float pack in f32 and with each int8
pack, and PSNR to the float pictures is printed for both: the medians have to lie within 1 dB.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from verify import psnr

HERE = Path(__file__).resolve().parent
OBJECTS = ("fox", "crown", "red apple", "rocket", "owl", "castle", "guitar", "cactus", "snowman", "whale")
BACKGROUNDS = ("on a yellow background", "on a pink background")
BOUND_DB = 1.0


def paint(easeld: str, pack: Path, requests: Path, out: Path, compute: str) -> list[np.ndarray]:
    command = [easeld, "generate", "--model", pack, "--batch-file", requests, "--out-dir", out, "--compute", compute]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(out.glob("*.png"))]
    if not pictures:
        raise SystemExit(f"no picture in {out}")
    return pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path)
    parser.add_argument("--easeld", required=True)
    parser.add_argument("--pictures", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = [f"a {thing} {where}" for where in BACKGROUNDS for thing in OBJECTS][: args.pictures]
        requests = folder / "requests.jsonl"
        lines = [json.dumps({"id": f"{at:03}", "prompt": text, "seed": at}) for at, text in enumerate(texts)]
        requests.write_text("\n".join(lines) + "\n")
        packs = {"python": folder / "python", "rust": folder / "rust"}
        subprocess.run([sys.executable, HERE / "quantize.py", args.pack, packs["python"]], check=True)
        subprocess.run([args.easeld, "pack", "quantize", args.pack, packs["rust"]], check=True)
        wanted = paint(args.easeld, args.pack, requests, folder / "float-pictures", "f32")
        medians = {}
        for path, pack in packs.items():
            made = paint(args.easeld, pack, requests, folder / f"{path}-pictures", "int8")
            medians[path] = statistics.median(psnr(a, b) for a, b in zip(made, wanted, strict=True))
            size = sum(file.stat().st_size for file in pack.rglob("*.onnx*"))
            print(f"{path:7} {medians[path]:.2f} dB to the float pictures (median of {len(made)}), networks of {size} bytes")
    apart = abs(medians["python"] - medians["rust"])
    print(f"{apart:.2f} dB apart")
    sys.exit(apart > BOUND_DB)


if __name__ == "__main__":
    main()
