"""The networks of a diffusers folder with the inputs and outputs that their ONNX files have.

Names follow Optimum's exporter; shapes are in export.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AsymmetricAutoencoderKL, AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionModelWithProjection

VAES = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny, "AsymmetricAutoencoderKL": AsymmetricAutoencoderKL}
# The logarithm of a variance that is none: tiny autoencoders give the latents themselves.
NO_VARIANCE = -30.0


class TextEncoder(torch.nn.Module):
    """The causal mask is handed over ready made, so that it becomes a constant of the graph."""

    def __init__(self, model: CLIPTextModel | CLIPTextModelWithProjection, penultimate: bool = False):
        super().__init__()
        self.text_projection = getattr(model, "text_projection", None)
        self.model = model if self.text_projection is None else model.text_model
        self.penultimate = penultimate
        length = model.config.max_position_embeddings
        mask = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)
        self.register_buffer("mask", mask[None, None], persistent=False)

    def forward(self, input_ids):
        out = self.model(input_ids=input_ids, attention_mask=self.mask, output_hidden_states=self.penultimate)
        found = [out.last_hidden_state, out.pooler_output]
        if self.text_projection is not None:
            found.append(self.text_projection(out.pooler_output))
        if self.penultimate:
            found.append(out.hidden_states[-2])
        return tuple(found)


class ImageEncoder(torch.nn.Module):
    def __init__(self, model: CLIPVisionModelWithProjection):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        return self.model(pixel_values=pixel_values).image_embeds


class Unet(torch.nn.Module):
    """Takes `timestep_cond` too, which latent consistency models have."""

    def __init__(self, model: UNet2DConditionModel):
        super().__init__()
        self.model = model

    def forward(self, sample, timestep, encoder_hidden_states, timestep_cond=None):
        return self.model(sample, timestep, encoder_hidden_states, timestep_cond=timestep_cond, return_dict=False)[0]


class UnetXl(torch.nn.Module):
    """SDXL's: the pooled text and six numbers (original size, crop, target size) are added to the time embedding."""

    def __init__(self, model: UNet2DConditionModel):
        super().__init__()
        self.model = model

    def forward(self, sample, timestep, encoder_hidden_states, text_embeds, time_ids, timestep_cond=None):
        added = {"text_embeds": text_embeds, "time_ids": time_ids}
        return self.model(sample, timestep, encoder_hidden_states, timestep_cond=timestep_cond,
                          added_cond_kwargs=added, return_dict=False)[0]


def wrapped_unet(model: UNet2DConditionModel) -> Unet | UnetXl:
    return (UnetXl if model.config.addition_embed_type == "text_time" else Unet)(model)


class VaeDecoder(torch.nn.Module):
    def __init__(self, model: AutoencoderKL | AutoencoderTiny | AsymmetricAutoencoderKL):
        super().__init__()
        self.model = model

    def forward(self, latent_sample):
        return self.model.decode(latent_sample, return_dict=False)[0]


class VaeEncoder(torch.nn.Module):
    """Mean and log variance, whatever the autoencoder gives."""

    def __init__(self, model: AutoencoderKL | AutoencoderTiny | AsymmetricAutoencoderKL):
        super().__init__()
        self.model = model

    def forward(self, sample):
        found = self.model.encode(sample, return_dict=False)[0]
        if isinstance(found, torch.Tensor):
            return torch.cat([found, torch.full_like(found, NO_VARIANCE)], 1)
        return found.parameters


def plain_attention(model: torch.nn.Module) -> torch.nn.Module:
    """MatMul and Softmax, which every exporter and runtime knows, instead of a fused operator."""
    for module in model.modules():
        if hasattr(module, "set_processor"):
            module.set_processor(AttnProcessor())
    return model


def load_text_encoder(folder: Path):
    projected = read_config(folder).get("architectures") == ["CLIPTextModelWithProjection"]
    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    return kind.from_pretrained(folder, attn_implementation="eager")


def load_unet(folder: Path) -> UNet2DConditionModel:
    return plain_attention(UNet2DConditionModel.from_pretrained(folder))


def load_vae(folder: Path):
    name = read_config(folder).get("_class_name", "AutoencoderKL")
    if name not in VAES:
        raise SystemExit(f"{folder / 'config.json'}: _class_name {name} is not one of {', '.join(VAES)}")
    return plain_attention(VAES[name].from_pretrained(folder))


def read_config(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def vae_levels(config: dict) -> list[int]:
    """Channels of the decoder's levels, whatever the kind of autoencoder calls them."""
    for key in ("block_out_channels", "up_block_out_channels", "decoder_block_out_channels"):
        if config.get(key):
            return list(config[key])
    raise SystemExit("config.json of the VAE has no block_out_channels")
