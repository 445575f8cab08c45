"""Turns the weights of a float ONNX pack into int8, in standard ONNX that ONNX Runtime loads too.

    python quantize/quantize.py ONNX_FOLDER INT8_FOLDER

Every weight of a Conv, Gemm or MatMul becomes an s8 initializer behind a DequantizeLinear with one
symmetric scale per output channel. Activations stay float in the graph (the engine may quantize
them at run time), and so do biases and every layer with one of FLOAT or of --keep-float in its name; large ones of them
are stored in half precision, behind a Cast. Values between nodes get short names, which saves a small model a tenth of
its size.

Memory holds the graph and one weight at a time where the source keeps its weights in external data, else the source's file
as well (below 2 GB). A network that is done already, from the same file and with the same options, is not done again.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tqdm import tqdm

import smooth
from to_onnx import PAGE, PROTOBUF_MAX, tensor_bytes, tensor_raw

# Node names (SD 1.x in Optimum's layout) whose weights stay float: the first and last convolution,
# which see pixels or latents directly, the tiny 1x1 convolutions around the latents, and the
# embedding of the time step, which all other layers depend on.
FLOAT = ("conv_in", "conv_out", "quant_conv", "time_embedding")
SMALLEST = 1024  # weights; below this int8 saves nothing, nor does half precision
CLIPS = (1.0, 0.98, 0.96, 0.93, 0.9, 0.86, 0.82)  # shares of the largest value tried as the range
HALVES = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
# Room for the graph itself in a file that has its weights inside.
INLINE_MAX = PROTOBUF_MAX - 50_000_000


@dataclass(frozen=True)
class Recipe:
    """What is asked for."""

    keep_float: tuple[str, ...] = FLOAT
    half: bool = True
    smooth: float | None = None

    def said(self) -> dict:
        return {"keep_float": list(self.keep_float), "half": self.half, "smooth": self.smooth}


@dataclass
class Sink:
    """Where the numbers of tensors go: into the graph, or one after the other into a file beside it."""

    path: Path | None = None
    at: int = 0
    file: object = field(default=None, repr=False)

    def put(self, name: str, values: np.ndarray) -> TensorProto:
        if self.path is None or values.nbytes < SMALLEST:
            return numpy_helper.from_array(values, name)
        if self.file is None:
            self.file = self.path.open("wb")
        self.at += self.file.write(b"\0" * (-self.at % PAGE))
        tensor = TensorProto(name=name, dims=values.shape, data_type=helper.np_dtype_to_tensor_dtype(values.dtype),
                             data_location=TensorProto.EXTERNAL)
        where = {"location": self.path.name.removesuffix(".partial"), "offset": self.at, "length": values.nbytes}
        for key, value in where.items():
            tensor.external_data.add(key=key, value=str(value))
        self.at += self.file.write(np.ascontiguousarray(values).data)
        return tensor

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


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


def widen(model: onnx.ModelProto) -> None:
    """Has a graph of halves compute in f32; its initializers are widened as they are read."""
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type in HALVES:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in HALVES:
                attribute.i = TensorProto.FLOAT
            if attribute.HasField("t") and attribute.t.data_type in HALVES:
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float32)))
    del model.graph.value_info[:]


def values_of(tensor: TensorProto, folder: Path) -> np.ndarray:
    """The numbers of an initializer, halves as f32."""
    if tensor.external_data:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        values = np.frombuffer(tensor_raw(tensor, folder), dtype).reshape(tuple(tensor.dims))
    else:
        values = numpy_helper.to_array(tensor)
    return values.astype(np.float32) if tensor.data_type in HALVES else values


def plain(name: str) -> str:
    """Without the level of a CLIP text encoder that PyTorch's names have, and those of some exports have not."""
    return name.replace("text_model.", "").replace("text_model/", "")


def is_called(part: str, node: str, weight: str) -> bool:
    """Whether a layer has `part` in its name: as the graph has it, or as PyTorch does ("/mid_block/attn1/to_q/MatMul" is
    mid_block.attn1.to_q)."""
    return any(plain(part) in plain(path) for path in (f"{node}/{weight}", node.replace("/", ".").removeprefix(".")))


def unknown(path: Path, names: Iterable[str]) -> list[str]:
    """Those that no layer of the network in this file is called."""
    nodes = onnx.load(str(path), load_external_data=False).graph.node
    layers = [(node.name, node.input[1]) for node in nodes if weight_axis(node) is not None]
    return [name for name in names if not any(is_called(name, *layer) for layer in layers)]


