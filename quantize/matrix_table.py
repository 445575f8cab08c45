"""The tables of docs/models.md, from what matrix.py found."""

from __future__ import annotations

from pathlib import Path

import architectures
from matrix_variants import SAMPLE

BEGIN, END = "<!-- matrix: quantize/matrix.py writes what follows -->", "<!-- end of the matrix -->"
# Column of small networks -> the variants that it gathers.
EXPORTS = {
    "TorchScript, opset 14 to 20": [f"torchscript-{opset}" for opset in range(14, 21)],
    "dynamo, opset 18 to 20": [f"dynamo-{opset}" for opset in range(18, 21)],
    "fp16": ["torchscript-17-fp16", "dynamo-18-fp16"],
    "external data, one file and many": ["external-one", "external-many"],
    "Optimum": ["optimum-14", "optimum-17", "optimum-18"],
}
QUANTIZED = {
    "`quantize.py`": ["ours"], "`easeld pack quantize`": ["easeld"], "ORT dynamic": ["ort-dynamic", "ort-dynamic-u8"],
    "ORT static": ["ort-qdq", "ort-qoperator"], "`MatMulNBits`, 4 bits": ["nbits-4"], "8 bits": ["nbits-8"],
}
PARTS = {"text_encoder": "text encoder", "text_encoder_2": "second text encoder", "unet": "UNet", "vae_decoder": "VAE decoder",
         "vae_encoder": "VAE encoder"}


# What stands for a network that was not run at full size.
INSTEAD = {
    ("lcm", "unet"): "not run alone: Stable Diffusion 1.5's UNet with one linear layer more, and `whole.py` makes pictures of it",
}
SAMPLED = ("some of them (`--sample`: TorchScript 14, 17 and 20, dynamo 18 and 20, fp16 by TorchScript, many files, Optimum 17, ORT's "
           "dynamic and QDQ forms): the blocks are those of a network above, of which every one was run")


class Notes:
    """Reasons, numbered in the order in which they come up."""

    def __init__(self):
        self.said: list[str] = []

    def of(self, text: str) -> str:
        if text not in self.said:
            self.said.append(text)
        return f"[{self.said.index(text) + 1}]"

    def lines(self) -> list[str]:
        return [f"{number}. {text}" for number, text in enumerate(self.said, 1)]


def exact(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-")


def near(value: float) -> str:
    return percent(value) if value >= 1e-3 else exact(value)


def percent(value: float) -> str:
    return f"{value:.1%}" if value < 0.0995 else f"{value:.0%}"


def cell(rows: list, wanted: list[str], notes: Notes, quantized: bool) -> str:
    """What a group of variants gave at worst."""
    done = [row for row in rows if row.int8 is not None]
    marks = {notes.of(row.note) for row in rows if row.note}
    missing = set(wanted) - {row.variant for row in rows}
    if missing & SAMPLE:
        marks.add(notes.of("not run yet"))
    elif missing:
        marks.add(notes.of(SAMPLED))
    if not done:
        return " ".join(sorted(marks))
    worst = lambda key: max(value for value in (getattr(row, key) for row in done) if value is not None)  # noqa: E731
    if quantized:
        text = f"{percent(worst('int8'))}, ORT {percent(worst('ort'))}; {near(worst('f32'))} of {percent(worst('noise'))}"
    else:
        text = f"{exact(worst('f32'))}, {percent(worst('int8'))}"
    return " ".join([text, *sorted(marks)])


def used_by(twins: dict) -> dict[tuple, list[str]]:
    """Network -> the architectures that have it."""
    found: dict[tuple, list[str]] = {}
    for (name, _), place in twins.items():
        found.setdefault(place, []).append(name)
    return found


def label(place: tuple, names: list[str]) -> str:
    return f"{PARTS[place[1]]}: {', '.join(names)}"


def legend() -> str:
    titles = [f"{name}: {architecture.title}" for name, architecture in architectures.ARCHITECTURES.items()]
    return "Networks that several architectures share have one line. " + "; ".join(titles) + "."


def table(header: list[str], lines: list[list[str]]) -> list[str]:
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return ["| " + " | ".join(line) + " |" for line in (header, rule, *lines)]


def small(rows: list, twins: dict, columns: dict, notes: Notes, quantized: bool) -> list[str]:
    lines = []
    for place, names in used_by(twins).items():
        mine = [row for row in rows if not row.full and (row.architecture, row.component) == place]
        cells = [cell([row for row in mine if row.variant in variants], variants, notes, quantized)
                 for variants in columns.values()]
        lines.append([label(place, names), *cells])
    return table(["network", *columns], lines)


def full(rows: list, twins: dict, notes: Notes) -> list[str]:
    lines = []
    for place, names in used_by(twins).items():
        mine = {row.variant: row for row in rows if row.full and (row.architecture, row.component) == place}
        export, int8 = mine.get("torchscript-17-fp16"), mine.get("int8")
        size = next((row.parameters for row in mine.values()), 0)
        line = [label(place, names), f"{size / 1e6:.0f} M" if size else ""]
        # In f32 easeld computes an int8 pack with its weights' error alone.
        for row, key, form in ((export, "f32", exact), (export, "int8", percent), (int8, "int8", percent), (int8, "f32", percent)):
            value = getattr(row, key) if row else None
            why = row.note if row and row.note else INSTEAD.get(place, "not run yet")
            line.append(form(value) if value is not None else notes.of(why))
        kept = mine.get("int8-kept")
        if kept and kept.int8 is not None:
            line += [percent(kept.int8), f"{kept.share:.3f}"]
        else:
            line += [notes.of(kept.note) if kept and kept.note else "", ""]
        lines.append(line)
    return table(["network", "parameters", "fp16 export: easeld f32", "easeld int8", "int8 pack of it: easeld", "its weights alone",
                  "layers kept for 3%: easeld", "bytes / f32"], lines)


def write(path: Path, rows: list, twins) -> None:
    """Puts the tables between the markers of the page."""
    notes = Notes()
    lines = [legend(), "", "### Small versions, every way", "",
             "Worst relative error of each group: easeld in f32 against ONNX Runtime on the same graph, then easeld in int8 "
             "against the f32 network.", "",
             *small(rows, twins(False), EXPORTS, notes, False), "",
             "The same networks as quantizers leave them: easeld in int8 and ONNX Runtime (ORT) against the f32 network; then easeld "
             "in the graph's own arithmetic (`--compute f32`) against ORT on the same graph, of how far ORT is from itself there "
             "when its optimizations are on or its inputs change by a hundred-thousandth.", "",
             *small(rows, twins(False), QUANTIZED, notes, True), "",
             "### Full size", "", "Relative errors to the f32 network in ONNX Runtime.", "", *full(rows, twins(True), notes), ""]
    lines += notes.lines()
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    path.write_text(before + BEGIN + "\n\n" + "\n".join(lines).rstrip() + "\n\n" + END + after, encoding="utf-8")
