"""Writes the small evaluation that runs with the tests: the judge as int8 ONNX, and prompts with what they ask for.

    python quantize/golden/trial.py STATE [--prompts 50]

STATE holds judge.pt (`models/train/train.py --only judge`). The files go to tests/golden/trial.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import onnx
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "quantize"), str(ROOT / "models/train")]

import vocabulary as V  # noqa: E402
from export import write_onnx  # noqa: E402
from judge import load_judge  # noqa: E402
from quantize import quantize_model  # noqa: E402
from scenes import SIZE  # noqa: E402
from trial import held_out_prompts  # noqa: E402

OUT = ROOT / "tests/golden/trial"
HEADS = ["arrangement", "first", "second", "background"]


class Heads(torch.nn.Module):
    """Without the features, which only `evaluate.py` wants."""

    def __init__(self, judge: torch.nn.Module):
        super().__init__()
        self.judge = judge

    def forward(self, picture):
        return self.judge(picture)[:4]


def write_judge(state: Path, path: Path) -> None:
    axes = {name: {0: "batch_size"} for name in ("picture", *HEADS)}
    write_onnx(Heads(load_judge(state)), {"picture": torch.randn(2, 3, SIZE, SIZE)}, HEADS, axes, path)
    model = onnx.load(str(path))
    quantize_model(model)
    onnx.save(model, str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("state", type=Path)
    parser.add_argument("--prompts", type=int, default=50)
    args = parser.parse_args()
    write_judge(args.state, OUT / "judge.onnx")
    lines = []
    for seed, prompt in enumerate(held_out_prompts(args.prompts)):
        scene = prompt.scene
        lines.append(json.dumps({
            "prompt": prompt.text, "seed": seed, "arrangement": V.ARRANGEMENTS.index(scene.arrangement),
            "objects": [o[0] for o in scene.objects], "background": V.COLOUR_NAMES.index(scene.colour),
        }))
    (OUT / "prompts.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
