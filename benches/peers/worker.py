"""Runs one network in ONNX Runtime, OpenVINO or stable-diffusion.cpp and prints the seconds of each run as JSON.

    python benches/peers/worker.py SYSTEM MODEL COMPONENT SIDE THREADS RUNS

SIDE is the width and height of the latents; 0 stands for what the network's config.json says. stable-diffusion.cpp (PyPI's
`stable-diffusion-cpp-python`, which builds it) makes a whole picture of RUNS steps and logs what each part took; MODEL
is a folder for it.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def inputs(path: Path, component: str, side: int) -> dict[str, np.ndarray]:
    """Made-up values; the shapes are those of `easeld bench`."""
    generator = np.random.default_rng(0)
    # Quantized variants lie beside the folder that has the configuration files.
    beside = next(folder for folder in (path.parents[1], path.parents[2] / "onnx")
                  if (folder / "unet/config.json").exists())
    unet = json.loads((beside / "unet/config.json").read_text())
    side = side or unet["sample_size"]
    if component == "text_encoder":
        return {"input_ids": np.full((1, 77), 5, dtype=np.int32)}
    latents = generator.standard_normal((1, unet["in_channels"], side, side)).astype(np.float32)
    if component == "vae_decoder":
        return {"latent_sample": latents}
    states = generator.standard_normal((1, 77, unet["cross_attention_dim"])).astype(np.float32)
    return {"sample": latents, "timestep": np.array([500], dtype=np.int64), "encoder_hidden_states": states}


def with_onnxruntime(path: Path, threads: int, feeds: dict):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feeds)


def with_openvino(path: Path, threads: int, feeds: dict, precision: str):
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    model.reshape({name: list(value.shape) for name, value in feeds.items()})
    config = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": 1}
    request = core.compile_model(model, "CPU", config).create_infer_request()
    return lambda: request.infer(feeds)


def with_stable_diffusion_cpp(path: Path, component: str, side: int, threads: int, steps: int) -> list[float]:
    """Seconds of a step or of the decoder, by the library's own log; weights are q8_0, attention its default."""
    from stable_diffusion_cpp import StableDiffusion

    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
        model = StableDiffusion(model_path=f"{path}/", wtype="q8_0", n_threads=threads, vae_decode_only=True)
        steps = steps if component == "unet" else 1
        model.generate_image(prompt="a fox", width=8 * side, height=8 * side, sample_steps=steps, cfg_scale=1.0,
                             sample_method="euler")
        log.seek(0)
        text = log.read().decode(errors="replace")
    part = {"unet": "sampling", "vae_decoder": "decode_first_stage"}[component]
    taken = re.search(rf"{part} completed, taking ([0-9.]+)s", text)
    if taken is None:
        raise SystemExit(f"stable-diffusion.cpp logged no time of {part}: {text[-2000:]}")
    return [float(taken[1]) / steps]


def main() -> None:
    system, path, component, side, threads, runs = sys.argv[1:]
    if system == "sd-cpp":
        times = with_stable_diffusion_cpp(Path(path), component, int(side), int(threads), int(runs))
        print(json.dumps({"times": times}))
        return
    feeds = inputs(Path(path), component, int(side))
    if system.startswith("ort"):
        run = with_onnxruntime(Path(path), int(threads), feeds)
    else:
        run = with_openvino(Path(path), int(threads), feeds, "bf16" if system == "ov-bf16" else "f32")
    run()
    times = []
    for _ in range(int(runs)):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    print(json.dumps({"times": times}))


if __name__ == "__main__":
    main()
