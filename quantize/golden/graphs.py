"""Writes small graphs as exporters and quantizers write them, with onnxruntime's outputs.

    python quantize/golden/graphs.py tests/golden/graphs

A UNet, a VAE decoder and a CLIP text encoder of Stable Diffusion's kinds of layers, exported by torch.onnx (TorchScript
opset 14 and 17, dynamo opset 18 and 20; fixed and symbolic sizes), and one block of each kind of layer as ONNX Runtime's
quantizers leave it, and in half precision.

    cases.json.gz   for each graph: its name, its inputs, and what onnxruntime gives
    NAME.onnx.gz    stripped of what is not computed with; weights that a seed gives are not in the file, but named by
                    `fill` (seed, mean, spread, and whether the axes are swapped): `fill()` here and in
                    src/engine/exports_tests.rs

The files are tests of the lowering (`cargo test --lib engine::exports`).
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from transformers import CLIPTextConfig, CLIPTextModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import export  # noqa: E402


def fill(seed: int, count: int, mean: float, std: float) -> np.ndarray:
    """Numbers evenly spread around `mean`: murmur3's finalizer over seed and index."""
    x = (np.arange(count, dtype=np.uint64) + np.uint64(seed * 1_000_003)).astype(np.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    x ^= x >> np.uint32(16)
    return (mean + std * (x.astype(np.float64) / 2**31 - 1.0)).astype(np.float32)


class Filled:
    """A network whose weights a seed gives, and where to find them again in a graph."""

    def __init__(self, module: torch.nn.Module):
        self.module, self.known = module.eval(), {}
        for seed, (name, parameter) in enumerate(module.named_parameters()):
            mean, std = (1.0, 0.2) if parameter.dim() == 1 and name.endswith("weight") else (0.0, 0.1)
            if parameter.dim() > 1:
                std = float(np.float32((3.0 / parameter[0].numel()) ** 0.5 if "embedding" not in name else 1.0))
            values = fill(seed, parameter.numel(), mean, std).reshape(parameter.shape)
            parameter.data = torch.from_numpy(values.copy())
            self.known[values.tobytes()] = (seed, mean, std, False)
            if values.ndim == 2:
                self.known[np.ascontiguousarray(values.T).tobytes()] = (seed, mean, std, True)

    def strip(self, model: onnx.ModelProto) -> onnx.ModelProto:
        for tensor in model.graph.initializer:
            known = self.known.get(onnx.numpy_helper.to_array(tensor).tobytes()) if len(tensor.dims) else None
            if known is not None:
                tensor.ClearField("raw_data")
                tensor.ClearField("float_data")
                tensor.external_data.add(key="fill", value=" ".join(repr(part) for part in known[:3]) + f" {int(known[3])}")
        return bare(model)


def bare(model: onnx.ModelProto) -> onnx.ModelProto:
    for field in ("metadata_props", "doc_string", "producer_version"):
        model.ClearField(field)
    for field in ("value_info", "doc_string", "metadata_props"):
        model.graph.ClearField(field)
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        part.ClearField("doc_string")
        if "metadata_props" in part.DESCRIPTOR.fields_by_name:
            part.ClearField("metadata_props")
    return model


class Decoder(torch.nn.Module):
    def __init__(self, vae: AutoencoderKL):
        super().__init__()
        self.post_quant_conv, self.decoder = vae.post_quant_conv, vae.decoder

    def forward(self, latent_sample):
        return self.decoder(self.post_quant_conv(latent_sample))


class Block(torch.nn.Module):
    """One of each kind of layer."""

    def __init__(self):
        super().__init__()
        self.conv_in = torch.nn.Conv2d(4, 16, 3, padding=1)
        self.resnet = ResnetBlock2D(in_channels=16, out_channels=16, temb_channels=16, groups=4)
        self.transformer = BasicTransformerBlock(16, 2, 8, cross_attention_dim=16)
        self.upsample = Upsample2D(16, use_conv=True, out_channels=16)
        self.conv_out = torch.nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, sample, embedding, text):
        x = self.resnet(self.conv_in(sample), embedding)
        batch, channels, height, width = x.shape
        x = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        x = self.transformer(x, encoder_hidden_states=text)
        x = x.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
        return self.conv_out(torch.nn.functional.relu(self.upsample(x)))


def networks() -> dict[str, tuple[Filled, dict[str, torch.Tensor], str, dict]]:
    """Name -> network, inputs, output, symbolic sizes."""
    torch.manual_seed(3)
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=24, attention_head_dim=2, norm_num_groups=4)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 32), layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=16)
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=12, hidden_act="quick_gelu", bos_token_id=48, eos_token_id=49, pad_token_id=49))
    for network in (unet, vae, text):
        for module in network.modules():
            if hasattr(module, "set_attn_processor"):
                module.set_attn_processor(export.AttnProcessor())
    wave = lambda *shape: torch.from_numpy(fill(99, int(np.prod(shape)), 0.0, 1.7).reshape(shape).copy())  # noqa: E731
    return {
        "unet": (Filled(export.Unet(unet)), {
            "sample": wave(2, 4, 8, 8), "timestep": torch.tensor([421]), "encoder_hidden_states": wave(2, 7, 24),
        }, "out_sample", {"sample": {0: "batch", 2: "height", 3: "width"}, "encoder_hidden_states": {0: "batch", 1: "tokens"}}),
        "vae_decoder": (Filled(Decoder(vae)), {"latent_sample": wave(1, 4, 6, 10)}, "sample",
                        {"latent_sample": {0: "batch", 2: "height", 3: "width"}}),
        "text_encoder": (Filled(export.TextEncoder(text)), {
            "input_ids": torch.tensor([[48, *range(3, 13), 49]], dtype=torch.int32)}, "last_hidden_state",
            {"input_ids": {0: "batch"}}),
    }


