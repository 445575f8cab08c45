"""Exports a Stable Diffusion checkpoint to the ONNX directory layout of Optimum.

    python quantize/export.py CHECKPOINT ONNX_FOLDER

CHECKPOINT is a diffusers folder, a hub id (OWNER/NAME), or one .safetensors file of the original layout. Names of inputs
and outputs, their types and their dynamic axes follow Optimum's exporter, so packs written here and by `optimum-cli
export onnx` are loaded the same way:

    text_encoder  input_ids [B, 77] i32 -> last_hidden_state [B, 77, C], pooler_output [B, C]; a
                  CLIPTextModelWithProjection gives text_embeds [B, P] too; of SDXL's two, hidden_states.N
                  [B, 77, C] too, what goes into the last layer but one
    image_encoder pixel_values [B, 3, S, S] -> image_embeds [B, P], if the folder has one
    unet          sample [B, 4, h, w], timestep [1] i64, encoder_hidden_states [B, T, C] -> out_sample;
                  T = 77 for each window of the prompt; timestep_cond [B, G] too, if time_cond_proj_dim is G;
                  SDXL's: text_embeds [B, P] and time_ids [B, 6] too
    unet_*        further UNets of the folder (a distilled one, say), like unet
    vae_decoder   latent_sample [B, 4, h, w] -> sample [B, 3, H, W] in -1..1 (latents already unscaled)
    vae_encoder   sample [B, 3, H, W] -> latent_parameters [B, 8, h, w] (mean, log variance)
    vae_decoder_tiny  like vae_decoder, of an AutoencoderTiny (TAESD) in the folder's vae_tiny, if there is one

A component that is there already, whole and with the same options, is not written again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from diffusers.models.attention_processor import AttnProcessor  # noqa: F401  for quantize/golden
from tqdm import tqdm
from transformers import CLIPVisionModelWithProjection

import checkpoint
from networks import (ImageEncoder, TextEncoder, VaeDecoder, VaeEncoder, load_text_encoder, load_unet, load_vae, read_config,
                      vae_levels, wrapped_unet)
from to_onnx import OPSET, OPSETS, TOKENS, Options, copy_config, copy_folder, write_onnx

BATCH = {0: "batch_size"}
PLANE = {**BATCH, 2: "height", 3: "width"}
SMALL = {**BATCH, 2: "height_latent", 3: "width_latent"}
STATES = {**BATCH, 1: "sequence_length"}
# Examples have a batch of 2: a dimension of 1 could be taken for a constant while tracing.


def export_text_encoder(source: Path, target: Path, options: Options = Options(), penultimate: bool = False) -> None:
    text = load_text_encoder(source).float()
    config = text.config
    ids = torch.full((2, config.max_position_embeddings), config.eos_token_id, dtype=torch.int32)
    outputs = ["last_hidden_state", "pooler_output"]
    outputs += ["text_embeds"] * hasattr(text, "text_projection")
    outputs += [f"hidden_states.{config.num_hidden_layers - 1}"] * penultimate
    write_onnx(TextEncoder(text, penultimate), {"input_ids": ids}, outputs,
               {name: BATCH for name in ("input_ids", *outputs)}, target / "model.onnx", options)
    copy_config(source, target)


def export_image_encoder(source: Path, target: Path, options: Options = Options()) -> None:
    image = CLIPVisionModelWithProjection.from_pretrained(source, attn_implementation="eager").float()
    side = image.config.image_size
    write_onnx(ImageEncoder(image), {"pixel_values": torch.randn(2, 3, side, side)}, ["image_embeds"],
               {"pixel_values": BATCH, "image_embeds": BATCH}, target / "model.onnx", options)
    copy_config(source, target)


def unet_inputs(config: dict, side: int, tokens: int = TOKENS, batch: int = 2) -> dict[str, torch.Tensor]:
    """Random values for every input of a UNet with this configuration."""
    inputs = {
        "sample": torch.randn(batch, config["in_channels"], side, side),
        "timestep": torch.tensor([500]),
        "encoder_hidden_states": torch.randn(batch, tokens, config["cross_attention_dim"]),
    }
    if config.get("addition_embed_type") == "text_time":
        numbers = 6  # original size, crop, target size
        pooled = config["projection_class_embeddings_input_dim"] - numbers * config["addition_time_embed_dim"]
        size = side * 8.0
        inputs["text_embeds"] = torch.randn(batch, pooled)
        inputs["time_ids"] = torch.tensor([[size, size, 0.0, 0.0, size, size]] * batch)
    if config.get("time_cond_proj_dim"):
        inputs["timestep_cond"] = torch.randn(batch, config["time_cond_proj_dim"])
    return inputs


def export_unet(source: Path, target: Path, options: Options = Options()) -> None:
    unet = load_unet(source).float()
    inputs = unet_inputs(dict(unet.config), min(unet.config.sample_size, 32))
    axes = {"sample": PLANE, "timestep": {0: "steps"}, "encoder_hidden_states": STATES, "out_sample": PLANE}
    axes |= {name: BATCH for name in ("text_embeds", "time_ids", "timestep_cond") if name in inputs}
    if options.exporter == "dynamo":
        del axes["timestep"]  # of one step, which broadcasts: a free size would have to be the batch
    write_onnx(wrapped_unet(unet), inputs, ["out_sample"], axes, target / "model.onnx", options)
    copy_config(source, target)


def export_vae_decoder(source: Path, target: Path, options: Options = Options()) -> None:
    vae = load_vae(source).float()
    levels = vae_levels(dict(vae.config))
    latents = torch.randn(2, vae.config.latent_channels, 8, 8)
    write_onnx(VaeDecoder(vae), {"latent_sample": latents}, ["sample"], {"latent_sample": SMALL, "sample": PLANE},
               target / "model.onnx", options)
    copy_config(source, target, block_out_channels=levels)


def export_vae_encoder(source: Path, target: Path, options: Options = Options()) -> None:
    vae = load_vae(source).float()
    levels = vae_levels(dict(vae.config))
    side = 8 << (len(levels) - 1)
    image = torch.randn(2, vae.config.in_channels, side, side)
    write_onnx(VaeEncoder(vae), {"sample": image}, ["latent_parameters"], {"sample": PLANE, "latent_parameters": SMALL},
               target / "model.onnx", options)
    copy_config(source, target, block_out_channels=levels)


def export_vae(source: Path, target: Path, options: Options = Options()) -> None:
    """Both halves, in folders of `target`."""
    export_vae_decoder(source, target / "vae_decoder", options)
    export_vae_encoder(source, target / "vae_encoder", options)


def export_tiny_vae(source: Path, target: Path, options: Options = Options()) -> None:
    vae = AutoencoderTiny.from_pretrained(source).float()
    write_onnx(VaeDecoder(vae), {"latent_sample": torch.randn(2, vae.config.latent_channels, 8, 8)}, ["sample"],
               {"latent_sample": SMALL, "sample": PLANE}, target / "model.onnx", options)
    copy_config(source, target)


def parts(source: Path) -> dict[str, tuple[Path, object]]:
    """Component -> its folder in the checkpoint, and what writes it."""
    text = export_text_encoder
    if checkpoint.is_xl(source):
        text = lambda folder, target, options: export_text_encoder(folder, target, options, penultimate=True)  # noqa: E731
    found = {"text_encoder": ("text_encoder", text), "text_encoder_2": ("text_encoder_2", text),
             "image_encoder": ("image_encoder", export_image_encoder)}
    found |= {folder.name: (folder.name, export_unet) for folder in sorted(source.glob("unet*")) if folder.is_dir()}
    found |= {"vae_decoder": ("vae", export_vae_decoder), "vae_encoder": ("vae", export_vae_encoder),
              "vae_decoder_tiny": ("vae_tiny", export_tiny_vae)}
    return {name: (source / folder, function) for name, (folder, function) in found.items()
            if (source / folder / "config.json").is_file()}


def stamp(paths: list[Path]) -> str:
    """Another text when any of these files is another."""
    files = sorted(file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())
    return " ".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files)


def export(source: Path, target: Path, options: Options = Options(), made_from: list[Path] = ()) -> None:
    """Writes every component of the diffusers folder `source` that is not there yet.

    `made_from` are the files that the folder was made from, where it is a passing one.
    """
    torch.manual_seed(0)
    wanted = parts(source)
    for name in ("unet", "vae_decoder"):
        if name not in wanted:
            sys.exit(f"{source} has no {name.removesuffix('_decoder')}/config.json")
    target.mkdir(parents=True, exist_ok=True)
    state = target / ".export.json"
    done = json.loads(state.read_text()) if state.is_file() else {}
    with tqdm(wanted.items(), desc="export", unit="network") as bar:
        for name, (folder, function) in bar:
            bar.set_postfix_str(name)
            of = {"from": stamp(list(made_from) or [folder]), **asdict(options)}
            if done.get(name) == of and (target / name / "model.onnx").is_file():
                continue
            shutil.rmtree(target / name, ignore_errors=True)
            function(folder, target / name, options)
            done[name] = of
            state.write_text(json.dumps(done, indent=1) + "\n")
    shutil.copy(source / "model_index.json", target)
    for folder in ("scheduler", "tokenizer", "tokenizer_2", "feature_extractor"):
        copy_folder(source / folder, target / folder)


def lora(text: str) -> tuple[Path, float]:
    """FILE or FILE:SCALE."""
    path, _, scale = text.rpartition(":")
    try:
        return (Path(path), float(scale)) if path else (Path(text), 1.0)
    except ValueError:
        return Path(text), 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="diffusers folder, hub id, or .safetensors file")
    parser.add_argument("target", type=Path, help="ONNX folder to write")
    parser.add_argument("--lora", type=lora, action="append", default=[], metavar="FILE[:SCALE]",
                        help="add a LoRA to the weights; can be given again")
    parser.add_argument("--precision", choices=("fp32", "fp16"), default="fp32", help="of weights and arithmetic")
    parser.add_argument("--exporter", choices=sorted(OPSETS), default="torchscript")
    parser.add_argument("--opset", type=int, default=None, help=f"[default: {OPSET}, dynamo {OPSETS['dynamo'].start}]")
    parser.add_argument("--external-data", choices=("auto", "none", "one", "many"), default="auto",
                        help="weights beside the graph, in one file or a file each [default: in one above 2 GB]")
    parser.add_argument("--config", type=Path, help="for a single file: a diffusers folder of configurations")
    parser.add_argument("--tokenizer", type=Path, help="for a single file: a folder with vocab.json and merges.txt")
    parser.add_argument("--revision", help="of a hub id")
    args = parser.parse_args()
    opset = args.opset or (OPSETS["dynamo"].start if args.exporter == "dynamo" else OPSET)
    options = Options(args.exporter, opset, args.precision == "fp16", args.external_data)
    options.check()
    args.target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.target, prefix=".checkpoint-") as scratch:
        source = checkpoint.resolve(args.source, Path(scratch), args.config, args.tokenizer, args.lora, args.revision)
        made_from = [] if source.parent != Path(scratch) else [Path(args.source), *(path for path, _ in args.lora)]
        export(source, args.target, options, [path for path in made_from if path.exists()])
    for path in sorted(args.target.rglob("*.onnx")):
        size = sum(file.stat().st_size for file in path.parent.glob("*.onnx*"))
        print(f"{path.relative_to(args.target)}  {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
