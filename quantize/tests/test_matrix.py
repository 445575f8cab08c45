"""The tables of docs/models.md: new cells take their places, all others stay as they stand."""

from __future__ import annotations

import shutil
from pathlib import Path

import matrix
import matrix_table

PAGE = Path(__file__).resolve().parents[2] / "docs/models.md"


def written(folder: Path, rows: list) -> str:
    page = folder / "models.md"
    shutil.copy(PAGE, page)
    matrix_table.write(page, rows, matrix.twins)
    return page.read_text(encoding="utf-8")


def test_nothing_new_leaves_the_page_as_it_is(tmp_path):
    assert written(tmp_path, []) == PAGE.read_text(encoding="utf-8")


def test_a_new_cell_takes_its_place_and_notes_are_numbered_anew(tmp_path):
    found = matrix.Found("sd15", "unet", True, "int8-kept", 860_000_000, int8=0.0123, share=0.5)
    skipped = matrix.Found("sd15", "text_encoder", False, "torchscript-17", note="a reason of its own")
    before, after = (text.splitlines() for text in (PAGE.read_text(encoding="utf-8"), written(tmp_path, [found, skipped])))
    changed = [line for line, old in zip(after, before) if line.startswith("| UNet: sd15") and line != old]
    assert len(changed) == 1 and changed[0].endswith("| 1.2% | 0.500 |"), changed
    assert any(line.endswith("a reason of its own") for line in after)
    # Every cell still says what it said, under whatever number.
    old, new = (matrix_table.Page("\n".join(lines)).cells for lines in (before, after))
    same = {key for key in old if old[key] == new[key]}
    assert old.keys() == new.keys() and len(same) >= len(old) - 4, old.keys() - same
