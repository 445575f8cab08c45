"""The ways a network gets to ONNX in matrix.py: exporters, opsets, precisions, quantizers."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

import export
import networks
import quantize
import sensitivity
from to_onnx import OPSETS, Options


class Skip(Exception):
    """Why there is nothing in a cell."""


@dataclass(frozen=True)
class Variant:
    """A column of the matrix."""

    name: str
    exporter: str = "torchscript"
    opset: int = 17
    half: bool = False
    external: str = "auto"
    quantizer: str = ""


FIRST = Variant("torchscript-17")
QUANTIZERS = ("ours", "easeld", "ort-dynamic", "ort-dynamic-u8", "ort-qdq", "ort-qoperator", "nbits-4", "nbits-8")


# Of the target, since calibration inputs are not those that are measured.
MARGIN = 0.85
# Enough of a network whose blocks are those of another that was run in every way.
SAMPLE = {"torchscript-17", "torchscript-14", "torchscript-20", "dynamo-18", "dynamo-20", "torchscript-17-fp16", "external-many",
          "optimum-17", "ours", "easeld", "ort-dynamic", "ort-qdq", "nbits-4"}


def variants(full: bool, optimum: bool, component: str, sample: bool = False) -> list[Variant]:
    """Every way for small networks, or a sample of them; at full size those that people use."""
    if sample:
        return [variant for variant in variants(full, optimum, component) if full or variant.name in SAMPLE]
    if full:
        chosen = [Variant("torchscript-17-fp16", half=True), Variant("int8", half=True, quantizer="ours"),
                  Variant("int8-kept", half=True, quantizer="kept")]
        return chosen
    found = [FIRST]
    found += [Variant(f"torchscript-{opset}", opset=opset) for opset in OPSETS["torchscript"] if opset != FIRST.opset]
    found += [Variant(f"dynamo-{opset}", "dynamo", opset) for opset in OPSETS["dynamo"]]
    found += [Variant("torchscript-17-fp16", half=True), Variant("dynamo-18-fp16", "dynamo", 18, half=True),
              Variant("external-one", external="one"), Variant("external-many", external="many")]
    found += [Variant(name, quantizer=name) for name in QUANTIZERS]
    if optimum:
        found += [Variant(f"optimum-{opset}", "optimum", opset) for opset in (14, 17, 18)]
    return found


def make(variant: Variant, source: Path, part: str, component: str, folder: Path, base: Path | None, feeds: list[dict],
         args) -> Path | None:
    """Writes folder/component/model.onnx; returns the same graph in f32, where it is one of halves."""
    out = folder / component
    out.mkdir(parents=True, exist_ok=True)
    if variant.quantizer == "kept":
        layers, model = sensitive(source / part, component, feeds), base / component / "model.onnx"
        if missing := quantize.unknown(model, layers):
            raise Skip(f"no layer of the graph is called {missing[0]}, as PyTorch calls it")
        quantize.quantize_file(model, out / "model.onnx", quantize.Recipe(keep_float=(*quantize.FLOAT, *layers)), {})
        return widened(base / component, folder)
    with quiet():
        if variant.quantizer:
            of_quantizer(variant.quantizer, (base or folder) / component, out, feeds, args)
        elif variant.exporter == "optimum":
            with_optimum(source, component, out, variant.opset, args.optimum)
        else:
            options = Options(variant.exporter, variant.opset, variant.half, variant.external)
            function = {"text_encoder": export.export_text_encoder, "text_encoder_2": export.export_text_encoder,
                        "unet": export.export_unet, "vae_decoder": export.export_vae_decoder,
                        "vae_encoder": export.export_vae_encoder}[component]
            function(source / part, out, options)
    if not variant.half:
        return None
    if variant.quantizer:
        return widened(base / component, folder)
    return widened(out, folder)


def sensitive(folder: Path, component: str, feeds: list[dict]) -> tuple[str, ...]:
    """The layers that have to stay float for quantize.py's target, found on inputs that nothing is measured on."""
    import torch

    if component == "unet":
        model, wrapped = networks.load_unet(folder), networks.wrapped_unet
    elif component.startswith("text_encoder"):
        model, wrapped = networks.load_text_encoder(folder), networks.TextEncoder
    else:
        model, wrapped = networks.load_vae(folder), networks.VaeDecoder if component == "vae_decoder" else networks.VaeEncoder
    network = wrapped(model.float().eval())
    tensors = [{name: torch.from_numpy(value) for name, value in call.items()} for call in feeds]

    def run() -> torch.Tensor:
        outputs = [network(**call) for call in tensors]
        outputs = [output[0] if isinstance(output, tuple) else output for output in outputs]
        means = [output.chunk(2, 1)[0] for output in outputs] if component == "vae_encoder" else outputs
        return torch.cat(means)

    part = {"vae_decoder": "decoder.", "vae_encoder": "encoder."}.get(component, "")
    layers = {name: layer for name, layer in sensitivity.quantizable(model).items() if name.startswith(part)}
    return tuple(sensitivity.table(run, layers, component, MARGIN * sensitivity.TARGET)["keep"])


