"""Measures the bundled pack: one command, one table, one grid of pictures.

    python models/train/evaluate.py --state STATE --easeld target/release/easeld [--fp32 FP32_PACK]

Pictures of held-out prompts are made by `easeld generate --batch-file` (not by diffusers), read by the
judge (`judge.py`, trained on real renders alone) and compared in pairs that start from the same noise.
Pictures are kept in STATE/trial and not made twice, so a cut run goes on where it was. `--prompts 50`
is a quick look. Results go to STATE/evaluation.json; `--readme` puts the table into the pack's README.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "quantize")]

import measures as M  # noqa: E402
import similarity  # noqa: E402
import vocabulary as V  # noqa: E402
from judge import accuracy, load_judge  # noqa: E402
from report import Row, table, write_grid  # noqa: E402
from scenes import Scenes  # noqa: E402
from trial import SEEDS, Prompt, Setting, held_out_prompts, make_pictures  # noqa: E402

BASE = Setting("8-steps", 8)
FIFTY = Setting("50-steps-ddim", 50, scheduler="ddim")
FOUR = Setting("4-steps", 4)
FAST = Setting("fast-2-steps", 2, preset="fast")
REPORTED = 25  # prompts, at most, behind rows that no bar stands on
STEPS = (1, 2, 16)  # further numbers of steps whose distance to real renders is reported
GATED = Setting("8-steps-guidance-to-half", 8, guidance_stop=0.5)  # the last four steps cost half
SCHEDULERS = ("ddim", "euler", "dpmpp-1m", "dpmpp-3m")  # at 8 steps, reported beside the pack's own
VARIED = 24  # prompts drawn with VARIED_SEEDS each, for diversity
VARIED_SEEDS = 16
FITTED = 250  # single-object pictures whose crispness is measured, at most

# name, what it is of, bar in per cent (None: reported only)
RIGHT = (("single object right", "single", False, 99.0), ("background right", "background", None, 99.5),
         ("both objects right", "both", True, 92.0), ("relation right given both", "relation", True, 97.0))


class Evaluation:
    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.judge = load_judge(args.state)
        self.prompts = held_out_prompts(args.prompts)
        self.scenes = [p.scene for p in self.prompts for _ in range(SEEDS)]
        self.of_prompt = np.repeat(np.arange(len(self.prompts)), SEEDS)
        self.trial = args.state / "trial"
        self.rows: list[Row] = []
        self.verdicts: dict[str, M.Verdict] = {}
        self.pictures: dict[str, np.ndarray] = {}

    def make(self, setting: Setting, pack: Path | None = None, name: str | None = None, prompts: int | None = None) -> str:
        """Makes and judges the pictures of a setting, of the first `prompts` or all; returns its name."""
        name = name or setting.name
        if name not in self.verdicts:
            made = make_pictures(self.args.easeld, pack or self.args.pack, setting, self.prompts[:prompts],
                                 self.trial / ("fp32" if pack else "int8"), workers=self.args.workers)
            self.pictures[name] = made
            self.verdicts[name] = M.judge_pictures(self.judge, made, self.scenes[: len(made)])
        return name

    def right(self, name: str, what: str, two: bool | None) -> tuple[np.ndarray, np.ndarray]:
        """(right or wrong, prompt of each) over the pictures a row is about."""
        verdict = self.verdicts[name]
        chosen = np.ones(len(verdict.two), bool) if two is None else verdict.two == two
        if what == "relation":
            chosen &= verdict.both
        return getattr(verdict, what)[chosen], self.of_prompt[chosen]

    def absolute(self) -> None:
        name = self.make(BASE)
        for title, what, two, bar in RIGHT:
            right, _ = self.right(name, what, two)
            value, half = M.share(right)
            self.rows.append(
                Row(f"{title}, 8 steps", f"{value:.1f} ± {half:.1f} % of {len(right)}", f">= {bar} %", value >= bar))

    def compared(self, title: str, other: str, points: float) -> None:
        """Every row of RIGHT at `other` against the base, in pairs; the whole 95 % interval has to lie inside the bar."""
        a, b = self.verdicts[other], self.verdicts[BASE.name]
        count = len(a.two)
        for what_title, what, two, _ in RIGHT:
            chosen = np.ones(count, bool) if two is None else a.two == two
            if what == "relation":
                chosen &= a.both & b.both[:count]
            mean, half = M.paired(getattr(a, what)[chosen], getattr(b, what)[:count][chosen], self.of_prompt[:count][chosen])
            worst = max(abs(mean - half), abs(mean + half)) if points <= 2 else -(mean - half)
            self.rows.append(Row(f"{title}: {what_title}", f"{mean:+.1f} ± {half:.1f} points of {chosen.sum()} pairs",
                                 f"within {points:g}", worst <= points))

    def crispness(self) -> None:
        scenes = Scenes(7)
        verdict, pictures = self.verdicts[BASE.name], self.pictures[BASE.name]
        chosen = np.flatnonzero(~verdict.two)[:: max(1, (~verdict.two).sum() // FITTED)]
        fits = [M.best_fit(pictures[i], self.scenes[i].objects[0][0], scenes) for i in tqdm(chosen, desc="fits")]
        real = []
        for i in chosen[::4]:
            scene = scenes.place_one(self.scenes[i].objects[0][0], self.scenes[i].colour)
            jittered = np.roll((scenes.render(scene) * 255).round().astype(np.uint8), (0, 1), (0, 1))
            real.append(M.psnr(jittered[None], (scenes.render(scene) * 255).round().astype(np.uint8)[None])[0])
        value = float(np.median([f.psnr for f in fits]))
        self.rows.append(Row("crispness: median PSNR to the best-fitting render",
                             f"{value:.1f} dB (two real renders, fresh shades, one pixel apart: {np.median(real):.1f} dB)",
                             ">= 23 dB, aim 26", value >= 23))

    def diversity(self) -> None:
        prompts = [p for p in self.prompts if p.scene.arrangement == "one"][:VARIED]
        pictures = make_pictures(self.args.easeld, self.args.pack, Setting("varied", 8), prompts,
                                 self.trial / "int8", VARIED_SEEDS, self.args.workers)
        scenes = Scenes(8)
        whiches = [p.scene.objects[0][0] for p in prompts]
        made = [[M.best_fit(pictures[i * VARIED_SEEDS + k], which, scenes) for k in range(VARIED_SEEDS)]
                for i, which in enumerate(tqdm(whiches, desc="spread"))]
        real = []
        for prompt, which in zip(prompts, whiches):
            drawn = [scenes.place_one(which, prompt.scene.colour) for _ in range(VARIED_SEEDS)]
            real.append([M.best_fit(r, which, scenes) for r in M.renders(drawn, scenes)])
        ours, theirs = M.spread(made), M.spread(real)
        for what in ours:
            title = f"diversity: spread of {what} over {VARIED_SEEDS} seeds, of the data's"
            if theirs[what] == 0:
                self.rows.append(Row(title, f"{ours[what]:.1f} pixels; the data has one {what}"))
                continue
            ratio = ours[what] / theirs[what]
            self.rows.append(Row(title, f"{ratio:.2f} ({ours[what]:.1f} to {theirs[what]:.1f})", ">= 0.7", ratio >= 0.7))

    def distances(self) -> None:
        drawn_by, scenes = Scenes(9), [p.scene for p in self.prompts]
        renders = np.concatenate([M.renders(scenes, drawn_by) for _ in range(SEEDS)])
        real = M.judge_pictures(self.judge, renders, scenes * SEEDS).features
        half = len(real) // 2
        self.rows.append(Row("distance of two halves of real renders", f"{M.frechet(real[:half], real[half:]):.2f}"))
        for name, verdict in self.verdicts.items():
            self.rows.append(Row(f"distance to real renders, {name}", f"{M.frechet(verdict.features, real):.2f}"))

    def run(self) -> None:
        args = self.args
        read = accuracy(self.judge, 4000, 123)
        self.rows.append(Row("the judge on 4,000 fresh real renders",
                             ", ".join(f"{k} {100 * v:.2f} %" for k, v in read.items()), ">= 99 % each",
                             min(read.values()) >= 0.99))
        self.absolute()
        if not args.brief:
            self.compared("50 steps DDIM", self.make(FIFTY, prompts=args.slow), 2)
        self.compared("4 steps", self.make(FOUR), 5)
        if (args.pack / "unet_fast").exists():
            self.compared("`fast`, 2 steps, no guidance", self.make(FAST), 5)
        else:
            self.rows.append(Row("`fast`, 2 steps, no guidance", "not run: the pack has no unet_fast", "within 5", False))
        if args.fp32:
            other = Setting(BASE.name, BASE.steps, compute="f32")
            name = self.make(other, args.fp32, "fp32, 8 steps", args.slow)
            self.compared("fp32", name, 1)
            exact = self.pictures[name]
            value = float(np.median(M.psnr(self.pictures[BASE.name][: len(exact)], exact)))
            self.rows.append(Row("int8 against fp32, same noise: median PSNR", f"{value:.1f} dB", ">= 25 dB, aim 30", value >= 25))
        else:
            self.rows.append(Row("int8 against fp32", "not run: no fp32 pack given", "within 1"))
        self.crispness()
        self.diversity()
        self.rows += similarity.rows(args.pack, args.workers)
        if not args.brief:
            for steps in STEPS:
                self.make(Setting(f"{steps}-steps", steps), prompts=REPORTED)
            for scheduler in SCHEDULERS:
                self.make(Setting(f"8-steps-{scheduler}", 8, scheduler=scheduler), prompts=REPORTED)
            self.compared("guidance to half of 8 steps", self.make(GATED, prompts=REPORTED), 5)
        self.distances()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="holds judge.pt; pictures and results go here")
    parser.add_argument("--pack", type=Path, default=HERE.parent / "emoji")
    parser.add_argument("--fp32", type=Path, help="the same checkpoint exported without quantization")
    parser.add_argument("--easeld", type=Path, default=HERE.parents[1] / "target/release/easeld")
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--slow", type=int, help="prompts, at most, of 50 steps and of fp32, which take longest [all]")
    parser.add_argument("--brief", action="store_true", help="leave out 50 steps and what is only reported")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread that make pictures")
    parser.add_argument("--readme", action="store_true", help="put the table into the pack's README, the grid beside it")
    args = parser.parse_args()
    torch.set_num_threads(args.workers)
    evaluation = Evaluation(args)
    evaluation.run()
    text = table(evaluation.rows)
    print(text)
    (args.state / "evaluation.json").write_text(json.dumps([row.__dict__ for row in evaluation.rows], indent=1, default=bool) + "\n")
    if args.readme:
        write_grid(args, args.pack / "steps.png")
        readme = args.pack / "README.md"
        before, _, rest = readme.read_text().partition("<!-- evaluation -->")
        readme.write_text(f"{before}<!-- evaluation -->\n{text}<!-- end -->{rest.partition('<!-- end -->')[2]}")


if __name__ == "__main__":
    main()
