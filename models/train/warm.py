"""Goes on from a pack where no checkpoint is left: its weights, made float again, become checkpoints in STATE.

    python models/train/warm.py models/emoji STATE

Which tensor of an ONNX file belongs to which parameter is found out, not assumed: the same networks with random
weights are exported the same way, every parameter is looked up in that graph by its values, and the pack's tensor at
the same input of the same node takes its place. Optimisers start afresh, so training needs some hundred steps to be
where it was; rounding to int8 costs it next to nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "quantize")]

import models  # noqa: E402
import tokenizer as T  # noqa: E402
from assemble import write_folder  # noqa: E402
from export import export  # noqa: E402
from optim import save_atomic  # noqa: E402
from train_clip import Temperature  # noqa: E402

PARTS = {"text": ("text_encoder",), "image": ("image_encoder",), "unet": ("unet",), "fast": ("unet_fast",),
         "vae": ("vae_encoder", "vae_decoder")}


class Graph:
    """The constant inputs of an ONNX file's nodes, dequantized, by (node, position)."""

    def __init__(self, path: Path):
        graph = onnx.load(str(path)).graph
        self.values = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        for node in graph.node:
            if node.op_type == "DequantizeLinear":
                codes, scale = (self.values[name] for name in node.input[:2])
                axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
                shape = [-1 if i == axis % codes.ndim else 1 for i in range(codes.ndim)]
                self.values[node.output[0]] = codes.astype(np.float32) * scale.reshape(shape)
            elif node.op_type == "Cast" and node.input[0] in self.values:  # what stays float lies in halves
                self.values[node.output[0]] = self.values[node.input[0]]
        self.at = {(usual(node.name), i): name for node in graph.node if node.op_type not in ("DequantizeLinear", "Cast")
                   for i, name in enumerate(node.input) if name in self.values}


def usual(node: str) -> str:
    """A node's name as exports of today have it: those of before SDXL called the text tower's projection otherwise."""
    return "/text_projection/MatMul" if node == "/projection/MatMul" else node


def fingerprint(values: np.ndarray) -> bytes:
    """The same for any order and shape of the same numbers."""
    return np.sort(values.astype(np.float32).ravel()).tobytes()


def like(values: np.ndarray, known: np.ndarray, parameter: torch.Tensor) -> torch.Tensor:
    """`values`, which lie in the graph as `known` does, laid out as `parameter`, which holds known's numbers."""
    for turn in (lambda x: x.reshape(parameter.shape), lambda x: x.T.reshape(parameter.shape)):
        if np.array_equal(turn(known), parameter.numpy()):
            return torch.from_numpy(turn(values).astype(np.float32).copy())
    raise ValueError(f"a tensor of shape {known.shape} is no parameter of shape {tuple(parameter.shape)}")


def restore(module: torch.nn.Module, exported: list[Graph], pack: list[Graph]) -> None:
    """Gives `module`, whose parameters `exported` shows, the weights of `pack`."""
    found = {}
    for theirs, ours in zip(exported, pack):
        for place, name in theirs.at.items():
            if place in ours.at:
                known = theirs.values[name]
                found[fingerprint(known)] = known, ours.values[ours.at[place]]
    weights = {name: like(found[key][1], found[key][0], p) for name, p in module.state_dict().items()
               if (key := fingerprint(p.numpy())) in found}
    missing = [n for n, p in module.named_parameters() if n not in weights]
    if missing:
        raise ValueError(f"the pack has no {missing[0]} ({len(missing)} parameters in all)")
    module.load_state_dict(weights, strict=False)


def build(tokenizer: Path) -> dict[str, torch.nn.Module]:
    """All networks, every parameter another random number."""
    torch.manual_seed(1)
    parts = {"text": models.build_text_encoder(len(T.load_tokenizer(tokenizer))), "image": models.build_image_encoder(),
             "unet": models.build_unet(), "fast": models.build_unet(), "vae": models.build_vae()}
    for module in parts.values():
        for p in module.parameters():
            torch.nn.init.normal_(p, std=0.1)
    return parts


def warm(pack: Path, state: Path) -> None:
    T.write_tokenizer(state / "tokenizer")
    parts = {name: module for name, module in build(state / "tokenizer").items() if (pack / PARTS[name][0]).exists()}
    with tempfile.TemporaryDirectory() as scratch, torch.no_grad():
        folder, onnx_folder = Path(scratch) / "diffusers", Path(scratch) / "onnx"
        write_folder(folder, **parts)
        export(folder, onnx_folder)
        for name, module in parts.items():
            files = [f"{part}/model.onnx" for part in PARTS[name]]
            restore(module, [Graph(onnx_folder / f) for f in files], [Graph(pack / f) for f in files])
    parts["scale"] = Temperature()
    weights = {name: module.state_dict() for name, module in parts.items()}
    save_atomic({"ema": {"vae": weights["vae"]}}, state / "vae-unit.pt")
    for file, names in {"clip": {"text": "text", "image": "image", "scale": "scale"},
                        "unet": {"unet": "unet", "text": "text"}, "text": {"text": "text"}, "fast": {"unet": "fast"}}.items():
        if not all(part in weights for part in names.values()):
            continue
        held = {name: weights[part] for name, part in names.items()}
        save_atomic({"model": held, "ema": held, "step": 0, "seconds": 0.0, "history": []}, state / f"{file}.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path)
    parser.add_argument("state", type=Path, help="folder for the checkpoints; what is there already is replaced")
    args = parser.parse_args()
    args.state.mkdir(parents=True, exist_ok=True)
    warm(args.pack, args.state)


if __name__ == "__main__":
    main()