def quantizable(graph: onnx.GraphProto, keep_float: tuple[str, ...]) -> dict[str, int]:
    """Initializer -> its output-channel axis, for every weight that becomes int8."""
    dims = {tensor.name: tensor for tensor in graph.initializer}
    users: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            users[name] = users.get(name, 0) + 1
    found = {}
    for node in graph.node:
        axis = weight_axis(node)
        name = node.input[1] if axis is not None else ""
        tensor = dims.get(name)
        if tensor is None or any(is_called(part, node.name, name) for part in keep_float) or users[name] != 1:
            continue
        floats = tensor.data_type in {TensorProto.FLOAT, *HALVES}
        if floats and len(tensor.dims) >= 2 and np.prod(tensor.dims) >= SMALLEST:
            found[name] = axis
    return found


def quantize_model(model: onnx.ModelProto, recipe: Recipe = Recipe(half=False), folder: Path = Path(), sink: Sink | None = None,
                   factors: dict[str, tuple[np.ndarray, int]] | None = None, progress=None) -> int:
    """Quantizes in place; returns the number of weights that became int8.

    `factors` multiply an initializer along an axis before anything else becomes of it (smooth.py).
    """
    graph, sink, factors = model.graph, sink or Sink(), factors or {}
    if any(tensor.data_type in HALVES for tensor in graph.initializer):
        widen(model)
    chosen = quantizable(graph, recipe.keep_float)
    tensors, nodes, count = list(graph.initializer), [], 0
    new = []
    for tensor in tensors:
        name, size = tensor.name, tensor_bytes(tensor)
        values = values_of(tensor, folder)
        if name in factors:
            factor, along = factors[name]
            shape = [-1 if i == along else 1 for i in range(values.ndim)]
            values = (values * factor.reshape(shape)).astype(values.dtype)
        if name in chosen:
            codes, scale = quantize_weight(values, chosen[name])
            new += [sink.put(name + "_quantized", codes), sink.put(name + "_scale", scale),
                    sink.put(name + "_zero_point", np.zeros(scale.shape, np.int8))]
            nodes.append(helper.make_node(
                "DequantizeLinear", [name + "_quantized", name + "_scale", name + "_zero_point"],
                [name], name=name + "_DequantizeLinear", axis=chosen[name]))
            count += values.size
        elif recipe.half and values.dtype == np.float32 and values.size >= SMALLEST and np.abs(values).max() < 65504:
            new.append(sink.put(name + "_half", values.astype(np.float16)))
            nodes.append(helper.make_node("Cast", [name + "_half"], [name], name=name + "_Cast", to=TensorProto.FLOAT))
        else:
            new.append(sink.put(name, values))
        tensor.Clear()
        if progress is not None:
            progress(size)
    del graph.initializer[:]
    graph.initializer.extend(new)
    nodes.extend(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    names = set(chosen)
    kept_inputs = [value for value in graph.input if value.name not in names]  # old exporters list weights there
    del graph.input[:]
    graph.input.extend(kept_inputs)
    return count


def shorten_names(graph: onnx.GraphProto) -> None:
    """Numbers the values that only connect nodes: exporters name them by their whole path, which is a tenth of a small
    model's bytes. Nodes, weights, inputs and outputs keep their names."""
    if any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute):
        return  # subgraphs speak of outer values by name
    kept = {value.name for value in (*graph.input, *graph.output)} | {tensor.name for tensor in graph.initializer}
    short: dict[str, str] = {}
    for node in graph.node:
        for name in node.output:
            if name and name not in kept and node.op_type != "DequantizeLinear":
                short[name] = f"#{len(short)}"
    for node in graph.node:
        node.input[:] = [short.get(name, name) for name in node.input]
        node.output[:] = [short.get(name, name) for name in node.output]
    del graph.value_info[:]


def int8_bytes(model: onnx.ModelProto, recipe: Recipe) -> int:
    """What the weights will take, about."""
    chosen = quantizable(model.graph, recipe.keep_float)
    size = 0
    for tensor in model.graph.initializer:
        count = int(np.prod(tensor.dims))
        floats = tensor.data_type in {TensorProto.FLOAT, *HALVES}
        size += count if tensor.name in chosen else count * 2 if floats and recipe.half else 4 * count if floats else tensor_bytes(tensor)
    return size


