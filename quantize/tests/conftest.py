"""Small Stable Diffusion checkpoints of random weights, made once for all tests."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "quantize"))
TOKENIZER = ROOT / "models/emoji/tokenizer"
WORDS = 2048


def small(name: str):
    import architectures

    made = architectures.small(architectures.ARCHITECTURES[name])
    text = lambda config: config and config | {"vocab_size": WORDS}  # noqa: E731
    return dataclasses.replace(made, text=text(made.text), text_2=text(made.text_2))


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """name -> a diffusers folder."""
    import architectures

    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = architectures.write(name, small(name), tmp_path_factory.mktemp(name) / name, TOKENIZER)
        return made[name]

    return folder


@pytest.fixture(scope="session")
def exported(folders, tmp_path_factory):
    """name -> its ONNX folder."""
    import export

    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(f"{name}-onnx")
            export.export(folders(name), made[name])
        return made[name]

    return folder
