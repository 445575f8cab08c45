"""Makes the models that the peers are compared on: the architectures of Stable Diffusion 1.5 with seeded random
weights, as a diffusers folder (fp16, what stable-diffusion.cpp reads) and as ONNX (fp32, `quantize/export.py`).

    python benches/peers/models.py FOLDER

Writes FOLDER/diffusers and FOLDER/onnx, about 6 GB; what is there already is kept. Weights are scaled so that
activations keep the size they have in a trained network: with PyTorch's own initialization the residual stream of a
UNet shrinks to nothing, and an error relative to nothing says nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

sys.path.insert(0, str(Path(__file__).parents[2] / "quantize"))
import export  # noqa: E402

UNET = {
    "sample_size": 64, "in_channels": 4, "out_channels": 4, "cross_attention_dim": 768, "attention_head_dim": 8,
    "block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2,
}
VAE = {
    "in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2, "sample_size": 512, "norm_num_groups": 32,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}
CLIP_L = {
    "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "hidden_act": "quick_gelu", "projection_dim": 768,
    "bos_token_id": 49406, "eos_token_id": 49407,
}


def scramble(model: torch.nn.Module) -> torch.nn.Module:
    """Weights that keep a signal's size, norms and biases near their usual values."""
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and "embedding" not in name:
            torch.nn.init.normal_(parameter, std=(parameter[0].numel()) ** -0.5)
        elif name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.05)
        elif parameter.dim() == 1:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.1)
    return model.half()


def write_diffusers(folder: Path) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        scramble(UNet2DConditionModel(**UNET)).save_pretrained(folder / "unet")
        scramble(AutoencoderKL(**VAE)).save_pretrained(folder / "vae")
        scramble(CLIPTextModel(CLIPTextConfig(**CLIP_L))).save_pretrained(folder / "text_encoder")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    if not (folder / "diffusers/model_index.json").exists():
        write_diffusers(folder / "diffusers")
    for part, function in (("text_encoder", export.export_text_encoder), ("unet", export.export_unet)):
        if not (folder / "onnx" / part / "model.onnx").exists():
            function(folder / "diffusers" / part, folder / "onnx" / part)
        shutil.copy(folder / "diffusers" / part / "config.json", folder / "onnx" / part)
    if not (folder / "onnx/vae_decoder/model.onnx").exists():
        export.export_vae(folder / "diffusers/vae", folder / "onnx")


if __name__ == "__main__":
    main()
