"""Writes one PyTorch module as an ONNX file, by either of PyTorch's exporters.

TorchScript (opset 14 to 20) traces; its graphs are plain: MatMul + Softmax attention, constants folded, and every
runtime knows them. Dynamo (opset 18 to 20) is what PyTorch goes on with. The file appears whole or not at all.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from onnx.external_data_helper import _get_all_tensors, uses_external_data

OPSET = 17
OPSETS = {"torchscript": range(14, 21), "dynamo": range(18, 21)}
TOKENS = 77
# A message of protobuf is below 2 GiB; larger models keep their weights in model.onnx_data, as Optimum does.
PROTOBUF_MAX = 2_000_000_000
# Offsets in external data are multiples of this, so that it can be mapped.
PAGE = 4096


@dataclass(frozen=True)
class Options:
    """How networks are written."""

    exporter: str = "torchscript"
    opset: int = OPSET
    half: bool = False
    external_data: str = "auto"  # auto: above 2 GB; none, one file, or many

    def check(self) -> None:
        allowed = OPSETS[self.exporter]
        if self.opset not in allowed:
            raise SystemExit(f"opset {self.opset}: {self.exporter} writes {allowed.start} to {allowed.stop - 1}")


def write_onnx(module, inputs: dict, outputs: list[str], axes: dict, path: Path, options: Options = Options()) -> None:
    """`axes` names the dynamic dimensions of every input and output: {name: {axis: name}}."""
    options.check()
    module = module.eval()
    if options.half:
        module = module.half()
        inputs = {name: value.half() if value.is_floating_point() else value for name, value in inputs.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as scratch:
        exported = Path(scratch) / path.name
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            export = dynamo if options.exporter == "dynamo" else torchscript
            export(module, inputs, outputs, axes, exported, options.opset)
        finish(exported, path, axes, options.external_data)


def torchscript(module, inputs: dict, outputs: list[str], axes: dict, path: Path, opset: int) -> None:
    torch.onnx.export(
        module, tuple(inputs.values()), str(path), input_names=list(inputs), output_names=outputs, dynamic_axes=axes,
        opset_version=opset, do_constant_folding=True, dynamo=False,
    )


def dynamo(module, inputs: dict, outputs: list[str], axes: dict, path: Path, opset: int) -> None:
    # A free size for each axis, whatever it is tied to: the exporter finds equal ones out.
    free = {name: {axis: torch.export.Dim.DYNAMIC for axis in axes.get(name, {})} for name in inputs}
    torch.onnx.export(
        module, kwargs=inputs, f=str(path), input_names=list(inputs), output_names=outputs, dynamic_shapes=free,
        opset_version=opset, dynamo=True, external_data=True, verbose=False,
    )


def finish(exported: Path, path: Path, axes: dict, external: str) -> None:
    """Moves what an exporter wrote to its place, weights inside the file or beside it."""
    model = onnx.load(str(exported), load_external_data=False)
    for value in (*model.graph.input, *model.graph.output):
        settle_names(value, axes.get(value.name, {}))
    size = sum(tensor_bytes(tensor) for tensor in model.graph.initializer)
    if external == "none" and size > PROTOBUF_MAX:
        raise SystemExit(f"{path}: {size / 1e9:.1f} GB do not fit into one ONNX file; --external-data one or many")
    if external == "auto":
        external = "one" if size > PROTOBUF_MAX else "none"
    final = exported.with_name("final")
    final.mkdir()
    if external == "none":
        onnx.external_data_helper.load_external_data_for_model(model, str(exported.parent))
        for tensor in _get_all_tensors(model):
            tensor.ClearField("data_location")
            del tensor.external_data[:]
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, str(final / path.name))
    else:
        gather(model, exported.parent, final, path.name, many=external == "many")
    for file in sorted(final.iterdir(), key=lambda file: file.name == path.name):  # the graph last
        file.replace(path.parent / file.name)


def settle_names(value: onnx.ValueInfoProto, named: dict[int, str], length: int = TOKENS) -> None:
    """The exporter invents a name where it cannot follow a size; only the token axis is one such."""
    for i, size in enumerate(value.type.tensor_type.shape.dim):
        if size.dim_param and i not in named and len(value.type.tensor_type.shape.dim) == 3:
            size.dim_value = length


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Of a tensor's numbers, wherever they are."""
    count = 1
    for dim in tensor.dims:
        count *= dim
    return count * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def gather(model: onnx.ModelProto, source: Path, target: Path, name: str, many: bool) -> None:
    """Puts the weights into `NAME_data`, or into a file each; one tensor is in memory at a time."""
    inline_below = 1024
    data = target / f"{name}_data"
    with data.open("wb") as file:
        for i, tensor in enumerate(model.graph.initializer):
            raw = tensor_raw(tensor, source)
            for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                tensor.ClearField(field)
            del tensor.external_data[:]
            tensor.ClearField("data_location")
            if len(raw) < inline_below:
                tensor.raw_data = bytes(raw)
                continue
            location = {"location": data.name}
            if many:
                location["location"] = f"{name}_{i}.data"
                (target / location["location"]).write_bytes(raw)
            else:
                file.write(b"\0" * (-file.tell() % PAGE))
                location |= {"offset": file.tell(), "length": len(raw)}
                file.write(raw)
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in location.items():
                tensor.external_data.add(key=key, value=str(value))
    if many:
        data.unlink()
    onnx.save(model, str(target / name))
    onnx.checker.check_model(str(target / name))


def tensor_raw(tensor: onnx.TensorProto, folder: Path):
    """The little-endian bytes of a tensor, from the file that holds them."""
    if not uses_external_data(tensor):
        return tensor.raw_data or onnx.numpy_helper.to_array(tensor).tobytes()
    where = {entry.key: entry.value for entry in tensor.external_data}
    with (folder / where["location"]).open("rb") as file:
        file.seek(int(where.get("offset", 0)))
        return file.read(int(where["length"])) if "length" in where else file.read()


def copy_config(source: Path, target: Path, **more) -> None:
    """`config.json` of a component, with what this kind of pack reads."""
    config = json.loads((source / "config.json").read_text(encoding="utf-8")) | more
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def copy_folder(source: Path, target: Path) -> None:
    if source.exists():
        shutil.copytree(source, target, dirs_exist_ok=True)
