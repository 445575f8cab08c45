"""Writes a diffusers folder of the SD 1.x kind as one file in the original layout (ldm), for tests of reading it.

The names are those of the `.ckpt` that CompVis published: model.diffusion_model.*, first_stage_model.*, cond_stage_model.*.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

UNET = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0", "conv_out": "out.2"}
RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
          "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
LEVELS, LAYERS = 4, 2


def unet_name(name: str) -> str:
    for ours, theirs in UNET.items():
        if name.startswith(ours + "."):
            return theirs + name[len(ours):]
    prefix, rest = None, ""
    if found := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        prefix, rest = f"middle_block.{2 * int(found[2]) if found[1] == 'resnets' else 1}", found[3]
    elif found := re.match(r"down_blocks\.(\d)\.(resnets|attentions)\.(\d)\.(.*)", name):
        at = (LAYERS + 1) * int(found[1]) + int(found[3]) + 1
        prefix, rest = f"input_blocks.{at}.{int(found[2] == 'attentions')}", found[4]
    elif found := re.match(r"up_blocks\.(\d)\.(resnets|attentions)\.(\d)\.(.*)", name):
        at = (LAYERS + 1) * int(found[1]) + int(found[3])
        prefix, rest = f"output_blocks.{at}.{int(found[2] == 'attentions')}", found[4]
    elif found := re.match(r"down_blocks\.(\d)\.downsamplers\.0\.conv\.(.*)", name):
        return f"input_blocks.{(LAYERS + 1) * (int(found[1]) + 1)}.0.op.{found[2]}"
    elif found := re.match(r"up_blocks\.(\d)\.upsamplers\.0\.(.*)", name):
        level = int(found[1])
        return f"output_blocks.{(LAYERS + 1) * level + LAYERS}.{1 if level == 0 else 2}.{found[2]}"
    assert prefix is not None, name
    if "resnets" in name:
        part, end = rest.rsplit(".", 1)
        rest = f"{RESNET[part]}.{end}"
    return f"{prefix}.{rest}"


def vae_name(name: str) -> str:
    name = re.sub(r"(encoder\.)down_blocks\.(\d)\.resnets\.(\d)", r"\1down.\2.block.\3", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda found: f"up.{LEVELS - 1 - int(found[1])}.upsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda found: f"up.{LEVELS - 1 - int(found[1])}.block.{found[2]}", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
    if "mid_block.attentions.0." in name:
        name = name.replace("mid_block.attentions.0.", "mid.attn_1.")
        for ours, theirs in ATTENTION.items():
            name = name.replace(f"attn_1.{ours}.", f"attn_1.{theirs}.")
    return name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")


def write(folder: Path, out: Path) -> None:
    found: dict[str, torch.Tensor] = {}
    for name, value in load_file(folder / "unet/diffusion_pytorch_model.safetensors").items():
        found[f"model.diffusion_model.{unet_name(name)}"] = value
    for name, value in load_file(folder / "vae/diffusion_pytorch_model.safetensors").items():
        theirs = vae_name(name)
        if "attn_1" in theirs and value.dim() == 2:
            value = value[:, :, None, None]  # 1 x 1 convolutions there
        found[f"first_stage_model.{theirs}"] = value
    for name, value in load_file(folder / "text_encoder/model.safetensors").items():
        name = name if name.startswith("text_model.") else f"text_model.{name}"
        found[f"cond_stage_model.transformer.{name}"] = value
    save_file({name: value.contiguous() for name, value in found.items()}, out)
