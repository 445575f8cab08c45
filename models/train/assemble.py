"""Writes the newest averaged weights as an ordinary diffusers folder (fp32 safetensors)."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import torch

import models
import tokenizer as T
from session import averaged
from train_vae import tuned_vae

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.30.0",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
    "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
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
    """Checkpoints in `state` -> diffusers folder `out`. `untrained` keeps the random initialisation.

    The distilled UNet is left out while there is no checkpoint of it, the image tower while the text tower does not fit it.
    """
    torch.manual_seed(0)
    vae, unet, fast, image = models.build_vae(), models.build_unet(), models.build_unet(), models.build_image_encoder()
    text = models.build_text_encoder(len(T.load_tokenizer(state / "tokenizer")))
    has_fast, has_image = (untrained or (state / name).exists() for name in ("fast.pt", "text.pt"))
    if not untrained:
        vae.load_state_dict(tuned_vae(state))
        unet.load_state_dict(averaged(state / "unet.pt", "unet"))
        text.load_state_dict(averaged(state / ("text.pt" if has_image else "unet.pt"), "text"))
        if has_fast:
            fast.load_state_dict(averaged(state / "fast.pt", "unet"))
        if has_image:
            followed = state / "image.pt"
            image.load_state_dict(averaged(followed if followed.exists() else state / "clip.pt", "image"))
    write_folder(out, text, unet, vae, fast if has_fast else None, image if has_image else None)


def write_folder(out: Path, text, unet, vae, fast=None, image=None) -> None:
    """The networks, with tokenizer and scheduler, as the diffusers folder `out`; what was there before goes."""
    shutil.rmtree(out, ignore_errors=True)
    T.write_tokenizer(out / "tokenizer")
    vae.save_pretrained(out / "vae")
    unet.save_pretrained(out / "unet")
    text.save_pretrained(out / "text_encoder")
    index = dict(INDEX)
    if fast is not None:
        fast.save_pretrained(out / "unet_fast")
    if image is not None:
        image.save_pretrained(out / "image_encoder")
        models.build_image_processor().save_pretrained(out / "feature_extractor")
        index["image_encoder"] = ["transformers", "CLIPVisionModelWithProjection"]
        index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    models.build_scheduler().save_pretrained(out / "scheduler")
    drop_infinities(out / "scheduler/scheduler_config.json")
    (out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
