"""The pack's networks, in diffusers' and transformers' own classes.

Sizes follow Stable Diffusion 1.x scaled down to 128 x 128 pixels: an AutoencoderKL of factor 8 with
twelve latent channels (latents 12 x 16 x 16), a UNet2DConditionModel with cross-attention on its two
lower levels, and a CLIP whose text tower conditions the UNet.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

LATENT = (12, 16, 16)  # channels, height, width
TEXT_WIDTH = 128
TOKENS = 77
PROJECTION = 128  # values of CLIP's joint embedding

# v-prediction with zero terminal SNR (Salimans and Ho 2022; Lin et al. 2024): the plain backgrounds are all in
# the mean of the latents, which a schedule that ends with some signal left would leak to training and not to
# sampling.
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
}


def build_vae() -> AutoencoderKL:
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(24, 48, 96, 128),
        layers_per_block=1,
        latent_channels=LATENT[0],
        norm_num_groups=8,
        sample_size=128,
        scaling_factor=1.0,  # `centre_latents` gives every channel mean 0 and deviation 1
        mid_block_add_attention=False,  # nothing looks further than its neighbours: it trains on windows of scenes
    )
    return vae


def build_unet() -> UNet2DConditionModel:
    unet = UNet2DConditionModel(
        sample_size=LATENT[1],
        in_channels=LATENT[0],
        out_channels=LATENT[0],
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 128, 160),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # diffusers reads this as the number of heads
        norm_num_groups=32,
    )
    unet.set_attn_processor(AttnProcessor())
    return unet


def build_text_encoder(vocabulary_size: int) -> CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=vocabulary_size,
        hidden_size=TEXT_WIDTH,
        intermediate_size=3 * TEXT_WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        hidden_act="quick_gelu",
        projection_dim=PROJECTION,
        bos_token_id=vocabulary_size - 2,
        eos_token_id=vocabulary_size - 1,
        pad_token_id=vocabulary_size - 1,
        attn_implementation="eager",
    )
    return CLIPTextModelWithProjection(config)


def build_image_encoder() -> CLIPVisionModelWithProjection:
    """CLIP's image tower: a ViT with patches of 16 pixels on 128 x 128 pictures."""
    config = CLIPVisionConfig(
        image_size=128,
        patch_size=16,
        hidden_size=144,
        intermediate_size=3 * 144,
        num_hidden_layers=4,
        num_attention_heads=4,
        hidden_act="quick_gelu",
        projection_dim=PROJECTION,
        attn_implementation="eager",
    )
    return CLIPVisionModelWithProjection(config)


def build_image_processor() -> CLIPImageProcessor:
    """What a picture goes through before the image tower: 128 x 128 pixels, values in -1..1."""
    side = {"height": 128, "width": 128}
    return CLIPImageProcessor(size={"shortest_edge": 128}, crop_size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3)


def build_scheduler() -> DPMSolverMultistepScheduler:
    """DPM-Solver++ 2M (Lu et al. 2022), what the pack asks for by default."""
    return DPMSolverMultistepScheduler(
        **SCHEDULE,
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        lower_order_final=True,
        timestep_spacing="trailing",
    )


def read_texts(text_encoder: CLIPTextModelWithProjection, ids: torch.Tensor):
    """What the text tower makes of token ids [B, 77]; transformers' own causal mask would come from the host each time."""
    mask = torch.full((TOKENS, TOKENS), torch.finfo(torch.float32).min, device=ids.device).triu(1)
    return text_encoder(input_ids=ids, attention_mask=mask[None, None])


def text_states(text_encoder: CLIPTextModelWithProjection, ids: torch.Tensor) -> torch.Tensor:
    """Token ids [B, 77] -> embeddings [B, 77, 128], after the final norm as Stable Diffusion takes them."""
    return read_texts(text_encoder, ids).last_hidden_state


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
