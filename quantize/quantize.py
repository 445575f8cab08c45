"""Turns the weights of an fp32 ONNX pack into int8, in standard ONNX that ONNX Runtime loads too.

    python quantize/quantize.py ONNX_FOLDER INT8_FOLDER

Every weight of a Conv, Gemm or MatMul becomes an s8 initializer behind a DequantizeLinear with one
symmetric scale per output channel. Activations stay float in the graph (the engine may quantize
them at run time), biases and everything named in FLOAT stay float. Components and their tensors
are taken one at a time, so memory holds one component's fp32 weights, never the whole pack. Values
between nodes get short names, which saves a small model a tenth of its size.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

# Node names (SD 1.x in Optimum's layout) whose weights stay float: the first and last convolution,
# which see pixels or latents directly, the tiny 1x1 convolutions around the latents, and the
# embedding of the time step, which all other layers depend on.
FLOAT = ("conv_in", "conv_out", "quant_conv", "time_embedding")
SMALLEST = 1024  # weights; below this int8 saves nothing
CLIPS = (1.0, 0.98, 0.96, 0.93, 0.9, 0.86, 0.82)  # shares of the largest value tried as the range


def channel_scales(rows: np.ndarray) -> np.ndarray:
    """Scale of each row of [channels, values], the clip of least squared error among CLIPS."""
    top = np.abs(rows).max(axis=1, keepdims=True)
    top[top == 0] = 1.0
    best, least = None, None
    for clip in CLIPS:
        scale = (top * clip / 127.0).astype(np.float32)
        error = ((np.clip(np.rint(rows / scale), -127, 127) * scale - rows) ** 2).sum(axis=1, keepdims=True)
        if best is None:
            best, least = scale, error
        else:
            better = error < least
            best, least = np.where(better, scale, best), np.where(better, error, least)
    return best[:, 0]


def quantize_weight(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """(s8 weight of the same shape, f32 scale per channel along `axis`)."""
    moved = np.moveaxis(weight, axis, 0)
    rows = moved.reshape(moved.shape[0], -1)
    scale = channel_scales(rows)
    codes = np.clip(np.rint(rows / scale[:, None]), -127, 127).astype(np.int8)
    return np.ascontiguousarray(np.moveaxis(codes.reshape(moved.shape), 0, axis)), scale


def weight_axis(node: onnx.NodeProto) -> int | None:
    """The output-channel axis of the second input, if the node is one whose weight gets quantized."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "MatMul":
        return 1
    if node.op_type == "Gemm":
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        return 0 if transposed else 1
    return None


def quantize_model(model: onnx.ModelProto) -> int:
    """Quantizes in place; returns the number of weights that became int8."""
    graph = model.graph
    weights = {t.name: t for t in graph.initializer}
    users: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            users[name] = users.get(name, 0) + 1
    new_nodes, done, count = [], set(), 0
    for node in graph.node:
        axis = weight_axis(node)
        name = node.input[1] if axis is not None else ""
        tensor = weights.get(name)
        named_float = any(part in f"{node.name}/{name}" for part in FLOAT)
        if tensor is not None and not named_float and users[name] == 1 and name not in done:
            weight = numpy_helper.to_array(tensor)
            if weight.dtype == np.float32 and weight.ndim >= 2 and weight.size >= SMALLEST:
                codes, scale = quantize_weight(weight, axis)
                done.add(name)
                graph.initializer.remove(tensor)
                graph.initializer.extend([
                    numpy_helper.from_array(codes, name + "_quantized"),
                    numpy_helper.from_array(scale, name + "_scale"),
                    numpy_helper.from_array(np.zeros(scale.shape, np.int8), name + "_zero_point"),
                ])
                new_nodes.append(helper.make_node(
                    "DequantizeLinear",
                    [name + "_quantized", name + "_scale", name + "_zero_point"],
                    [name], name=name + "_DequantizeLinear", axis=axis,
                ))
                count += weight.size
        new_nodes.append(node)
    del graph.node[:]
    graph.node.extend(new_nodes)
    return count


def shorten_names(graph: onnx.GraphProto) -> None:
    """Numbers the values that only connect nodes: exporters name them by their whole path, which is a tenth of a small
    model's bytes. Nodes, weights, inputs and outputs keep their names."""
    if any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute):
        return  # subgraphs speak of outer values by name
    kept = {value.name for value in (*graph.input, *graph.output)} | {tensor.name for tensor in graph.initializer}
    short: dict[str, str] = {}
    for node in graph.node:
        if node.op_type != "DequantizeLinear":
            short.update((name, f"#{len(short) + i}") for i, name in enumerate(node.output) if name and name not in kept)
    for node in graph.node:
        node.input[:] = [short.get(name, name) for name in node.input]
        node.output[:] = [short.get(name, name) for name in node.output]
    del graph.value_info[:]


def quantize_pack(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        out = target / path.relative_to(source)
        out.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != ".onnx":
            shutil.copy(path, out)
            continue
        model = onnx.load(str(path))
        total = sum(int(np.prod(t.dims)) for t in model.graph.initializer)
        count = quantize_model(model)
        shorten_names(model.graph)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, str(out))
        print(f"{path.relative_to(source)}: {count / 1e6:.2f} of {total / 1e6:.2f} M values int8, "
              f"{path.stat().st_size / 1e6:.2f} -> {out.stat().st_size / 1e6:.2f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="fp32 ONNX folder")
    parser.add_argument("target", type=Path, help="int8 folder to write")
    args = parser.parse_args()
    quantize_pack(args.source, args.target)


if __name__ == "__main__":
    main()
