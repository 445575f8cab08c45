"""Writes the newest averaged weights as an ordinary diffusers folder (fp32 safetensors)."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import torch

import models
import tokenizer as T

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.30.0",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def drop_infinities(path: Path) -> None:
    """diffusers writes `-Infinity`, which is no JSON, for a setting that is off; its default says the same."""
    config = json.loads(path.read_text())
    finite = {k: v for k, v in config.items() if not (isinstance(v, float) and math.isinf(v))}
    path.write_text(json.dumps(finite, indent=2) + "\n")


def assemble(state: Path, out: Path, untrained: bool = False) -> None:
    """Checkpoints in `state` -> diffusers folder `out`. `untrained` keeps the random initialisation."""
    torch.manual_seed(0)
    shutil.rmtree(out, ignore_errors=True)
    T.write_tokenizer(out / "tokenizer")
    vae, unet = models.build_vae(), models.build_unet()
    text = models.build_text_encoder(len(T.load_tokenizer(out / "tokenizer")))
    scaling = 1.0
    if not untrained:
        tuned = state / "decoder.pt"
        vae_path = tuned if tuned.exists() else state / "vae-unit.pt"
        vae.load_state_dict(torch.load(vae_path, map_location="cpu")["ema"])
        saved = torch.load(state / "unet.pt", map_location="cpu")
        unet.load_state_dict(saved["unet_ema"])
        text.load_state_dict(saved["text_ema"])
        scaling = round(saved["scaling_factor"], 6)
    vae.register_to_config(scaling_factor=scaling)
    vae.save_pretrained(out / "vae")
    unet.save_pretrained(out / "unet")
    text.save_pretrained(out / "text_encoder")
    models.build_scheduler().save_pretrained(out / "scheduler")
    drop_infinities(out / "scheduler/scheduler_config.json")
    (out / "model_index.json").write_text(json.dumps(INDEX, indent=2) + "\n")
