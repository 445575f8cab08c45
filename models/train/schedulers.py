"""Measures every scheduler at 4, 8 and 20 steps on the bundled pack: how many pictures show what was asked for, and how
far their features lie from those of real renders of the same scenes (as FID does, with so few pictures good for comparison
within the table alone).

    python models/train/schedulers.py --state STATE --easeld target/release/easeld [--prompts 60] [--readme]

Pictures of held-out prompts, one seed each and the same noise for all schedulers, are made by easeld and read by the
judge, as in `evaluate.py`. Kept in STATE/trial/schedulers and not made twice. `--readme` puts the table into the pack's
README.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import measures as M  # noqa: E402
from judge import load_judge  # noqa: E402
from scenes import Scenes  # noqa: E402
from trial import Setting, held_out_prompts, make_pictures  # noqa: E402

STEPS = (4, 8, 20)
# One of each solver; the suffixes change how its noise levels are spaced.
NAMES = (
    "auto", "unipc", "unipc-karras", "deis", "dpmpp-1m", "dpmpp-2m", "dpmpp-2m-karras", "dpmpp-3m", "dpmpp-2s", "dpmpp-3s",
    "dpmpp-2m-sde", "dpmpp-3m-sde", "dpmpp-sde", "dpm-1", "dpm-2", "dpm-3", "dpm-2s", "dpm-3s", "ddim", "ddim-trailing",
    "ddpm", "pndm", "plms", "lms", "euler", "euler-ancestral", "heun", "kdpm2", "kdpm2-ancestral", "lcm", "tcd", "langevin",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--pack", type=Path, default=HERE.parent / "emoji")
    parser.add_argument("--easeld", type=Path, default=HERE.parents[1] / "target/release/easeld")
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--readme", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.workers)
    judge, prompts = load_judge(args.state), held_out_prompts(args.prompts)
    scenes = [p.scene for p in prompts]
    real = M.judge_pictures(judge, M.renders(scenes, Scenes(9)), scenes).features
    lines = [f"| scheduler | {' | '.join(f'{n} steps' for n in STEPS)} |", "| --- |" + " --- |" * len(STEPS)]
    for name in NAMES:
        cells = []
        for steps in STEPS:
            setting = Setting(f"{name}-{steps}", steps, scheduler=name)
            try:
                pictures = make_pictures(args.easeld, args.pack, setting, prompts, args.state / "trial/schedulers", 1,
                                         args.workers)
            except RuntimeError:
                cells.append("refused")
                continue
            verdict = M.judge_pictures(judge, pictures, scenes)
            objects = [r if two else s for r, s, two in zip(verdict.relation, verdict.single, verdict.two)]
            cells.append(f"{100 * sum(objects) / len(objects):.0f} / {100 * verdict.background.mean():.0f} / "
                         f"{M.frechet(verdict.features, real):.0f}")
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    if args.readme:
        readme = args.pack / "README.md"
        before, _, rest = readme.read_text().partition("<!-- schedulers -->")
        table = "\n".join(lines)
        readme.write_text(f"{before}<!-- schedulers -->\n{table}\n<!-- end schedulers -->{rest.partition('<!-- end schedulers -->')[2]}")


if __name__ == "__main__":
    main()
