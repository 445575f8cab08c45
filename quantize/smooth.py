"""Smoothing (SmoothQuant, Xiao et al. 2022): moves outliers of activations into the weights that read them.

The input of a linear layer is quantized row by row with one scale, so a channel that is much larger than the others
leaves them few steps. Where that input is what a layer norm gives, and nothing but linear layers reads it, the norm's
scale and shift are divided by s and the rows of those weights multiplied by it: the product is the same,

    s = max |x|^alpha / max |w|^(1 - alpha)    for each channel,

with the largest activation that a calibration run saw. quantize.py applies the factors as it reads each weight.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

ALPHA = 0.5
# Channels are scaled by no more than this, up or down.
MOST = 100.0
CALLS = 4


def norms(graph: onnx.GraphProto) -> list[tuple[str, list[str], list[tuple[str, int]]]]:
    """(the norm's output, initializers of its scale and shift, [(weight, axis of its inputs)]) where smoothing is free."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in graph.output}
    found = []
    for node in graph.node:
        vectors = scale_and_shift(node, constants, makers)
        output = node.output[0] if node.output else ""
        if not vectors or output in outputs or any(len(readers[name]) != 1 for name in vectors):
            continue
        weights = [weight(reader, output, constants) for reader in readers.get(output, [])]
        if weights and all(weights) and all(len(readers[name]) == 1 for name, _ in weights):
            found.append((output, vectors, weights))
    return found


def scale_and_shift(node: onnx.NodeProto, constants: dict, makers: dict) -> list[str]:
    """The initializers of a layer norm that ends in `node`: one operator, or (below opset 17) a product and a sum."""
    if node.op_type == "LayerNormalization" and len(node.input) == 3:
        vectors = list(node.input[1:])
    elif node.op_type == "Add":
        shift = [name for name in node.input if name in constants]
        products = [makers[name] for name in node.input if name in makers and makers[name].op_type == "Mul"]
        scale = [name for product in products for name in product.input if name in constants]
        normed = [makers.get(name) for product in products for name in product.input]
        if not any(maker is not None and maker.op_type == "Div" for maker in normed):
            return []
        vectors = scale + shift
    else:
        return []
    known = all(name in constants and len(constants[name].dims) == 1 for name in vectors)
    return vectors if known and len(vectors) == 2 else []


def weight(node: onnx.NodeProto, name: str, constants: dict) -> tuple[str, int] | None:
    """The weight that `node` multiplies the value `name` with, and the axis of its inputs."""
    if node.op_type not in ("MatMul", "Gemm") or node.input[0] != name or node.input[1] not in constants:
        return None
    transposed = node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)
    return node.input[1], 1 if transposed else 0


def factors(pack: Path, path: Path, alpha: float) -> dict[str, tuple[np.ndarray, int]]:
    """Initializer of the network at `path` -> (factor for each channel, its axis)."""
    model = onnx.load(str(path), load_external_data=False)
    places = norms(model.graph)
    if not places:
        return {}
    from quantize import values_of

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    largest = [np.max([np.abs(values_of(tensors[name], path.parent)).max(1 - axis) for name, axis in weights], axis=0)
               for _, _, weights in places]
    seen = calibrate(pack, path, model, [output for output, _, _ in places])
    found = {}
    for (_, vectors, weights), most, x in zip(places, largest, seen):
        s = np.maximum(x, 1e-5) ** alpha / np.maximum(most, 1e-5) ** (1 - alpha)
        s = np.clip(s / np.exp(np.log(s).mean()), 1 / MOST, MOST).astype(np.float32)
        found |= {name: (1 / s, 0) for name in vectors} | {name: (s, axis) for name, axis in weights}
    return found


def calibrate(pack: Path, path: Path, model: onnx.ModelProto, outputs: list[str]) -> list[np.ndarray]:
    """The largest value of each channel of these values, over some calls of the network."""
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    half = TensorProto.FLOAT16 in types.values()
    for i, name in enumerate(outputs):
        model.graph.node.append(helper.make_node("Abs", [name], [f"smooth_abs_{i}"]))
        model.graph.node.append(helper.make_node("Shape", [name], [f"smooth_shape_{i}"]))
        model.graph.output.append(helper.make_tensor_value_info(
            f"smooth_abs_{i}", TensorProto.FLOAT16 if half else TensorProto.FLOAT, None))
    beside = path.with_name(".smooth.onnx")  # external data is looked for beside it
    onnx.save(model, str(beside))
    try:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        session = ort.InferenceSession(str(beside), options, providers=["CPUExecutionProvider"])
        most = [np.zeros(1, np.float32)] * len(outputs)
        for feeds in calls(pack, path, session):
            found = session.run([f"smooth_abs_{i}" for i in range(len(outputs))], feeds)
            most = [np.maximum(old, new.reshape(-1, new.shape[-1]).max(0)) for old, new in zip(most, found)]
        return most
    finally:
        beside.unlink()


def calls(pack: Path, path: Path, session: ort.InferenceSession):
    """Inputs as the pipeline gives them: prompts, and latents with noise at several time steps."""
    from pipeline import PROMPTS, Pack, cast

    component = path.parent.name
    loaded = Pack(pack, only=("text_encoder", "text_encoder_2"))
    if component.startswith("text_encoder"):
        yield cast(session, {"input_ids": loaded.ids(PROMPTS, component)})
        return
    generator = np.random.default_rng(0)
    given = {entry.name: entry.shape for entry in session.get_inputs()}
    if not component.startswith("unet"):
        (name, shape), = given.items()
        yield cast(session, {name: generator.standard_normal([size if isinstance(size, int) else 16 for size in shape])})
        return
    conditions = loaded.conditions(PROMPTS[:2])
    for step in range(CALLS):
        timestep = 999 - step * 960 // (CALLS - 1)
        # The standard deviation of latents is about 1 at every time step of a variance-preserving process.
        sample = generator.standard_normal((2, *loaded.latent)).astype(np.float32)
        yield cast(session, {"sample": sample, "timestep": np.array([timestep]), **conditions})