def run(path: Path, inputs: dict[str, torch.Tensor], optimize: bool = True) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    types = {entry.name: entry.type for entry in session.get_inputs()}
    half = lambda name, value: value.astype(np.float16) if "float16" in types[name] else value  # noqa: E731
    return session.run(None, {name: half(name, value.numpy()) for name, value in inputs.items()})[0].astype(np.float32)


def to_onnx(filled: Filled, path: Path, inputs: dict, output: str, dynamic: dict | None, opset: int, dynamo: bool) -> None:
    common = {"input_names": list(inputs), "output_names": [output], "opset_version": opset}
    with torch.no_grad():
        if dynamo:
            symbols = None
            if dynamic:
                # A name for each size, whatever it is tied to: the exporter finds equal ones out.
                symbols = {name: {axis: torch.export.Dim.DYNAMIC for axis in dynamic.get(name, {})} for name in inputs}
            torch.onnx.export(filled.module, kwargs=inputs, f=str(path), dynamo=True, dynamic_shapes=symbols,
                              external_data=False, verbose=False, **common)
        else:
            torch.onnx.export(filled.module, tuple(inputs.values()), str(path), dynamo=False, dynamic_axes=dynamic, **common)


class Calibration(CalibrationDataReader):
    def __init__(self, inputs: dict):
        self.left = [{name: (value * scale).numpy() for name, value in inputs.items()} for scale in (1.0, 0.7)]

    def get_next(self):
        return self.left.pop() if self.left else None


def quantized(work: Path, block: Filled, inputs: dict) -> dict[str, Path]:
    source = work / "block.onnx"
    to_onnx(block, source, inputs, "out", None, 17, False)
    paths = {kind: work / f"block-{kind}.onnx" for kind in ("dynamic", "dynamic-u8", "qdq", "qoperator", "half")}
    quantize_dynamic(source, paths["dynamic"], weight_type=QuantType.QInt8, per_channel=True,
                     op_types_to_quantize=["MatMul", "Gemm", "Conv"])
    quantize_dynamic(source, paths["dynamic-u8"], weight_type=QuantType.QUInt8, op_types_to_quantize=["MatMul", "Gemm", "Conv"])
    quantize_static(source, paths["qdq"], Calibration(inputs), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    quantize_static(source, paths["qoperator"], Calibration(inputs), quant_format=QuantFormat.QOperator, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Conv"])
    half = onnx.load(source)
    from onnxruntime.transformers.float16 import convert_float_to_float16
    onnx.save(convert_float_to_float16(half, keep_io_types=False), paths["half"])
    return {"float": source, **paths}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    cases = []

    def case(name: str, path: Path, inputs: dict, strip, **more) -> None:
        model = strip(onnx.load(path))
        (args.out / f"{name}.onnx.gz").write_bytes(gzip.compress(model.SerializeToString(), 9, mtime=0))
        cases.append({
            "name": name, **more,
            "inputs": {key: {"shape": list(value.shape), "values": [float(f"{x:.7g}") for x in value.flatten()]}
                       for key, value in inputs.items()},
        })

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for kind, (filled, inputs, output, dynamic) in networks().items():
            for exporter, opset, dynamo, sizes in (
                ("torchscript-14", 14, False, dynamic), ("torchscript-17", 17, False, None),
                ("dynamo-18", 18, True, None), ("dynamo-20", 20, True, dynamic),
            ):
                name = f"{kind}-{exporter}"
                path = work / f"{name}.onnx"
                to_onnx(filled, path, inputs, output, sizes, opset, dynamo)
                out = run(path, inputs)
                print(name, path.stat().st_size, out.shape, float(np.sqrt((out**2).mean())))
                case(name, path, inputs, filled.strip, network=kind, shape=list(out.shape),
                     output=[float(f"{x:.6g}") for x in out.flatten()])
        torch.manual_seed(4)
        block = Filled(Block())
        inputs = {
            "sample": torch.from_numpy(fill(7, 256, 0.0, 1.7).reshape(1, 4, 8, 8).copy()),
            "embedding": torch.from_numpy(fill(8, 16, 0.0, 1.7).reshape(1, 16).copy()),
            "text": torch.from_numpy(fill(9, 80, 0.0, 1.7).reshape(1, 5, 16).copy()),
        }
        for kind, path in quantized(work, block, inputs).items():
            out = run(path, inputs)
            print(kind, path.stat().st_size, sorted({f"{n.domain}.{n.op_type}" for n in onnx.load(path).graph.node}))
            case(f"block-{kind}", path, inputs, block.strip if kind == "float" else bare, network="block",
                 shape=list(out.shape), output=[float(f"{x:.6g}") for x in out.flatten()],
                 # Node by node, as the file says; optimized, ONNX Runtime computes in integers and rounds elsewhere.
                 unoptimized=[float(f"{x:.6g}") for x in run(path, inputs, optimize=False).flatten()])
    (args.out / "cases.json.gz").write_bytes(gzip.compress(json.dumps(cases).encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
