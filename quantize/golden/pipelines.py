"""Writes pictures of diffusers' own pipelines over a pack's networks, for the tests of whole pictures.

    python quantize/golden/pipelines.py models/emoji tests/golden/pipelines

StableDiffusionPipeline, StableDiffusionImg2ImgPipeline and StableDiffusionInpaintPipeline run as they are; the
networks behind them are the pack's graphs in ONNX Runtime (weights dequantized, float activations). Files:

    begin.png, wide.png   what image-to-image begins from: pictures of the pack, one of them not square
    mask.png              white where the picture is painted anew
    cases.jsonl           requests with easeld's field names; `init_image` and `mask` name files beside it
    ID.png                the picture of each
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import diffusers
import numpy as np
import torch
from diffusers.configuration_utils import FrozenDict
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipeline import Pack, session  # noqa: E402

PROMPT, OTHER = "a fox next to a crown on a pink background", "a pizza on a pink background"
# id, and what of a request differs from easeld's defaults; steps and guidance are said so that both agree.
CASES = [
    {"id": "text", "prompt": PROMPT, "seed": 3},
    {"id": "text-rescale", "prompt": PROMPT, "seed": 3, "guidance_scale": 6.0, "guidance_rescale": 0.7},
    {"id": "text-euler-ancestral", "prompt": PROMPT, "seed": 4, "scheduler": "euler-a"},
    {"id": "image-half", "prompt": OTHER, "seed": 5, "init_image": "begin.png", "strength": 0.5},
    {"id": "image-whole", "prompt": OTHER, "seed": 5, "init_image": "begin.png", "strength": 1.0},
    {"id": "image-ddim", "prompt": OTHER, "seed": 6, "init_image": "wide.png", "strength": 0.7, "scheduler": "ddim"},
    {"id": "image-euler", "prompt": OTHER, "seed": 6, "init_image": "wide.png", "strength": 0.7, "scheduler": "euler"},
    {"id": "image-unguided", "prompt": OTHER, "seed": 7, "init_image": "begin.png", "strength": 0.8, "guidance_scale": 1.0},
    {"id": "mask-whole", "prompt": OTHER, "seed": 8, "init_image": "begin.png", "mask": "mask.png", "strength": 1.0},
    {"id": "mask-part", "prompt": OTHER, "seed": 8, "init_image": "begin.png", "mask": "mask.png", "strength": 0.75},
    {"id": "mask-ancestral", "prompt": OTHER, "seed": 9, "init_image": "begin.png", "mask": "mask.png", "strength": 0.75,
     "scheduler": "euler-a"},
]
STEPS, GUIDANCE = 8, 3.0
SCHEDULERS = {"ddim": "DDIMScheduler", "euler": "EulerDiscreteScheduler", "euler-a": "EulerAncestralDiscreteScheduler"}


class Channels(int):
    """Latent channels that pass for Stable Diffusion's 4: the inpainting pipeline knows no other number."""

    def __eq__(self, other):
        return other == 4 or int(self) == other

    def __ne__(self, other):
        return not self == other

    def __hash__(self):
        return int(self)


class Network(torch.nn.Module):
    """What the pipelines ask of every network besides its call."""

    def __init__(self, config: dict):
        super().__init__()
        self.config = FrozenDict(config)
        self.dtype, self.device = torch.float32, torch.device("cpu")


class Unet(Network):
    def __init__(self, pack: Pack):
        config = json.loads((pack.folder / "unet/config.json").read_text())
        super().__init__(config | {"in_channels": Channels(config["in_channels"]), "time_cond_proj_dim": None})
        self.session = pack.unet

    def forward(self, sample, timestep, encoder_hidden_states, **_):
        return (torch.from_numpy(self.session.run(["out_sample"], {
            "sample": sample.numpy(), "timestep": np.array([int(timestep)], dtype=np.int64),
            "encoder_hidden_states": encoder_hidden_states.numpy(),
        })[0]),)


class Vae(Network):
    def __init__(self, pack: Pack):
        super().__init__(json.loads((pack.folder / "vae_decoder/config.json").read_text()))
        self.decoder, self.encoder = pack.decoder, session(pack.folder / "vae_encoder/model.onnx")

    def encode(self, sample):
        parameters = self.encoder.run(["latent_parameters"], {"sample": sample.numpy()})[0]
        return SimpleNamespace(latent_dist=DiagonalGaussianDistribution(torch.from_numpy(parameters)))

    def decode(self, latents, **_):
        return (torch.from_numpy(self.decoder.run(["sample"], {"latent_sample": latents.numpy()})[0]),)


def scheduler(pack: Pack, name: str | None):
    folder = str(pack.folder / "scheduler")
    own = json.loads((pack.folder / "scheduler/scheduler_config.json").read_text())["_class_name"]
    return getattr(diffusers, SCHEDULERS[name] if name else own).from_pretrained(folder)


def run(pack: Pack, case: dict, out: Path) -> Image.Image:
    kind = diffusers.StableDiffusionPipeline
    given = {}
    if "init_image" in case:
        kind = diffusers.StableDiffusionImg2ImgPipeline
        given = {"image": Image.open(out / case["init_image"]).convert("RGB"), "strength": case["strength"]}
        # This pipeline has no width and height of its own: the picture is given in the size that is wanted.
        given["image"] = given["image"].resize((size(pack), size(pack)), Image.Resampling.LANCZOS)
    if "mask" in case:
        kind = diffusers.StableDiffusionInpaintPipeline
        given |= {"mask_image": Image.open(out / case["mask"])}
    pipeline = kind(vae=Vae(pack), text_encoder=None, tokenizer=None, unet=Unet(pack), safety_checker=None,
                    feature_extractor=None, scheduler=scheduler(pack, case.get("scheduler")),
                    requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    if "guidance_rescale" in case:
        given["guidance_rescale"] = case["guidance_rescale"]
    if kind is not diffusers.StableDiffusionImg2ImgPipeline:
        given |= {"width": size(pack), "height": size(pack)}
    embeddings = torch.from_numpy(pack.embed([case["prompt"], ""]))
    return pipeline(
        prompt_embeds=embeddings[:1], negative_prompt_embeds=embeddings[1:], num_inference_steps=case["steps"],
        guidance_scale=case["guidance_scale"], generator=torch.Generator().manual_seed(case["seed"]), **given,
    ).images[0]


def size(pack: Pack) -> int:
    levels = len(json.loads((pack.folder / "vae_decoder/config.json").read_text())["block_out_channels"])
    return pack.latent[1] << (levels - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    pack = Pack(args.pack)
    side = size(pack)
    cases = [{"steps": STEPS, "guidance_scale": GUIDANCE, "width": side, "height": side} | case for case in CASES]
    begin = run(pack, cases[0], args.out)
    begin.save(args.out / "begin.png")
    begin.resize((side * 3 // 2, side * 5 // 4)).save(args.out / "wide.png")
    mask = Image.new("L", (side, side), 0)
    ImageDraw.Draw(mask).ellipse((side * 3 // 8, side // 4, side - 4, side * 7 // 8), fill=255)
    mask.save(args.out / "mask.png")
    with (args.out / "cases.jsonl").open("w") as lines:
        for case in cases:
            run(pack, case, args.out).save(args.out / f"{case['id']}.png")
            lines.write(json.dumps(case) + "\n")


if __name__ == "__main__":
    main()
