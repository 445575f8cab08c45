"""The trial: the held-out prompts every figure is measured on, and pictures of them made by easeld itself."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from scenes import Scene, Scenes

SEEDS = 4  # pictures of each prompt
TRIAL_SEED = 90_210  # of the prompts; no training uses it


@dataclass(frozen=True)
class Prompt:
    """A prompt and the scene it asks for."""

    text: str
    scene: Scene


@dataclass(frozen=True)
class Setting:
    """How the pictures of a trial are made; None stands for the pack's own choice."""

    name: str
    steps: int
    scheduler: str | None = None
    guidance_scale: float | None = None
    preset: str | None = None
    guidance_stop: float | None = None
    cache_interval: int | None = None
    compute: str = "int8"

    def request(self) -> dict:
        fields = asdict(self)
        return {k: v for k, v in fields.items() if v is not None and k not in ("name", "compute")}


def held_out_prompts(count: int) -> list[Prompt]:
    """`count` prompts, half of one object and half of two, of combinations that training never shows.

    Every prompt names its background; wordings are those of training, without nonsense words around them.
    """
    scenes = Scenes(TRIAL_SEED)
    prompts = []
    for i in range(count):
        scene = scenes.place(two_share=float(i % 2), held_out=True)
        while True:
            text = scenes.caption(scene)
            if any(word in text.split() for word in (scene.colour, *scenes.captions.colour_words(scene.colour))):
                break
        prompts.append(Prompt(text, scene))
    return prompts


def make_pictures(easeld: Path, pack: Path, setting: Setting, prompts: list[Prompt], out: Path, seeds: int = SEEDS,
                  workers: int = 2) -> np.ndarray:
    """uint8 [len(prompts) * seeds, H, W, 3], prompt by prompt; pictures that lie in `out` already are not made again.

    `workers` processes of one thread each share the work.
    """
    folder = out / setting.name
    folder.mkdir(parents=True, exist_ok=True)
    requests = [
        {"id": f"{i:04}-{seed}", "prompt": p.text, "seed": 1000 * i + seed, **setting.request()}
        for i, p in enumerate(prompts) for seed in range(seeds)
    ]
    missing = [r for r in requests if not (folder / f"{r['id']}.png").exists()]
    running = []
    for worker in range(min(workers, len(missing))):
        part = folder / f"requests-{worker}.jsonl"
        part.write_text("".join(json.dumps(r) + "\n" for r in missing[worker::workers]))
        running.append(subprocess.Popen(
            [easeld, "generate", "--model", pack, "--threads", "1", "--compute", setting.compute,
             "--batch-file", part, "--out-dir", folder], stdout=subprocess.DEVNULL))
    if any(process.wait() != 0 for process in running):
        raise RuntimeError(f"{easeld} failed on {setting.name}")
    return np.stack([np.asarray(Image.open(folder / f"{r['id']}.png").convert("RGB")) for r in requests])
