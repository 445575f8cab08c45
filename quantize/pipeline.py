"""Text to picture over a pack's ONNX files, with diffusers' scheduler and ONNX Runtime.

The reference the engine is compared with: the graphs run as they are (int8 weights dequantized,
float activations), noise comes from torch's CPU generator, batch order is [uncond, cond].
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from diffusers import DPMSolverMultistepScheduler
from transformers import CLIPTokenizer


def session(path: Path, threads: int = 2) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Above "basic", ONNX Runtime 1.32 fuses DequantizeLinear + MatMul into kernels that quantize the activations
    # too (measured: it moves the VAE's output by 1e-3); the reference is the graph's own arithmetic.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Pack:
    """A pack directory, loaded."""

    def __init__(self, folder: Path, threads: int = 2):
        self.folder = Path(folder)
        self.tokenizer = CLIPTokenizer.from_pretrained(str(self.folder / "tokenizer"))
        self.text = session(self.folder / "text_encoder/model.onnx", threads)
        self.unet = session(self.folder / "unet/model.onnx", threads)
        self.decoder = session(self.folder / "vae_decoder/model.onnx", threads)
        self.scaling = json.loads((self.folder / "vae_decoder/config.json").read_text())["scaling_factor"]
        unet = json.loads((self.folder / "unet/config.json").read_text())
        self.latent = (unet["in_channels"], unet["sample_size"], unet["sample_size"])

    def ids(self, prompts: list[str]) -> np.ndarray:
        """Token ids, int32 [len(prompts), 77]."""
        out = self.tokenizer(prompts, padding="max_length", max_length=self.tokenizer.model_max_length,
                             truncation=True, return_tensors="np")
        return out.input_ids.astype(np.int32)

    def embed(self, prompts: list[str]) -> np.ndarray:
        """Embeddings, float32 [len(prompts), 77, C]."""
        return self.text.run(["last_hidden_state"], {"input_ids": self.ids(prompts)})[0]

    def noise(self, count: int, seed: int) -> torch.Tensor:
        """Standard normal latents [count, C, h, w] from torch's CPU generator."""
        return torch.randn((count, *self.latent), generator=torch.Generator().manual_seed(seed))

    def step(self, latents: np.ndarray, timestep: int, states: np.ndarray) -> np.ndarray:
        """The UNet's raw output for [B, C, h, w]."""
        return self.unet.run(["out_sample"], {
            "sample": latents.astype(np.float32),
            "timestep": np.array([timestep], dtype=np.int64),
            "encoder_hidden_states": states,
        })[0]

    def denoise(self, prompts: list[str], seed: int, steps: int, guidance: float, negative: str = "") -> torch.Tensor:
        """Final latents [len(prompts), C, h, w], still scaled."""
        scheduler = DPMSolverMultistepScheduler.from_pretrained(str(self.folder / "scheduler"))
        scheduler.set_timesteps(steps)
        count = len(prompts)
        states = np.concatenate([self.embed([negative] * count), self.embed(prompts)])
        latents = self.noise(count, seed) * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            both = torch.cat([latents, latents])
            out = torch.from_numpy(self.step(scheduler.scale_model_input(both, t).numpy(), int(t), states))
            uncond, cond = out.chunk(2)
            latents = scheduler.step(uncond + guidance * (cond - uncond), t, latents).prev_sample
        return latents

    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Scaled latents -> sample [B, 3, H, W] in about -1..1."""
        return self.decoder.run(["sample"], {"latent_sample": (latents / self.scaling).numpy().astype(np.float32)})[0]


def to_pixels(sample: np.ndarray) -> np.ndarray:
    """[B, 3, H, W] in -1..1 -> uint8 [B, H, W, 3], rounded half to even."""
    return (np.clip(sample / 2 + 0.5, 0, 1) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
