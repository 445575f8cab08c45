"""The tables of docs/models.md, from what matrix.py found; where it found nothing new, what stands on the page stays."""

from __future__ import annotations

import re
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


class Page:
    """What the page says between the markers: (network, column) -> its cell, with notes in place of their numbers."""

    def __init__(self, text: str):
        notes = dict(re.findall(r"^(\d+)\. (.*)$", text, re.MULTILINE))
        self.cells: dict[tuple[str, str], list[str]] = {}
        columns: list[str] = []
        for line in text.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
            if cells[:1] == ["network"]:
                columns = cells
            elif cells and set(cells[0]) != {"-"}:
                for column, cell in zip(columns[1:], cells[1:]):
                    # Pieces of text, and every second one a note's.
                    pieces = re.split(r"\[(\d+)\]", cell)
                    pieces[1::2] = [notes[number] for number in pieces[1::2]]
                    self.cells[network(cells[0]), column] = pieces

    def cell(self, label: str, column: str, notes: Notes, otherwise: str = "") -> str:
        """What stands there, or nothing but the note `otherwise`."""
        pieces = list(self.cells.get((network(label), column), ["", otherwise, ""] if otherwise else [""]))
        pieces[1::2] = [notes.of(text) for text in pieces[1::2]]
        return "".join(pieces)


def network(label: str) -> str:
    """Which one a line is about, whoever else has it."""
    return label.split(",")[0]


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


def small(rows: list, twins: dict, columns: dict, notes: Notes, page: Page, quantized: bool) -> list[str]:
    lines = []
    for place, names in used_by(twins).items():
        line = [label(place, names)]
        for column, wanted in columns.items():
            mine = [row for row in rows if not row.full and (row.architecture, row.component) == place and row.variant in wanted]
            if mine or (network(line[0]), column) not in page.cells:
                line.append(cell(mine, wanted, notes, quantized))
            else:
                line.append(page.cell(line[0], column, notes))
        lines.append(line)
    return table(["network", *columns], lines)


# Columns at full size: of which variant, what of it, how written. In f32 easeld computes an int8 pack with its weights' error alone.
FULL = {
    "fp16 export: easeld f32": ("torchscript-17-fp16", "f32", exact), "easeld int8": ("torchscript-17-fp16", "int8", percent),
    "int8 pack of it: easeld": ("int8", "int8", percent), "its weights alone": ("int8", "f32", percent),
    "layers kept for 3%: easeld": ("int8-kept", "int8", percent), "bytes / f32": ("int8-kept", "share", "{:.3f}".format),
}


def full(rows: list, twins: dict, notes: Notes, page: Page) -> list[str]:
    lines = []
    for place, names in used_by(twins).items():
        mine = {row.variant: row for row in rows if row.full and (row.architecture, row.component) == place}
        line = [label(place, names)]
        size = next((row.parameters for row in mine.values()), 0)
        line.append(f"{size / 1e6:.0f} M" if size else page.cell(line[0], "parameters", notes))
        for column, (variant, key, form) in FULL.items():
            row = mine.get(variant)
            if row is None:
                # Where 8 bits keep to it anyway nobody asks what has to stay float.
                line.append(page.cell(line[0], column, notes, "" if variant == "int8-kept" else "not run yet"))
            else:
                value = getattr(row, key)
                line.append(form(value) if value is not None else notes.of(row.note))
        lines.append(line)
    return table(["network", "parameters", *FULL], lines)


def write(path: Path, rows: list, twins) -> None:
    """Puts the tables between the markers of the page."""
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    standing, after = rest.split(END)
    notes, page = Notes(), Page(standing)
    lines = [legend(), "", "### Small versions, every way", "",
             "Worst relative error of each group: easeld in f32 against ONNX Runtime on the same graph, then easeld in int8 "
             "against the f32 network.", "",
             *small(rows, twins(False), EXPORTS, notes, page, False), "",
             "The same networks as quantizers leave them: easeld in int8 and ONNX Runtime (ORT) against the f32 network; then easeld "
             "in the graph's own arithmetic (`--compute f32`) against ORT on the same graph, of how far ORT is from itself there "
             "when its optimizations are on or its inputs change by a hundred-thousandth.", "",
             *small(rows, twins(False), QUANTIZED, notes, page, True), "",
             "### Full size", "", "Relative errors to the f32 network in ONNX Runtime.", "",
             *full(rows, twins(True), notes, page), ""]
    lines += notes.lines()
    path.write_text(before + BEGIN + "\n\n" + "\n".join(lines).rstrip() + "\n\n" + END + after, encoding="utf-8")