def widened(model: Path, folder: Path) -> Path:
    """The graph with its halves cast to f32 where they are read, and f32 between its nodes."""
    target = folder / "widened/model.onnx"
    target.parent.mkdir(exist_ok=True)
    quantize.quantize_file(model / "model.onnx", target, quantize.Recipe(keep_float=("",)), {})
    return target


def of_quantizer(kind: str, source: Path, out: Path, feeds: list[dict], args) -> None:
    """What a quantizer makes of the first export."""
    model, path = str(source / "model.onnx"), out / "model.onnx"
    if kind == "ours":
        quantize.quantize_file(Path(model), path, quantize.Recipe(), {})
        return
    if kind == "easeld":
        shutil.rmtree(out.parent)
        ran = subprocess.run([args.easeld, "pack", "quantize", str(source.parent), str(out.parent)], capture_output=True,
                             text=True, check=False)
        if ran.returncode:
            raise Skip(f"easeld pack quantize: {ran.stderr.strip()}")
        return
    if kind.startswith("nbits"):
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        made = MatMulNBitsQuantizer(onnx.load(model), bits=int(kind[-1]), block_size=32, is_symmetric=True)
        made.process()
        made.model.save_model_to_file(str(path), False)
        return
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

    kinds = ["MatMul", "Gemm", "Conv"]
    if kind.startswith("ort-dynamic"):
        signed = not kind.endswith("u8")
        quantize_dynamic(model, str(path), weight_type=QuantType.QInt8 if signed else QuantType.QUInt8, per_channel=signed,
                         op_types_to_quantize=kinds)
        return

    class Calibration(CalibrationDataReader):
        def __init__(self):
            self.left = list(feeds)

        def get_next(self):
            return self.left.pop() if self.left else None

    form = QuantFormat.QDQ if kind == "ort-qdq" else QuantFormat.QOperator
    # As operators, Gemm becomes one of ONNX Runtime's own.
    chosen = kinds if kind == "ort-qdq" else ["MatMul", "Conv"]
    quantize_static(model, str(path), Calibration(), quant_format=form, per_channel=True, activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8, op_types_to_quantize=chosen)


def with_optimum(source: Path, component: str, out: Path, opset: int, python: str) -> None:
    """`optimum-cli export onnx` on a pipeline of its own around the network: Optimum exports no part alone."""
    whole = out.parent / "whole"
    ran = subprocess.run([python, str(Path(__file__).with_name("matrix_optimum.py")), str(source), component, str(whole), str(opset)],
                         capture_output=True, text=True, check=False)
    if ran.returncode:
        raise Skip("Optimum: " + (ran.stderr.strip().splitlines() or ["died"])[-1][:250])
    for file in (whole / component).iterdir():
        shutil.move(str(file), out / file.name)
    shutil.rmtree(whole)


@contextlib.contextmanager
def quiet():
    """Exporters and quantizers talk."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), np.errstate(all="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)
