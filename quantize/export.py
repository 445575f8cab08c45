"""Exports a diffusers folder of the SD 1.x kind to the ONNX directory layout of Optimum.

    python quantize/export.py DIFFUSERS_FOLDER ONNX_FOLDER

Names of inputs and outputs, their types and their dynamic axes follow Optimum's exporter, so packs
written here and by `optimum-cli export onnx` are loaded the same way:

    text_encoder  input_ids [B, 77] i32 -> last_hidden_state [B, 77, C], pooler_output [B, C]
    unet          sample [B, 4, h, w], timestep [1] i64, encoder_hidden_states [B, 77, C] -> out_sample
    vae_decoder   latent_sample [B, 4, h, w] -> sample [B, 3, H, W] in -1..1 (latents already unscaled)
    vae_encoder   sample [B, 3, H, W] -> latent_parameters [B, 8, h, w] (mean, log variance)

The TorchScript exporter is used: its graphs are plain (MatMul + Softmax attention, constants folded)
and every runtime knows them.
"""

from __future__ import annotations

import argparse
import shutil
import warnings
from pathlib import Path

import onnx
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextModel

OPSET = 17
TOKENS = 77


class TextEncoder(torch.nn.Module):
    """The causal mask is handed over ready made, so that it becomes a constant of the graph."""

    def __init__(self, model: CLIPTextModel):
        super().__init__()
        self.model = model
        length = model.config.max_position_embeddings
        mask = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)
        self.register_buffer("mask", mask[None, None], persistent=False)

    def forward(self, input_ids):
        out = self.model(input_ids=input_ids, attention_mask=self.mask)
        return out.last_hidden_state, out.pooler_output


class Unet(torch.nn.Module):
    def __init__(self, model: UNet2DConditionModel):
        super().__init__()
        self.model = model

    def forward(self, sample, timestep, encoder_hidden_states):
        return self.model(sample, timestep, encoder_hidden_states, return_dict=False)[0]


class VaeDecoder(torch.nn.Module):
    def __init__(self, model: AutoencoderKL):
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
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), tuple(inputs.values()), str(path),
            input_names=list(inputs), output_names=outputs, dynamic_axes=axes,
            opset_version=OPSET, do_constant_folding=True, dynamo=False,
        )
    model = onnx.load(str(path))
    for value in (*model.graph.input, *model.graph.output):
        settle_names(value, axes[value.name])
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def export(source: Path, target: Path) -> None:
    text = CLIPTextModel.from_pretrained(source / "text_encoder", attn_implementation="eager").float()
    unet = UNet2DConditionModel.from_pretrained(source / "unet").float()
    vae = AutoencoderKL.from_pretrained(source / "vae").float()
    unet.set_attn_processor(AttnProcessor())
    vae.set_attn_processor(AttnProcessor())
    torch.manual_seed(0)
    # Batch 2: a dimension of 1 could be taken for a constant while tracing.
    ids = torch.full((2, text.config.max_position_embeddings), text.config.eos_token_id, dtype=torch.int32)
    latents = torch.randn(2, unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    states = torch.randn(2, text.config.max_position_embeddings, unet.config.cross_attention_dim)
    image = torch.randn(2, vae.config.in_channels, vae.config.sample_size, vae.config.sample_size)

    write_onnx(
        TextEncoder(text), {"input_ids": ids}, ["last_hidden_state", "pooler_output"],
        {"input_ids": {0: "batch_size"}, "last_hidden_state": {0: "batch_size"}, "pooler_output": {0: "batch_size"}},
        target / "text_encoder/model.onnx",
    )
    plane = {0: "batch_size", 2: "height", 3: "width"}
    write_onnx(
        Unet(unet),
        {"sample": latents, "timestep": torch.tensor([500]), "encoder_hidden_states": states},
        ["out_sample"],
        {"sample": plane, "timestep": {0: "steps"}, "encoder_hidden_states": {0: "batch_size"}, "out_sample": plane},
        target / "unet/model.onnx",
    )
    small = {0: "batch_size", 2: "height_latent", 3: "width_latent"}
    write_onnx(VaeDecoder(vae), {"latent_sample": latents}, ["sample"],
               {"latent_sample": small, "sample": plane}, target / "vae_decoder/model.onnx")
    write_onnx(VaeEncoder(vae), {"sample": image}, ["latent_parameters"],
               {"sample": plane, "latent_parameters": small}, target / "vae_encoder/model.onnx")

    for part, origin in (("text_encoder", "text_encoder"), ("unet", "unet"), ("vae_decoder", "vae"), ("vae_encoder", "vae")):
        shutil.copy(source / origin / "config.json", target / part / "config.json")
    shutil.copy(source / "model_index.json", target)
    for folder in ("scheduler", "tokenizer"):
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