def network_bytes(folder: Path) -> int:
    """Bytes of the networks below it, what engines make of them left out."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and (".onnx" in file.name or file.suffix == ".data"))


def stamp(path: Path, recipe: Recipe) -> dict:
    """What a finished network was made from."""
    files = sorted(file for file in path.parent.iterdir() if ".onnx" in file.name and file.is_file())
    return recipe.said() | {"from": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]}


def quantize_file(path: Path, out: Path, recipe: Recipe, factors: dict) -> int:
    """One network; `out` appears whole or not at all."""
    model = onnx.load(str(path), load_external_data=False)
    if max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0) < 13:
        raise SystemExit(f"{path}: opset 13 or later is needed for a scale per channel; export it again")
    total = sum(tensor_bytes(tensor) for tensor in model.graph.initializer)
    outside = any(tensor.external_data for tensor in model.graph.initializer) or int8_bytes(model, recipe) > INLINE_MAX
    sink = Sink(out.with_name(out.name + "_data.partial") if outside else None)
    with tqdm(total=total, desc=str(out.parent.name), unit="B", unit_scale=True, leave=False) as bar:
        count = quantize_model(model, recipe, path.parent, sink, factors, bar.update)
    sink.close()
    shorten_names(model.graph)
    partial = out.with_name(out.name + ".partial")
    onnx.save(model, str(partial))
    if sink.file is not None:
        sink.path.replace(out.with_name(out.name + "_data"))
    partial.replace(out)
    onnx.checker.check_model(str(out), full_check=not outside)
    return count


def quantize_pack(source: Path, target: Path, recipe: Recipe = Recipe(), kept: dict[str, tuple[str, ...]] | None = None) -> None:
    """Every network of a pack; `kept` names further layers of a component that stay float."""
    target.mkdir(parents=True, exist_ok=True)
    state = target / ".quantize.json"
    done = json.loads(state.read_text()) if state.is_file() else {}
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        relative = path.relative_to(source)
        out = target / relative
        if ".onnx_data" in path.name or path.name.endswith((".data", ".packed")) or relative.name.startswith("."):
            continue
        out.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != ".onnx":
            shutil.copy(path, out)
            continue
        layers = (kept or {}).get(relative.parent.name, ())
        if layers and (missing := unknown(path, layers)):
            raise SystemExit(f"{path}: no layer is called {missing[0]}, which --sensitivity says stays float (and {len(missing) - 1} "
                             "more): was it measured on another checkpoint? Other exporters give layers other names; export.py keeps them")
        own = replace(recipe, keep_float=(*recipe.keep_float, *layers))
        name, of = relative.as_posix(), stamp(path, own)
        if done.get(name, {}).get("of") == of and out.is_file():
            print(f"{name}: done before")
            continue
        factors = smooth.factors(source, path, recipe.smooth) if recipe.smooth is not None else {}
        count = quantize_file(path, out, own, factors)
        sizes = [network_bytes(file.parent) for file in (path, out)]
        print(f"{name}: {count / 1e6:.2f} M weights int8, {sizes[0] / 1e6:.2f} -> {sizes[1] / 1e6:.2f} MB"
              + f", {len(factors)} smoothed" * bool(factors) + f", {len(own.keep_float) - len(FLOAT)} layers kept" * (own.keep_float != FLOAT))
        done[name] = {"of": of}
        state.write_text(json.dumps(done, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="fp32 or fp16 ONNX folder")
    parser.add_argument("target", type=Path, help="int8 folder to write")
    parser.add_argument("--keep-float", nargs="+", default=[], metavar="NAME",
                        help=f"layers that stay float, by a part of their name, beside {', '.join(FLOAT)}")
    parser.add_argument("--sensitivity", type=Path, metavar="FILE",
                        help="what sensitivity.py --json wrote: the layers that it says stay float")
    parser.add_argument("--smooth", type=float, nargs="?", const=smooth.ALPHA, metavar="ALPHA",
                        help=f"move outliers of layer norms into the weights behind them, so much of them [{smooth.ALPHA}]")
    parser.add_argument("--float32", action="store_true", help="store what stays float in f32")
    args = parser.parse_args()
    recipe = Recipe((*FLOAT, *args.keep_float), not args.float32, args.smooth)
    tables = json.loads(args.sensitivity.read_text(encoding="utf-8")) if args.sensitivity else {}
    kept = {component: tuple(found["keep"]) for component, found in tables.items()}
    quantize_pack(args.source, args.target, recipe, kept)


if __name__ == "__main__":
    main()
