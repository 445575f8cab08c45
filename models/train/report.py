"""How an evaluation is shown: a table of rows with bars, and a grid of pictures over steps and precisions."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from scenes import Scene
from trial import Prompt, Setting, make_pictures

GRID_PROMPTS = ("a fox next to a crown on a pink background", "rocket on black", "a pizza above a guitar, green background",
                "a castle on a purple background", "an owl left of a clock on yellow", "draw me a snail on a teal background")
GRID_STEPS = (1, 2, 4, 8, 16, 50)


@dataclass
class Row:
    """One line of the table; `met` is None where nothing is asked."""

    measure: str
    value: str
    bar: str = "reported"
    met: bool | None = None


def table(rows: list[Row]) -> str:
    """Markdown."""
    mark = {None: "", True: "yes", False: "**no**"}
    lines = ["| measure | measured | bar | met |", "| --- | --- | --- | --- |"]
    lines += [f"| {r.measure} | {r.value} | {r.bar} | {mark[None if r.met is None else bool(r.met)]} |" for r in rows]
    return "\n".join(lines) + "\n"


def write_grid(args: argparse.Namespace, path: Path) -> None:
    """Prompts down, settings across: int8 at GRID_STEPS, `fast` where the pack has it, fp32 where one is given."""
    prompts = [Prompt(text, Scene("red", "one", ())) for text in GRID_PROMPTS]
    settings = [(f"{n} step{'s' * (n > 1)}", args.pack, Setting(f"grid-{n}", n)) for n in GRID_STEPS]
    if (args.pack / "unet_fast").exists():
        settings += [(f"fast, {n}", args.pack, Setting(f"grid-fast-{n}", n, preset="fast")) for n in (1, 2, 4)]
    if args.fp32:
        settings.append(("fp32, 8 steps", args.fp32, Setting("grid-fp32-8", 8, compute="f32")))
    columns = [make_pictures(args.easeld, pack, s, prompts, args.state / "trial/grid", 1, args.workers)
               for _, pack, s in settings]
    side, head = columns[0].shape[1], 16
    grid = Image.new("RGB", (len(columns) * side, head + len(prompts) * side), "white")
    draw, font = ImageDraw.Draw(grid), ImageFont.load_default()
    for x, ((title, _, _), column) in enumerate(zip(settings, columns)):
        draw.text((x * side + 4, 2), title, fill="black", font=font)
        grid.paste(Image.fromarray(np.concatenate(list(column))), (x * side, head))
    grid.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
