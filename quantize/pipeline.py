"""Text to picture over a pack's ONNX files, with diffusers' scheduler and ONNX Runtime.

The reference the engine is compared with: the graphs run as they are (int8 weights dequantized,
float activations), noise comes from torch's CPU generator, batch order is [uncond, cond].
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import diffusers
import numpy as np
import onnxruntime as ort
import torch
from transformers import CLIPTokenizer

PROMPTS = ["a cat on a blue background", "rocket next to star on black", "a panda above a cake", "an owl"]


def session(path: Path, threads: int = 2) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Above "basic", ONNX Runtime 1.32 fuses DequantizeLinear + MatMul into kernels that quantize the activations
    # too (measured: it moves the VAE's output by 1e-3); the reference is the graph's own arithmetic.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def cast(network: ort.InferenceSession, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The values of `feeds` that the network takes, in the types that it takes."""
    kinds = {"tensor(float16)": np.float16, "tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32,
             "tensor(double)": np.float64}
    return {entry.name: np.asarray(feeds[entry.name]).astype(kinds[entry.type]) for entry in network.get_inputs()}


def run(network: ort.InferenceSession, output: str, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """One output, as float32."""
    return network.run([output], cast(network, feeds))[0].astype(np.float32)


def guidance_embedding(scale: float, width: int) -> np.ndarray:
    """What latent consistency models take as `timestep_cond` [1, width]: sines and cosines of (scale - 1) * 1000."""
    half = width // 2
    frequencies = np.exp(-np.log(10000.0) / (half - 1) * np.arange(half, dtype=np.float32))
    angles = np.float32((scale - 1.0) * 1000.0) * frequencies
    found = np.concatenate([np.sin(angles), np.cos(angles), np.zeros(width % 2)])
    return found[None].astype(np.float32)


class Pack:
    """A pack directory; networks are loaded when they are first used. `only` names those that may be."""

    def __init__(self, folder: Path, threads: int = 2, only: tuple[str, ...] = ()):
        self.folder, self.threads, self.only = Path(folder), threads, only
        self.loaded: dict[str, ort.InferenceSession] = {}
        self.scaling = self.config("vae_decoder").get("scaling_factor", 0.18215)
        self.shift = self.config("vae_decoder").get("shift_factor") or 0.0
        unet = self.config("unet")
        self.latent = (self.config("vae_decoder").get("latent_channels", 4), unet["sample_size"], unet["sample_size"])
        self.guidance_width = unet.get("time_cond_proj_dim")
        self.is_xl = (self.folder / "text_encoder_2/model.onnx").is_file()

    def config(self, component: str) -> dict:
        return json.loads((self.folder / component / "config.json").read_text(encoding="utf-8"))

    def network(self, component: str) -> ort.InferenceSession:
        if self.only and component not in self.only:
            raise KeyError(component)
        if component not in self.loaded:
            self.loaded[component] = session(self.folder / component / "model.onnx", self.threads)
        return self.loaded[component]

    def drop(self, component: str) -> None:
        """Frees a network; it is loaded again when it is used again."""
        self.loaded.pop(component, None)

    @property
    def unet(self) -> ort.InferenceSession:
        return self.network("unet")

    @property
    def decoder(self) -> ort.InferenceSession:
        return self.network("vae_decoder")

    def ids(self, prompts: list[str], component: str = "text_encoder") -> np.ndarray:
        """Token ids, int32 [len(prompts), 77]."""
        folder = "tokenizer_2" if component.endswith("_2") else "tokenizer"
        tokenizer = CLIPTokenizer.from_pretrained(str(self.folder / folder))
        out = tokenizer(prompts, padding="max_length", max_length=tokenizer.model_max_length,
                        truncation=True, return_tensors="np")
        return out.input_ids.astype(np.int32)

    def embed(self, prompts: list[str]) -> np.ndarray:
        """Embeddings, float32 [len(prompts), 77, C]."""
        return self.conditions(prompts)["encoder_hidden_states"]

    def conditions(self, prompts: list[str]) -> dict[str, np.ndarray]:
        """What the UNet takes of the prompts; of SDXL's, both encoders' last state but one, and the second's pooled one."""
        first = self.network("text_encoder")
        if not self.is_xl:
            return {"encoder_hidden_states": run(first, "last_hidden_state", {"input_ids": self.ids(prompts)})}
        states, pooled = [], None
        for component in ("text_encoder", "text_encoder_2"):
            network = self.network(component)
            hidden = sorted((entry.name for entry in network.get_outputs() if entry.name.startswith("hidden_states.")),
                            key=lambda name: int(name.split(".")[1]))
            # Optimum gives every layer's, with the last one; ours is the one before it alone.
            feeds = {"input_ids": self.ids(prompts, component)}
            states.append(run(network, hidden[-2] if len(hidden) > 1 else hidden[0], feeds))
            if component.endswith("_2"):
                pooled = run(network, "text_embeds", feeds)
        size = self.latent[1] * 8
        time_ids = np.array([[size, size, 0, 0, size, size]] * len(prompts), np.float32)
        return {"encoder_hidden_states": np.concatenate(states, -1), "text_embeds": pooled, "time_ids": time_ids}

    def noise(self, count: int, seed: int) -> torch.Tensor:
        """Standard normal latents [count, C, h, w] from torch's CPU generator."""
        return torch.randn((count, *self.latent), generator=torch.Generator().manual_seed(seed))

    def step(self, latents: np.ndarray, timestep: int, states: np.ndarray, **more: np.ndarray) -> np.ndarray:
        """The UNet's raw output for [B, C, h, w]."""
        return run(self.unet, "out_sample", {
            "sample": latents, "timestep": np.array([timestep]), "encoder_hidden_states": states, **more})

    def scheduler(self):
        """The pack's own, or DPM-Solver++ where it asks for one that takes several calls a step."""
        config = json.loads((self.folder / "scheduler/scheduler_config.json").read_text(encoding="utf-8"))
        kind = getattr(diffusers, config["_class_name"])
        if kind in (diffusers.PNDMScheduler, diffusers.HeunDiscreteScheduler):
            kind = diffusers.DPMSolverMultistepScheduler
        return kind.from_config(config)

    def denoise(self, prompts: list[str], seed: int, steps: int, guidance: float, negative: str = "") -> torch.Tensor:
        """Final latents [len(prompts), C, h, w], still scaled."""
        scheduler, count = self.scheduler(), len(prompts)
        scheduler.set_timesteps(steps)
        embedded = self.guidance_width is not None
        doubled = guidance > 1 and not embedded
        given = self.conditions([negative] * count + prompts if doubled else prompts)
        states = given.pop("encoder_hidden_states")
        if embedded:
            given["timestep_cond"] = np.repeat(guidance_embedding(guidance, self.guidance_width), count, 0)
        latents = self.noise(count, seed) * scheduler.init_noise_sigma
        takes = inspect.signature(scheduler.step).parameters
        more = {"generator": torch.Generator().manual_seed(seed + 1)} if "generator" in takes else {}
        for t in scheduler.timesteps:
            sample = torch.cat([latents, latents]) if doubled else latents
            out = torch.from_numpy(self.step(scheduler.scale_model_input(sample, t).numpy(), int(t), states, **given))
            if doubled:
                uncond, cond = out.chunk(2)
                out = uncond + guidance * (cond - uncond)
            latents = scheduler.step(out, t, latents, **more).prev_sample
        return latents

    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Scaled latents -> sample [B, 3, H, W] in about -1..1."""
        return run(self.decoder, "sample", {"latent_sample": (latents / self.scaling + self.shift).numpy()})


def to_pixels(sample: np.ndarray) -> np.ndarray:
    """[B, 3, H, W] in -1..1 -> uint8 [B, H, W, 3], rounded half to even."""
    return (np.clip(sample / 2 + 0.5, 0, 1) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
