"""The architectures that people run, as their published configurations say, with seeded random weights.

Written down from the config.json files of the hub; parameters that are left out have diffusers' and transformers' own
defaults. `SMALL` divides channels and layers and keeps the topology: levels, kinds of blocks, what attends to what,
inputs.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import diffusers
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

CLIP_L = {
    "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "hidden_act": "quick_gelu", "projection_dim": 768, "max_position_embeddings": 77, "bos_token_id": 49406,
    "eos_token_id": 49407, "pad_token_id": 1,
}
# The penultimate layer of OpenCLIP's ViT-H is the last of this file: 23 layers of 24.
OPENCLIP_H = CLIP_L | {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16,
                       "hidden_act": "gelu", "projection_dim": 512}
OPENCLIP_BIGG = CLIP_L | {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
                          "hidden_act": "gelu", "projection_dim": 1280}

CROSS, PLAIN = "CrossAttn{}Block2D", "{}Block2D"


def blocks(pattern: str) -> dict:
    """`AAA-`: which levels of a UNet attend to the text."""
    kinds = [CROSS if level == "A" else PLAIN for level in pattern]
    return {"down_block_types": [kind.format("Down") for kind in kinds],
            "up_block_types": [kind.format("Up") for kind in reversed(kinds)]}


SD15_UNET = {
    "sample_size": 64, "in_channels": 4, "out_channels": 4, "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2, "cross_attention_dim": 768, "attention_head_dim": 8, "norm_num_groups": 32, "act_fn": "silu",
    "flip_sin_to_cos": True, "freq_shift": 0, "downsample_padding": 1, "mid_block_scale_factor": 1, "norm_eps": 1e-5,
    "center_input_sample": False, **blocks("AAA-"),
}
SD21_UNET = SD15_UNET | {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True,
                         "sample_size": 96, "dual_cross_attention": False}
SDXL_UNET = SD15_UNET | {
    "sample_size": 128, "block_out_channels": [320, 640, 1280], "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20], "cross_attention_dim": 2048, "use_linear_projection": True,
    "addition_embed_type": "text_time", "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
    **blocks("-AA"),
}
BK_SMALL_UNET = SD15_UNET | {"layers_per_block": 1, "mid_block_type": None}
BK_TINY_UNET = BK_SMALL_UNET | {"block_out_channels": [320, 640, 1280], **blocks("AAA")}
# SDXS-512: three levels, none of them but the lower two attends, no middle block.
SDXS_UNET = SD15_UNET | {"block_out_channels": [320, 640, 1280], "layers_per_block": 1, "mid_block_type": None,
                         "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20], "use_linear_projection": True,
                         **blocks("-AA")}

KL = {
    "_class_name": "AutoencoderKL", "in_channels": 3, "out_channels": 3, "latent_channels": 4, "norm_num_groups": 32,
    "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "sample_size": 512, "scaling_factor": 0.18215,
    "act_fn": "silu", "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
}
KL_XL = KL | {"sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True}
TAESD = {
    "_class_name": "AutoencoderTiny", "in_channels": 3, "out_channels": 3, "latent_channels": 4, "scaling_factor": 1.0,
    "encoder_block_out_channels": [64, 64, 64, 64], "decoder_block_out_channels": [64, 64, 64, 64], "act_fn": "relu",
    "num_encoder_blocks": [1, 3, 3, 3], "num_decoder_blocks": [3, 3, 3, 1], "latent_magnitude": 3, "latent_shift": 0.5,
    "upsampling_scaling_factor": 2,
}
ASYMMETRIC = {
    "_class_name": "AsymmetricAutoencoderKL", "in_channels": 3, "out_channels": 3, "latent_channels": 4,
    "down_block_out_channels": [128, 256, 512, 512], "layers_per_down_block": 2, "norm_num_groups": 32, "act_fn": "silu",
    "up_block_out_channels": [192, 384, 768, 768], "layers_per_up_block": 3, "sample_size": 256, "scaling_factor": 0.18215,
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
}

SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}
PNDM = ("PNDMScheduler", SCHEDULE | {"skip_prk_steps": True, "set_alpha_to_one": False, "steps_offset": 1})
DDIM_V = ("DDIMScheduler", SCHEDULE | {"prediction_type": "v_prediction", "set_alpha_to_one": False, "steps_offset": 1,
                                       "clip_sample": False})
EULER = ("EulerDiscreteScheduler", SCHEDULE | {"timestep_spacing": "leading", "steps_offset": 1})
TURBO = ("EulerDiscreteScheduler", SCHEDULE | {"timestep_spacing": "trailing", "steps_offset": 1})
TURBO_XL = ("EulerAncestralDiscreteScheduler", SCHEDULE | {"timestep_spacing": "trailing", "steps_offset": 1})
LCM = ("LCMScheduler", SCHEDULE | {"original_inference_steps": 50, "set_alpha_to_one": True, "clip_sample": False})


@dataclass(frozen=True)
class Architecture:
    """One row of the matrix: the parts of a pipeline."""

    title: str
    unet: dict | None = None
    text: dict | None = None
    text_2: dict | None = None
    vae: dict = field(default_factory=lambda: KL)
    scheduler: tuple = PNDM


ARCHITECTURES = {
    "sd15": Architecture("Stable Diffusion 1.5", SD15_UNET, CLIP_L),
    "sd21-base": Architecture("Stable Diffusion 2.1 base", SD21_UNET | {"sample_size": 64}, OPENCLIP_H),
    "sd21": Architecture("Stable Diffusion 2.1, v-prediction, 768", SD21_UNET, OPENCLIP_H, vae=KL | {"sample_size": 768},
                         scheduler=DDIM_V),
    "sd-turbo": Architecture("SD-Turbo", SD21_UNET | {"sample_size": 64}, OPENCLIP_H, vae=KL | {"sample_size": 768},
                             scheduler=TURBO),
    "lcm": Architecture("LCM (guidance embedding)", SD15_UNET | {"time_cond_proj_dim": 256}, CLIP_L, scheduler=LCM),
    "sdxl": Architecture("SDXL base 1.0", SDXL_UNET, CLIP_L, OPENCLIP_BIGG, KL_XL, EULER),
    "sdxl-turbo": Architecture("SDXL-Turbo", SDXL_UNET | {"sample_size": 64}, CLIP_L, OPENCLIP_BIGG, KL_XL, TURBO_XL),
    "bk-sdm-small": Architecture("BK-SDM small", BK_SMALL_UNET, CLIP_L),
    "bk-sdm-tiny": Architecture("BK-SDM tiny", BK_TINY_UNET, CLIP_L),
    "sdxs": Architecture("SDXS-like, one step, tiny autoencoder", SDXS_UNET, OPENCLIP_H, vae=TAESD, scheduler=EULER),
    "taesd": Architecture("TAESD", vae=TAESD),
    "asymmetric": Architecture("Asymmetric autoencoder x1.5", vae=ASYMMETRIC),
}

# Channels of the small versions, in place of 320, 640, 1280, ...
WIDTHS = {320: 32, 640: 48, 1280: 64, 128: 16, 192: 24, 256: 32, 384: 48, 512: 32, 768: 48, 64: 16}


def small_unet(config: dict) -> dict:
    """The same levels, blocks and inputs on a tenth of the channels; one transformer layer where there are ten is left two."""
    widths = [WIDTHS[width] for width in config["block_out_channels"]]
    heads = config["attention_head_dim"]
    depth = config.get("transformer_layers_per_block", 1)
    more = {"transformer_layers_per_block": [min(layers, 2) for layers in depth]} if isinstance(depth, list) else {}
    if config.get("addition_embed_type"):
        # Pooled text of the second encoder, and six numbers of eight frequencies.
        more |= {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 40 + 6 * 8}
    if config.get("time_cond_proj_dim"):
        more["time_cond_proj_dim"] = 32
    width = {768: 24, 1024: 40, 2048: 64}[config["cross_attention_dim"]]
    return config | more | {
        "block_out_channels": widths, "cross_attention_dim": width, "norm_num_groups": 8, "sample_size": 16,
        "attention_head_dim": [2, 3, 4, 4][: len(widths)] if isinstance(heads, list) else 4,
    }


def small_text(config: dict) -> dict:
    width, heads = {768: (24, 2), 1024: (40, 4), 1280: (40, 4)}[config["hidden_size"]]
    return config | {"vocab_size": 1000, "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": 3,
                     "num_attention_heads": heads, "projection_dim": width, "bos_token_id": 998, "eos_token_id": 999}


def small_vae(config: dict) -> dict:
    small = dict(config)
    for key in ("block_out_channels", "up_block_out_channels", "down_block_out_channels", "encoder_block_out_channels",
                "decoder_block_out_channels"):
        if key in small:
            small[key] = [WIDTHS[width] for width in small[key]]
    if "norm_num_groups" in small:
        small["norm_num_groups"] = 8
    return small | {"sample_size": 128} if "sample_size" in small else small


def small(architecture: Architecture) -> Architecture:
    """The topology of an architecture on few channels; pictures are 128 x 128 pixels."""
    return Architecture(
        architecture.title, architecture.unet and small_unet(architecture.unet),
        architecture.text and small_text(architecture.text), architecture.text_2 and small_text(architecture.text_2),
        small_vae(architecture.vae), architecture.scheduler)


def scramble(model: torch.nn.Module) -> torch.nn.Module:
    """Weights that keep a signal's size, norms and biases near their usual values.

    With PyTorch's own initialization the residual stream of a UNet shrinks to nothing, and an error relative to nothing
    says nothing.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "embedding" not in name:
                torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
            elif name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.05)
            elif parameter.dim() == 1:
                torch.nn.init.normal_(parameter, mean=1.0, std=0.1)
    return model.eval()


