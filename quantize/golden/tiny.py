"""Writes two tiny packs of random weights and the pictures diffusers' pipelines make with them.

    python quantize/golden/tiny.py models/emoji tests/golden/tiny

What the bundled pack has not: a UNet trained to repaint (9 channels of 4), and one that takes the guidance scale as
an input (`time_cond_proj_dim`, as latent consistency models do). Both share tokenizer, text encoder and VAE. Weights
are int8, as in any pack, so that the files stay small. Files:

    shared/ repaint/ consistency/   parts of the two packs, to be laid over one another
    begin.png mask.png              what is repainted
    repaint.png consistency.png     the pictures
    requests.json                   the request of each, with easeld's field names
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import diffusers
import numpy as np
import torch
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from pipeline import Pack  # noqa: E402
from pipelines import Vae, Unet  # noqa: E402

WIDTH, SIDE = 32, 64  # of text embeddings; pixels
SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}
REQUESTS = {
    "repaint": {"prompt": "a fox on red", "seed": 1, "steps": 4, "guidance_scale": 2.5, "strength": 0.75,
                "init_image": "begin.png", "mask": "mask.png", "width": SIDE, "height": SIDE},
    "consistency": {"prompt": "a fox on red", "seed": 2, "steps": 4, "guidance_scale": 3.5, "width": SIDE, "height": SIDE},
}


def unet(in_channels: int, **more) -> diffusers.UNet2DConditionModel:
    return diffusers.UNet2DConditionModel(
        sample_size=SIDE // 4, in_channels=in_channels, out_channels=4, block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1, cross_attention_dim=WIDTH, attention_head_dim=2, norm_num_groups=8, **more)


def folder(tokenizer: Path, network: diffusers.UNet2DConditionModel, scheduler, out: Path) -> None:
    """A diffusers folder of random weights."""
    torch.manual_seed(5)
    words = len(CLIPTokenizer.from_pretrained(str(tokenizer)))
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=2048, hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=77, bos_token_id=words - 2, eos_token_id=words - 1, pad_token_id=words - 1))
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 16), layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=SIDE,
        mid_block_add_attention=False, scaling_factor=0.5)
    for part, name in ((text, "text_encoder"), (vae, "vae"), (network, "unet"), (scheduler, "scheduler")):
        part.save_pretrained(out / name)
    shutil.copytree(tokenizer, out / "tokenizer")
    (out / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}) + "\n")


def pack(source: Path, out: Path) -> None:
    fp32 = source.parent / f"{source.name}-fp32"
    for script, *arguments in (("export.py", source, fp32), ("quantize.py", fp32, out)):
        subprocess.run([sys.executable, str(HERE.parent / script), *map(str, arguments)], check=True)


class GuidedUnet(Unet):
    """Passes the embedded guidance scale on."""

    def __init__(self, pack: Pack, in_channels: int, time_cond_proj_dim: int | None):
        super().__init__(pack)
        self.config = type(self.config)(dict(self.config) | {
            "in_channels": in_channels, "time_cond_proj_dim": time_cond_proj_dim})

    def forward(self, sample, timestep, encoder_hidden_states, timestep_cond=None, **_):
        inputs = {"sample": sample.numpy(), "timestep": np.array([int(timestep)], dtype=np.int64),
                  "encoder_hidden_states": encoder_hidden_states.numpy()}
        if timestep_cond is not None:
            inputs["timestep_cond"] = timestep_cond.numpy()
        return (torch.from_numpy(self.session.run(["out_sample"], inputs)[0]),)


def picture(folder: Path, kind, scheduler, request: dict, network: dict, **given) -> Image.Image:
    loaded = Pack(folder)
    pipeline = kind(vae=Vae(loaded), text_encoder=None, tokenizer=None, unet=GuidedUnet(loaded, **network),
                    safety_checker=None, feature_extractor=None, scheduler=scheduler, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    embeddings = torch.from_numpy(loaded.embed([request["prompt"], ""]))
    return pipeline(
        prompt_embeds=embeddings[:1], negative_prompt_embeds=embeddings[1:], num_inference_steps=request["steps"],
        guidance_scale=request["guidance_scale"], generator=torch.Generator().manual_seed(request["seed"]),
        width=SIDE, height=SIDE, **given).images[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundled", type=Path, help="a pack that gives the tokenizer")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    args.out.mkdir(parents=True)
    begin = HERE.parents[1] / "tests/golden/pipelines"
    for name in ("begin.png", "mask.png"):
        Image.open(begin / name).resize((SIDE, SIDE)).save(args.out / name)
    schedulers = {"repaint": diffusers.DDIMScheduler(**SCHEDULE, steps_offset=1, clip_sample=False),
                  "consistency": diffusers.LCMScheduler(**SCHEDULE)}
    torch.manual_seed(4)
    networks = {"repaint": unet(9), "consistency": unet(4, time_cond_proj_dim=33)}
    with tempfile.TemporaryDirectory() as work:
        for name, network in networks.items():
            source, made = Path(work) / name, Path(work) / f"{name}-pack"
            folder(args.bundled / "tokenizer", network, schedulers[name], source)
            pack(source, made)
            given = {}
            kind = diffusers.StableDiffusionPipeline
            if name == "repaint":
                kind = diffusers.StableDiffusionInpaintPipeline
                given = {"image": Image.open(args.out / "begin.png").convert("RGB"),
                         "mask_image": Image.open(args.out / "mask.png"), "strength": REQUESTS[name]["strength"]}
            config = {"in_channels": network.config.in_channels, "time_cond_proj_dim": network.config.time_cond_proj_dim}
            picture(made, kind, schedulers[name], REQUESTS[name], config, **given).save(args.out / f"{name}.png")
            for part in ("unet", "scheduler"):
                shutil.copytree(made / part, args.out / name / part)
            for part in ("tokenizer", "text_encoder", "vae_decoder", "vae_encoder", "model_index.json"):
                copy = shutil.copytree if (made / part).is_dir() else shutil.copy
                (args.out / "shared").mkdir(exist_ok=True)
                if not (args.out / "shared" / part).exists():
                    copy(made / part, args.out / "shared" / part)
    (args.out / "requests.json").write_text(json.dumps(REQUESTS, indent=1) + "\n")


if __name__ == "__main__":
    main()
