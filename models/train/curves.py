"""Draws the loss of every training stage over its wall time, and prints what each took.

    python models/train/curves.py --state STATE --out models/emoji/training.svg

Reads the `history` of the checkpoints in STATE. The table goes to standard output, as Markdown.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch

STAGES = ("vae", "clip", "unet", "text", "fast", "decoder", "judge")
WIDTH, HEIGHT, MARGIN, COLUMNS = 240, 150, 34, 4


def parameters(saved: dict) -> int:
    return sum(value.numel() for module in saved["model"].values() for value in module.values())


def panel(name: str, history: list[dict], left: int, top: int) -> str:
    """One curve: minutes across, loss up (logarithmic), first and last value written."""
    points = [(h["seconds"] / 60, h["loss"]) for h in history if h.get("loss", 0) > 0]
    if len(points) < 2:
        return ""
    end = points[-1][0] or 1.0
    low, high = (math.log(f(loss for _, loss in points)) for f in (min, max))
    high = max(high, low + 1e-6)
    x = lambda minute: left + MARGIN + minute / end * (WIDTH - MARGIN - 8)  # noqa: E731
    y = lambda loss: top + 20 + (high - math.log(loss)) / (high - low) * (HEIGHT - 48)  # noqa: E731
    line = " ".join(f"{x(minute):.1f},{y(loss):.1f}" for minute, loss in points[:: max(1, len(points) // 200)])
    box = f'<rect x="{left + MARGIN}" y="{top + 20}" width="{WIDTH - MARGIN - 8}" height="{HEIGHT - 48}" class="box"/>'
    label = lambda text, x, y, anchor: f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>'  # noqa: E731
    return "\n".join((
        box, f'<polyline points="{line}"/>', label(f"{name}", left + MARGIN, top + 14, "start"),
        label(f"{math.exp(high):.3g}", left + MARGIN - 3, top + 28, "end"),
        label(f"{math.exp(low):.3g}", left + MARGIN - 3, top + HEIGHT - 30, "end"),
        label(f"{end:.0f} min", left + WIDTH - 8, top + HEIGHT - 14, "end"),
    ))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    panels = []
    print("| stage | parameters trained | steps | wall time | loss at the end |\n| --- | --- | --- | --- | --- |")
    for name in STAGES:
        path = args.state / f"{name}.pt"
        if not path.exists():
            continue
        saved = torch.load(path, map_location="cpu")
        history = saved["history"]
        last = f"{history[-1]['loss']:.4g}" if history and "loss" in history[-1] else "-"
        print(f"| {name} | {parameters(saved) / 1e6:.2f} M | {saved['step']:,} | {saved['seconds'] / 60:.1f} min | {last} |")
        at = len(panels)
        panels.append(panel(name, history, at % COLUMNS * WIDTH, at // COLUMNS * HEIGHT))
    rows = -(-len(panels) // COLUMNS)
    style = ("text{font:11px sans-serif;fill:#555}polyline{fill:none;stroke:#1f6feb;stroke-width:1.5}"
             ".box{fill:none;stroke:#ccc}")
    args.out.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {COLUMNS * WIDTH} {rows * HEIGHT}">'
                        f"<style>{style}</style>\n" + "\n".join(panels) + "\n</svg>\n")


if __name__ == "__main__":
    main()