def build(name: str, architecture: Architecture, part: str) -> torch.nn.Module | None:
    """One network with the weights that its name seeds, or nothing where the architecture has none."""
    config = {"unet": architecture.unet, "text_encoder": architecture.text, "text_encoder_2": architecture.text_2,
              "vae": architecture.vae}[part]
    if config is None:
        return None
    torch.manual_seed(sum(map(ord, name + part)))
    if part == "unet":
        return scramble(diffusers.UNet2DConditionModel(**config))
    if part == "vae":
        kind = getattr(diffusers, config["_class_name"])
        return scramble(kind(**{key: value for key, value in config.items() if key != "_class_name"}))
    kind = CLIPTextModelWithProjection if part == "text_encoder_2" else CLIPTextModel
    return scramble(kind(CLIPTextConfig(**config)))


def index(architecture: Architecture) -> dict:
    """model_index.json."""
    kind = "StableDiffusionXLPipeline" if architecture.text_2 else "StableDiffusionPipeline"
    if architecture.unet and architecture.unet.get("time_cond_proj_dim"):
        kind = "LatentConsistencyModelPipeline"
    found = {"_class_name": kind, "_diffusers_version": diffusers.__version__,
             "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", architecture.vae["_class_name"]],
             "scheduler": ["diffusers", architecture.scheduler[0]], "text_encoder": ["transformers", "CLIPTextModel"],
             "tokenizer": ["transformers", "CLIPTokenizer"]}
    if architecture.text_2:
        found |= {"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"], "force_zeros_for_empty_prompt": True,
                  "tokenizer_2": ["transformers", "CLIPTokenizer"]}
    else:
        found |= {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    return found


def write(name: str, architecture: Architecture, out: Path, tokenizer: Path | None = None, half: bool = False,
          only: tuple[str, ...] = ("unet", "vae", "text_encoder", "text_encoder_2")) -> Path:
    """A diffusers folder of random weights."""
    out.mkdir(parents=True, exist_ok=True)
    for part in only:
        network = build(name, architecture, part)
        if network is not None:
            (network.half() if half else network).save_pretrained(out / part)
        del network
    write_rest(architecture, out, tokenizer)
    return out


def write_rest(architecture: Architecture, out: Path, tokenizer: Path | None) -> None:
    """model_index.json, scheduler and tokenizers."""
    (out / "model_index.json").write_text(json.dumps(index(architecture), indent=2) + "\n", encoding="utf-8")
    kind, config = architecture.scheduler
    getattr(diffusers, kind)(**config).save_pretrained(out / "scheduler")
    if tokenizer is not None:
        shutil.copytree(tokenizer, out / "tokenizer", dirs_exist_ok=True)
        if architecture.text_2:
            shutil.copytree(tokenizer, out / "tokenizer_2", dirs_exist_ok=True)
            pad_with_exclamation_marks(out / "tokenizer_2")


def pad_with_exclamation_marks(tokenizer: Path) -> None:
    """OpenCLIP fills up with token 0, which is `!`, where CLIP repeats the end."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = tokenizer / name
        said = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        path.write_text(json.dumps(said | {"pad_token": "!"}, indent=1) + "\n", encoding="utf-8")


def write_configuration(name: str, out: Path, tokenizer: Path, unet_channels: dict) -> Path:
    """The same folder without weights: what diffusers asks of the hub when it converts one file.

    `unet_channels` are the tensors of that file, which tell an inpainting UNet from another by its first convolution.
    """
    architecture = ARCHITECTURES[name]
    first = unet_channels.get("model.diffusion_model.input_blocks.0.0.weight")
    unet = architecture.unet | ({"in_channels": first.shape[1]} if first is not None else {})
    parts = {"unet": ("UNet2DConditionModel", unet), "vae": (architecture.vae["_class_name"], architecture.vae)}
    for part, (kind, config) in parts.items():
        (out / part).mkdir(parents=True, exist_ok=True)
        text = json.dumps({"_class_name": kind, "_diffusers_version": diffusers.__version__} | config, indent=2)
        (out / part / "config.json").write_text(text + "\n", encoding="utf-8")
    for part, config in (("text_encoder", architecture.text), ("text_encoder_2", architecture.text_2)):
        if config is not None:
            CLIPTextConfig(**config, architectures=["CLIPTextModelWithProjection" if "_2" in part else "CLIPTextModel"]
                           ).save_pretrained(out / part)
    write_rest(architecture, out, tokenizer)
    return out
