"""Exports a diffusers folder of the SD 1.x kind to the ONNX directory layout of Optimum.

    python quantize/export.py DIFFUSERS_FOLDER ONNX_FOLDER

Names of inputs and outputs, their types and their dynamic axes follow Optimum's exporter, so packs
written here and by `optimum-cli export onnx` are loaded the same way:

    text_encoder  input_ids [B, 77] i32 -> last_hidden_state [B, 77, C], pooler_output [B, C]; a
                  CLIPTextModelWithProjection gives text_embeds [B, P] too
    image_encoder pixel_values [B, 3, S, S] -> image_embeds [B, P], if the folder has one
    unet          sample [B, 4, h, w], timestep [1] i64, encoder_hidden_states [B, T, C] -> out_sample;
                  T = 77 for each window of the prompt; timestep_cond [B, G] too, if time_cond_proj_dim is G
    unet_*        further UNets of the folder (a distilled one, say), like unet
    vae_decoder   latent_sample [B, 4, h, w] -> sample [B, 3, H, W] in -1..1 (latents already unscaled)
    vae_encoder   sample [B, 3, H, W] -> latent_parameters [B, 8, h, w] (mean, log variance)
    vae_decoder_tiny  like vae_decoder, of an AutoencoderTiny (TAESD) in the folder's vae_tiny, if there is one

The TorchScript exporter is used: its graphs are plain (MatMul + Softmax attention, constants folded)
and every runtime knows them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import warnings
from pathlib import Path

import onnx
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionModelWithProjection

OPSET = 17
TOKENS = 77
# A message of protobuf is below 2 GiB; larger models keep their weights in model.onnx_data, as Optimum does.
PROTOBUF_MAX = 2_000_000_000


class TextEncoder(torch.nn.Module):
    """The causal mask is handed over ready made, so that it becomes a constant of the graph."""

    def __init__(self, model: CLIPTextModel | CLIPTextModelWithProjection):
        super().__init__()
        self.projection = getattr(model, "text_projection", None)
        self.model = model if self.projection is None else model.text_model
        length = model.config.max_position_embeddings
        mask = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)
        self.register_buffer("mask", mask[None, None], persistent=False)

    def forward(self, input_ids):
        out = self.model(input_ids=input_ids, attention_mask=self.mask)
        if self.projection is None:
            return out.last_hidden_state, out.pooler_output
        return out.last_hidden_state, out.pooler_output, self.projection(out.pooler_output)


class ImageEncoder(torch.nn.Module):
    def __init__(self, model: CLIPVisionModelWithProjection):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        return self.model(pixel_values=pixel_values).image_embeds


class Unet(torch.nn.Module):
    def __init__(self, model: UNet2DConditionModel):
        super().__init__()
        self.model = model

    def forward(self, sample, timestep, encoder_hidden_states, timestep_cond=None):
        return self.model(sample, timestep, encoder_hidden_states, timestep_cond=timestep_cond, return_dict=False)[0]


class VaeDecoder(torch.nn.Module):
    def __init__(self, model: AutoencoderKL | AutoencoderTiny):
        super().__init__()
        self.model = model

    def forward(self, latent_sample):
        return self.model.decode(latent_sample, return_dict=False)[0]


class VaeEncoder(torch.nn.Module):
    def __init__(self, model: AutoencoderKL):
        super().__init__()
        self.model = model

    def forward(self, sample):
        return self.model.encode(sample, return_dict=False)[0].parameters


def settle_names(value: onnx.ValueInfoProto, named: dict[int, str], length: int = TOKENS) -> None:
    """The exporter invents a name where it cannot follow a size; only the token axis is one such."""
    for i, size in enumerate(value.type.tensor_type.shape.dim):
        if size.dim_param and i not in named:
            size.dim_value = length


def write_onnx(module, inputs: dict, outputs: list[str], axes: dict, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        # Beyond 2 GB the exporter writes a file for every tensor beside the graph.
        exported = str(Path(scratch) / path.name)
        torch.onnx.export(
            module.eval(), tuple(inputs.values()), exported,
            input_names=list(inputs), output_names=outputs, dynamic_axes=axes,
            opset_version=OPSET, do_constant_folding=True, dynamo=False,
        )
        model = onnx.load(exported)
    for value in (*model.graph.input, *model.graph.output):
        settle_names(value, axes[value.name])
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) > PROTOBUF_MAX:
        onnx.save(model, str(path), save_as_external_data=True, location=path.name + "_data")
        return
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


BATCH = {0: "batch_size"}
PLANE = {**BATCH, 2: "height", 3: "width"}
SMALL = {**BATCH, 2: "height_latent", 3: "width_latent"}
STATES = {**BATCH, 1: "sequence_length"}
# Examples have a batch of 2: a dimension of 1 could be taken for a constant while tracing.


def export_text_encoder(source: Path, target: Path) -> None:
    projected = json.loads((source / "config.json").read_text())["architectures"] == ["CLIPTextModelWithProjection"]
    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    text = kind.from_pretrained(source, attn_implementation="eager").float()
    ids = torch.full((2, text.config.max_position_embeddings), text.config.eos_token_id, dtype=torch.int32)
    outputs = ["last_hidden_state", "pooler_output", *(["text_embeds"] if projected else [])]
    write_onnx(TextEncoder(text), {"input_ids": ids}, outputs, {name: BATCH for name in ("input_ids", *outputs)},
               target / "model.onnx")


def export_image_encoder(source: Path, target: Path) -> None:
    image = CLIPVisionModelWithProjection.from_pretrained(source, attn_implementation="eager").float()
    side = image.config.image_size
    write_onnx(ImageEncoder(image), {"pixel_values": torch.randn(2, 3, side, side)}, ["image_embeds"],
               {"pixel_values": BATCH, "image_embeds": BATCH}, target / "model.onnx")


def export_unet(source: Path, target: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(source).float()
    unet.set_attn_processor(AttnProcessor())
    config = unet.config
    sample = torch.randn(2, config.in_channels, config.sample_size, config.sample_size)
    states = torch.randn(2, TOKENS, config.cross_attention_dim)
    inputs = {"sample": sample, "timestep": torch.tensor([500]), "encoder_hidden_states": states}
    axes = {"sample": PLANE, "timestep": {0: "steps"}, "encoder_hidden_states": STATES, "out_sample": PLANE}
    if config.time_cond_proj_dim:
        inputs["timestep_cond"] = torch.randn(2, config.time_cond_proj_dim)
        axes["timestep_cond"] = BATCH
    write_onnx(Unet(unet), inputs, ["out_sample"], axes, target / "model.onnx")


def export_vae(source: Path, target: Path) -> None:
    vae = AutoencoderKL.from_pretrained(source).float()
    vae.set_attn_processor(AttnProcessor())
    image = torch.randn(2, vae.config.in_channels, vae.config.sample_size, vae.config.sample_size)
    side = vae.config.sample_size >> (len(vae.config.block_out_channels) - 1)
    latents = torch.randn(2, vae.config.latent_channels, side, side)
    write_onnx(VaeDecoder(vae), {"latent_sample": latents}, ["sample"], {"latent_sample": SMALL, "sample": PLANE},
               target / "vae_decoder/model.onnx")
    write_onnx(VaeEncoder(vae), {"sample": image}, ["latent_parameters"], {"sample": PLANE, "latent_parameters": SMALL},
               target / "vae_encoder/model.onnx")
    for part in ("vae_decoder", "vae_encoder"):
        shutil.copy(source / "config.json", target / part / "config.json")


def export_tiny_vae(source: Path, target: Path) -> None:
    vae = AutoencoderTiny.from_pretrained(source).float()
    write_onnx(VaeDecoder(vae), {"latent_sample": torch.randn(2, vae.config.latent_channels, 8, 8)}, ["sample"],
               {"latent_sample": SMALL, "sample": PLANE}, target / "model.onnx")


def export(source: Path, target: Path) -> None:
    torch.manual_seed(0)
    parts = {"text_encoder": export_text_encoder, "image_encoder": export_image_encoder}
    parts |= {folder.name: export_unet for folder in sorted(source.glob("unet*")) if folder.is_dir()}
    for name, function in parts.items():
        if (source / name).exists():
            function(source / name, target / name)
            shutil.copy(source / name / "config.json", target / name / "config.json")
    export_vae(source / "vae", target)
    if (source / "vae_tiny").exists():
        export_tiny_vae(source / "vae_tiny", target / "vae_decoder_tiny")
        shutil.copy(source / "vae_tiny/config.json", target / "vae_decoder_tiny")
    shutil.copy(source / "model_index.json", target)
    for folder in ("scheduler", "tokenizer", "feature_extractor"):
        if (source / folder).exists():
            shutil.copytree(source / folder, target / folder, dirs_exist_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="diffusers folder")
    parser.add_argument("target", type=Path, help="ONNX folder to write")
    args = parser.parse_args()
    export(args.source, args.target)
    for path in sorted(args.target.rglob("*.onnx")):
        print(f"{path.relative_to(args.target)}  {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
