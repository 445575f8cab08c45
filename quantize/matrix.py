"""Which models run: every architecture, exporter, opset, precision and quantizer, through ONNX Runtime and through easeld.

    python quantize/matrix.py WORK --easeld target/release/easeld                    # small versions, every way
    python quantize/matrix.py WORK --easeld target/release/easeld --full --only sd15 # full size
    python quantize/matrix.py WORK --table docs/models.md  # writes what was found into the page; all else on it stays

Networks are those of architectures.py with seeded random weights. Each is exported, and run on the same inputs by ONNX
Runtime in f32 and by easeld (`pack run`) in f32 and in int8. Errors are relative L2 norms over all calls (a UNet is
called at three time steps). What was found is kept in WORK/results.jsonl, and what is there is not done again; files of
a network are deleted when it is done. --optimum names a Python that has optimum-onnx, whose exports are then tried too.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from tqdm import tqdm

import architectures
import export
import matrix_table
import quantize
from matrix_variants import Variant, Skip, make, variants
from networks import read_config

TIMESTEPS = (999, 500, 20)
SIDES = {False: 16, True: 64}  # latents of small and full-size UNets; VAEs take half of the full ones
CALIBRATION = 11  # seed of the inputs on which layers are chosen that stay float
OTHER_WEIGHTS = ("this exporter read other weights than it was given (Optimum's older transformers does not know the names in a "
                 "CLIPTextModel that transformers 5 wrote, and draws its own); easeld f32 is {:.0e} from ORT on that graph")
FOLDERS = {"text_encoder": "text_encoder", "text_encoder_2": "text_encoder_2", "unet": "unet", "vae_decoder": "vae",
           "vae_encoder": "vae"}
# A network that takes more than this in f32 is not run so by easeld here: tract keeps several copies.
F32_MAX = 6_000_000_000


@dataclass
class Found:
    """One cell of the matrix."""

    architecture: str
    component: str
    full: bool
    variant: str
    parameters: int = 0
    ort: float | None = None       # ONNX Runtime on this graph, against the f32 network
    f32: float | None = None       # easeld --compute f32 against ONNX Runtime on this graph
    int8: float | None = None      # easeld against the f32 network
    noise: float | None = None     # ONNX Runtime against itself: with its optimizations on, or its inputs changed by 1e-5
    same: float | None = None      # easeld against ONNX Runtime on this graph, where a quantizer wrote it
    left: list[str] | None = None  # nodes left to tract
    seconds: float | None = None   # of one int8 call, weights packed
    share: float | None = None     # bytes of the network's files beside those in f32
    note: str = ""


def relative(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    norm = lambda arrays: math.sqrt(sum(float(np.square(a.astype(np.float64)).sum()) for a in arrays))  # noqa: E731
    return norm([a.astype(np.float64) - b for a, b in zip(ours, theirs)]) / norm(theirs)


def calls(component: str, config: dict, full: bool, seed: int = 7, smaller: int = 1) -> list[dict[str, np.ndarray]]:
    """Inputs: tokens with the end where a prompt has it, latents, pixels."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    side = SIDES[full] // smaller
    if component.startswith("text_encoder"):
        end = config["eos_token_id"]
        ids = torch.randint(1, end - 2, (2, 77), generator=generator, dtype=torch.int32)
        ids[:, 0], ids[0, 9:], ids[1, 40:] = config["bos_token_id"], end, end
        return [{"input_ids": ids.numpy()}]
    if component == "unet":
        found = export.unet_inputs(config, side, batch=1 if full else 2)
        return [{name: value.numpy() for name, value in (found | {"timestep": torch.tensor([t])}).items()} for t in TIMESTEPS]
    if component == "vae_decoder":
        side = side // 2 if full else side
        return [{"latent_sample": torch.randn(1, 4, side, side, generator=generator).numpy()}]
    levels = len(next(config[key] for key in ("block_out_channels", "down_block_out_channels", "encoder_block_out_channels") if key in config))
    side = (side // 2 if full else side) << (levels - 1)
    return [{"sample": torch.rand(1, 3, side, side, generator=generator).numpy() * 2 - 1}]


def calibration(component: str, config: dict) -> list[dict[str, np.ndarray]]:
    """Small inputs to choose layers by that stay float; nothing is measured on them."""
    found = calls(component, config, True, CALIBRATION, 4 if component == "unet" else 2)
    return found[1:2] if component == "unet" else found  # one time step does


def in_ort(path: Path, feeds: list[dict], optimize: bool = True) -> list[np.ndarray]:
    """The output that is compared, of every call."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    if not optimize:
        options.add_session_config_entry("session.disable_prepacking", "1")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    chosen = compared([entry.name for entry in session.get_outputs()])
    return [session.run([chosen], fit(session, call))[0].astype(np.float32) for call in feeds]


def noise(component: str, model: Path, feeds: list[dict], same: list[np.ndarray]) -> float:
    """How far ONNX Runtime is from itself on a graph that rounds: nobody can be nearer to it than that, but by its very bits."""
    others = [heart(component, in_ort(model, feeds)), heart(component, in_ort(model, nudged(feeds), optimize=False))]
    return max(relative(other, same) for other in others)


def nudged(feeds: list[dict]) -> list[dict]:
    """Latents and pixels, each changed by about 1e-5 of itself."""
    generator = np.random.default_rng(0)
    change = lambda value: (value * (1 + 1e-5 * generator.standard_normal(value.shape))).astype(value.dtype)  # noqa: E731
    return [{name: change(value) if value.ndim == 4 else value for name, value in call.items()} for call in feeds]


def compared(outputs: list[str]) -> str:
    """The first; of text encoders, whose outputs exporters put in any order, the last hidden state."""
    return "last_hidden_state" if "last_hidden_state" in outputs else outputs[0]


def fit(session: ort.InferenceSession, call: dict) -> dict:
    """Types and ranks as the graph has them: some exporters take the time step as a scalar."""
    kinds = {"tensor(float16)": np.float16, "tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
    given = {}
    for entry in session.get_inputs():
        value = call[entry.name].astype(kinds[entry.type])
        given[entry.name] = value.reshape([]) if not entry.shape else value
    return given


def in_easeld(binary: str, folder: Path, component: str, feeds: list[dict], compute: str) -> tuple[list[np.ndarray], dict]:
    """The same by easeld, and what it says of the run."""
    model = onnx.load(str(folder / component / "model.onnx"), load_external_data=False)
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.input}
    chosen = compared([value.name for value in model.graph.output])
    places = []
    for i, call in enumerate(feeds):
        place = folder / "calls" / str(i)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for name, value in call.items():
            if name in ranks:
                np.save(place / f"{name}.npy", value.reshape([]) if ranks[name] == 0 else value)
        places.append(place)
    ran = subprocess.run([binary, "pack", "run", str(folder), component, *map(str, places), "--output", chosen, "--compute", compute,
                          "--json"],
                         capture_output=True, text=True, check=False)
    if ran.returncode:
        raise Skip("easeld: " + ran.stderr.strip().removeprefix("easeld: "))
    return [np.load(place / f"out/{chosen}.npy") for place in places], json.loads(ran.stdout)


def measure(found: Found, binary: str, folder: Path, reference: Path | None, feeds: list[dict], f32: list[np.ndarray] | None,
            quantized: bool) -> list[np.ndarray]:
    """Fills a cell in; returns the f32 outputs that later cells are compared with."""
    model = folder / found.component / "model.onnx"
    # Halves are compared in f32: ONNX Runtime's own half precision rounds between all nodes.
    part = found.component
    theirs = heart(part, in_ort(reference or model, feeds, optimize=not (quantized or reference)))
    same = theirs
    if reference is not None and not found.full:
        found.ort = relative(heart(part, in_ort(model, feeds)), theirs)
    elif reference is None and f32 is not None:
        found.ort = relative(theirs, f32)
    if quantized and not found.full:
        found.noise = noise(part, model, feeds, same)
    network = theirs if f32 is None or (reference is not None and not quantized) else f32
    gc.collect()
    if found.variant == "int8-kept":
        pass  # what its weights cost alone, no table says
    elif 4 * found.parameters < F32_MAX:
        found.f32 = relative(heart(part, in_easeld(binary, folder, part, feeds, "f32")[0]), same)
    else:
        found.note = "f32 left out: tract would hold more than this machine has"
    ours, said = in_easeld(binary, folder, part, feeds, "int8")
    ours = heart(part, ours)
    found.int8, found.left = relative(ours, network), said["left_to_tract"]
    found.seconds = said["seconds"][-1]
    if quantized:
        found.same = relative(ours, same)
    return theirs


def heart(component: str, outputs: list[np.ndarray]) -> list[np.ndarray]:
    """Of an encoder's output the mean: logarithms of variances are large and say little."""
    return [array[:, : array.shape[1] // 2] for array in outputs] if component == "vae_encoder" else outputs


class Results:
    """WORK/results.jsonl."""

    def __init__(self, path: Path):
        self.path = path
        lines = path.read_text().splitlines() if path.is_file() else []
        self.rows = [Found(**json.loads(line)) for line in lines]

    def has(self, architecture: str, component: str, full: bool, variant: str) -> bool:
        key = (architecture, component, full, variant)
        return any((row.architecture, row.component, row.full, row.variant) == key for row in self.rows)

    def add(self, found: Found) -> None:
        self.rows.append(found)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(found)) + "\n")


def network(name: str, component: str, args, results: Results, bar: tqdm) -> None:
    """One network in every way that is asked for."""
    wanted = asked(component, args)
    missing = [variant for variant in wanted
               if args.variant in ("", variant.name) and not results.has(name, component, args.full, variant.name)]
    if not missing:
        bar.update(len(wanted))
        return
    work = args.work / f"{name}-{component}"
    shutil.rmtree(work, ignore_errors=True)
    architecture = architectures.ARCHITECTURES[name]
    architecture = architecture if args.full else architectures.small(architecture)
    source = work / "diffusers"
    half = args.full  # as checkpoints are published, and half the disk
    architectures.write(name, architecture, source, half=half, only=(FOLDERS[component],))
    config = read_config(source / FOLDERS[component])
    parameters = count(source / FOLDERS[component])
    feeds, f32, base = calls(component, config, args.full), None, None
    for variant in wanted:
        bar.set_postfix_str(f"{name} {component} {variant.name}")
        found = Found(name, component, args.full, variant.name, parameters)
        again = variant in missing or base is None
        folder = work / variant.name
        try:
            if again:
                given = calibration(component, config) if variant.quantizer == "kept" else feeds
                reference = make(variant, source, FOLDERS[component], component, folder, base, given, args)
                if variant in missing:
                    outputs = measure(found, args.easeld, folder, reference, feeds, f32, variant.quantizer != "")
                else:  # others are compared with it
                    outputs = heart(component, in_ort(reference or folder / component / "model.onnx", feeds, optimize=reference is None))
                if variant.quantizer and args.full:
                    found.share = quantize.network_bytes(folder / component) / (2 * quantize.network_bytes(base / component))  # the base is in halves
                f32 = outputs if f32 is None else f32
                if found.ort is not None and found.ort > 1:
                    found.int8, found.note = None, OTHER_WEIGHTS.format(found.f32)
                base = folder if base is None else base
        except Skip as reason:
            found.note = str(reason)
        except Exception as error:  # the matrix says what an exporter or quantizer died of
            found.note = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:300]
        if again and variant in missing:
            results.add(found)
        if folder != base:
            shutil.rmtree(folder, ignore_errors=True)
        bar.update()
    shutil.rmtree(work, ignore_errors=True)


