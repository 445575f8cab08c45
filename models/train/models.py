"""The pack's networks, in diffusers' and transformers' own classes.

Sizes follow Stable Diffusion 1.x scaled down to 64 x 64 pixels: an AutoencoderKL of factor 4 with
four latent channels (latents 4 x 16 x 16), a UNet2DConditionModel with cross-attention on its two
lower levels, and a CLIPTextModel trained from scratch along with it.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextConfig, CLIPTextModel

LATENT = (4, 16, 16)  # channels, height, width
TEXT_WIDTH = 128
TOKENS = 77

# v-prediction (Salimans and Ho 2022). beta_end is larger than SD's 0.012: at 16 x 16 latents the
# mean of the noise hides little of a plain background, so the last step has to hold almost none of it.
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.02,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}


def build_vae() -> AutoencoderKL:
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(24, 48, 96),
        layers_per_block=1,
        latent_channels=LATENT[0],
        norm_num_groups=8,
        sample_size=64,
        scaling_factor=1.0,  # measured after training
    )
    vae.set_attn_processor(AttnProcessor())
    return vae


def build_unet() -> UNet2DConditionModel:
    unet = UNet2DConditionModel(
        sample_size=LATENT[1],
        in_channels=LATENT[0],
        out_channels=LATENT[0],
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 96, 160),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # diffusers reads this as the number of heads
        norm_num_groups=32,
    )
    unet.set_attn_processor(AttnProcessor())
    return unet


def build_text_encoder(vocabulary_size: int) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=vocabulary_size,
        hidden_size=TEXT_WIDTH,
        intermediate_size=3 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        hidden_act="quick_gelu",
        projection_dim=TEXT_WIDTH,
        bos_token_id=vocabulary_size - 2,
        eos_token_id=vocabulary_size - 1,
        pad_token_id=vocabulary_size - 1,
        attn_implementation="eager",
    )
    return CLIPTextModel(config)


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


def text_states(text_encoder: CLIPTextModel, ids: torch.Tensor) -> torch.Tensor:
    """Token ids [B, 77] -> embeddings [B, 77, 128]."""
    return text_encoder(input_ids=ids).last_hidden_state


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
