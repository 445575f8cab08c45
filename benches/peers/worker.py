"""Runs one network in ONNX Runtime or OpenVINO and prints the seconds of each run as JSON.

    python benches/peers/worker.py SYSTEM MODEL COMPONENT SIDE THREADS RUNS

SIDE is the width and height of the latents; 0 stands for what the network's config.json says.
"""

from __future__ import annotations

import json
import sys
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


def main() -> None:
    system, path, component, side, threads, runs = sys.argv[1:]
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