def asked(component: str, args) -> list[Variant]:
    """The first, which others are compared with, and those that are asked for."""
    first, *others = variants(args.full, args.optimum is not None, component, args.sample)
    return [first, *(variant for variant in others if args.variant in ("", variant.name))]


def count(folder: Path) -> int:
    """Parameters, from the headers of the weights."""
    from safetensors import safe_open

    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(str(path), "pt") as file:
            total += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())
    return total


def components(name: str) -> list[str]:
    architecture = architectures.ARCHITECTURES[name]
    found = ["text_encoder"] * (architecture.text is not None) + ["text_encoder_2"] * (architecture.text_2 is not None)
    return found + ["unet"] * (architecture.unet is not None) + ["vae_decoder", "vae_encoder"]


def twins(full: bool) -> dict[tuple[str, str], tuple[str, str]]:
    """Networks that are another architecture's: (architecture, component) -> where it is measured."""
    first: dict[str, tuple[str, str]] = {}
    found = {}
    for name, architecture in architectures.ARCHITECTURES.items():
        architecture = architecture if full else architectures.small(architecture)
        parts = {"text_encoder": architecture.text, "text_encoder_2": architecture.text_2, "unet": architecture.unet,
                 "vae_decoder": architecture.vae, "vae_encoder": architecture.vae}
        for component in components(name):
            # Sizes of pictures and how latents are scaled are no part of the graph.
            config = {key: value for key, value in parts[component].items()
                      if key not in ("sample_size", "scaling_factor", "force_upcast")}
            key = json.dumps([component, config], sort_keys=True)
            first.setdefault(key, (name, component))
            found[name, component] = first[key]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="for results and passing files")
    parser.add_argument("--easeld", metavar="BINARY")
    parser.add_argument("--full", action="store_true", help="published sizes; up to 20 GB of memory and 15 of disk for SDXL")
    parser.add_argument("--only", nargs="+", default=list(architectures.ARCHITECTURES), choices=list(architectures.ARCHITECTURES),
                        metavar="ARCHITECTURE", help=f"of {', '.join(architectures.ARCHITECTURES)}")
    parser.add_argument("--component", nargs="+", default=list(FOLDERS), choices=list(FOLDERS))
    parser.add_argument("--variant", default="", help="this one only (and the first, which others are compared with)")
    parser.add_argument("--sample", action="store_true", help="a dozen of the ways for small networks, instead of 25")
    parser.add_argument("--optimum", metavar="PYTHON", help="a Python that has optimum-onnx")
    parser.add_argument("--table", type=Path, metavar="FILE.md", help="write the tables between its markers, and end")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    results = Results(args.work / "results.jsonl")
    if args.table:
        matrix_table.write(args.table, results.rows, twins)
        return
    if not args.easeld:
        sys.exit("--easeld BINARY is needed: what `cargo build --release` makes")
    same = twins(args.full)
    chosen = dict.fromkeys(same[name, component] for name in args.only for component in components(name)
                           if component in args.component)
    total = sum(len(asked(component, args)) for _, component in chosen)
    started = time.monotonic()
    with tqdm(total=total, unit="cell") as bar:
        for name, component in chosen:
            network(name, component, args, results, bar)
    print(f"{time.monotonic() - started:.0f} s, {len(results.rows)} cells in {results.path}")


if __name__ == "__main__":
    main()
