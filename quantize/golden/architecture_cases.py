"""Writes the small version of every architecture as graphs without weights, with ONNX Runtime's and diffusers' outputs.

    python quantize/golden/architecture_cases.py tests/golden/tiny/shared/tokenizer tests/golden/architectures

The networks are those of quantize/architectures.py (same levels, blocks and inputs, few channels), their weights numbers
that a seed gives (`fill` in graphs.py). Files:

    cases.json.gz       for each graph: its architecture, component and exporter; seeds of its inputs; what ONNX Runtime gives
    NAME.onnx.gz        the graph; weights are named by `fill`, or inside where a quantizer made them
    runs.json.gz        pictures by diffusers' pipelines in four steps (Stable Diffusion 1.5, SD-Turbo, LCM, SDXL): the
                        request, the final latents, the graphs of the pack
    NAME/               configurations of that pack, and the picture

They are the tests of tests/architectures.rs; quantize/matrix.py does the same at every opset and at full size.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import sys
import tempfile
from pathlib import Path

import diffusers
import numpy as np
import onnx
import onnxruntime
import torch
from transformers import CLIPTokenizer

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import architectures  # noqa: E402
import export  # noqa: E402
import matrix  # noqa: E402
from graphs import Filled, bare, fill  # noqa: E402
from networks import TextEncoder, Unet, UnetXl, VaeDecoder, VaeEncoder, plain_attention, vae_levels  # noqa: E402
from quantize import Recipe, quantize_model, shorten_names  # noqa: E402
from to_onnx import Options, write_onnx  # noqa: E402

EXPORTERS = {"torchscript-17": Options(), "dynamo-20": Options("dynamo", 20)}
# Every network by TorchScript; by dynamo one of each kind of blocks. tests/golden/graphs has other opsets and exporters.
DYNAMO = {("bk-sdm-tiny", "unet"), ("sd15", "text_encoder"), ("sd15", "vae_decoder")}
QUANTIZED = ("sd15", "text_encoder")
SIDE, BATCH = 8, 2
PROMPT, NEGATIVE, STEPS = "a fox on red", "blurry", 4
# What each pipeline is asked for; easeld takes a guidance of 1 where diffusers takes 0.
RUNS = {"sd15": {"guidance_scale": 7.5, "seed": 3}, "sd-turbo": {"guidance_scale": 1.0, "seed": 4},
        "lcm": {"guidance_scale": 8.0, "seed": 5}, "sdxl": {"guidance_scale": 5.0, "seed": 6},
        "sdxl-empty": {"guidance_scale": 5.0, "seed": 7}}
# Without a negative prompt: SDXL takes zeros for it.
WITHOUT_NEGATIVE = {"lcm", "sdxl-empty"}


def network(name: str, component: str, words: int) -> Filled:
    """A network of diffusers or transformers with weights that seeds give, for a tokenizer of so many words."""
    architecture = architectures.small(architectures.ARCHITECTURES[name])
    if component.startswith("text_encoder"):
        ends = {"vocab_size": words, "bos_token_id": words - 2, "eos_token_id": words - 1, "pad_token_id": words - 1}
        texts = [text and text | ends for text in (architecture.text, architecture.text_2)]
        architecture = architectures.Architecture(architecture.title, architecture.unet, *texts, architecture.vae,
                                                  architecture.scheduler)
    built = architectures.build(name, architecture, matrix.FOLDERS[component])
    if component.startswith("text_encoder"):
        built.config._attn_implementation = "eager"
        for module in built.modules():
            if hasattr(module, "config"):
                module.config._attn_implementation = "eager"
    return Filled(plain_attention(built))


def wrapped(built, component: str, penultimate: bool) -> torch.nn.Module:
    if component == "unet":
        return UnetXl(built) if built.config.addition_embed_type else Unet(built)
    kinds = {"vae_decoder": VaeDecoder, "vae_encoder": VaeEncoder}
    return kinds[component](built) if component in kinds else TextEncoder(built, penultimate)


def inputs(name: str, component: str, config: dict) -> dict[str, tuple]:
    """Input -> (shape, seed, mean, spread), or (shape, values)."""
    if component.startswith("text_encoder"):
        end = config["eos_token_id"]
        row = [config["bos_token_id"], *range(5, 5 + 75), end]
        return {"input_ids": ([1, 77], row)}
    if component == "unet":
        torch.manual_seed(1)
        given = export.unet_inputs(config, SIDE, batch=BATCH)
        found = {}
        for seed, (key, value) in enumerate(given.items()):
            plain = key in ("timestep", "time_ids")
            found[key] = (list(value.shape), value.flatten().tolist()) if plain else (list(value.shape), 50 + seed, 0.0, 1.7)
        return found
    if component == "vae_decoder":
        return {"latent_sample": ([1, 4, SIDE, SIDE + 2], 60, 0.0, 1.7)}
    side = SIDE << (len(vae_levels(config)) - 1)
    return {"sample": ([1, 3, side, side], 61, 0.0, 1.0)}


def tensor(name: str, given: tuple) -> torch.Tensor:
    shape, *rest = given
    if len(rest) == 1:
        dtype = torch.int32 if name == "input_ids" else torch.int64 if name == "timestep" else torch.float32
        return torch.tensor(rest[0], dtype=dtype).reshape(shape)
    return torch.from_numpy(fill(rest[0], int(np.prod(shape)), rest[1], rest[2]).reshape(shape).copy())


def outputs_of(component: str, layers: int, penultimate: bool) -> list[str]:
    hidden = [f"hidden_states.{layers - 1}"] * penultimate
    return {"unet": ["out_sample"], "vae_decoder": ["sample"], "vae_encoder": ["latent_parameters"],
            "text_encoder": ["last_hidden_state", "pooler_output", *hidden],
            "text_encoder_2": ["last_hidden_state", "pooler_output", "text_embeds", *hidden]}[component]


def axes_of(names: list[str], component: str, dynamo: bool) -> dict:
    known = {"sample": export.PLANE, "out_sample": export.PLANE, "encoder_hidden_states": export.STATES,
             "latent_sample": export.SMALL, "latent_parameters": export.SMALL, "text_embeds": export.BATCH,
             "time_ids": export.BATCH, "timestep_cond": export.BATCH, "input_ids": export.BATCH}
    known |= {} if dynamo else {"timestep": {0: "steps"}}
    return {name: known.get(name, export.BATCH) for name in names if name != "timestep" or not dynamo}


def in_ort(path: Path, feeds: dict, output: str) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run([output], {key: value.numpy() for key, value in feeds.items()})[0]


class Writer:
    """Collects cases and writes their graphs."""

    def __init__(self, out: Path, work: Path, words: int):
        self.out, self.work, self.words, self.cases = out, work, words, []
        # The UNet of SDXL takes another state of its first text encoder, which is that of Stable Diffusion 1.5 else.
        self.same = matrix.twins(False) | {("sdxl", "text_encoder"): ("sdxl", "text_encoder")}

    def graph(self, name: str, model: onnx.ModelProto) -> int:
        shorten_names(model.graph)
        data = gzip.compress(bare(model).SerializeToString(), 9, mtime=0)
        (self.out / f"{name}.onnx.gz").write_bytes(data)
        return len(data)

    def case(self, name: str, component: str, exporter: str, given: dict, output: str, path: Path, model, **more) -> None:
        feeds = {key: tensor(key, value) for key, value in given.items()}
        values = in_ort(path, feeds, output)
        size = self.graph(f"{name}-{component}-{exporter}", model)
        print(f"{name} {component} {exporter}: {size / 1000:.1f} kB, rms {np.sqrt(np.square(values).mean()):.3f}", flush=True)
        self.cases.append({
            "architecture": name, "component": component, "exporter": exporter, "output": output, "shape": list(values.shape),
            "inputs": {key: {"shape": value[0], "values": value[1]} if len(value) == 2 else
                       {"shape": value[0], "fill": list(value[1:])} for key, value in given.items()},
            "values": [float(f"{x:.6g}") for x in values.flatten()], **more})

    def network(self, name: str, component: str) -> None:
        filled = network(name, component, self.words)
        penultimate = name.startswith("sdxl") and component.startswith("text_encoder")
        module = wrapped(filled.module, component, penultimate)
        config = dict(filled.module.config) if component in ("unet", "vae_decoder", "vae_encoder") else filled.module.config.to_dict()
        given = inputs(name, component, config)
        names = outputs_of(component, config.get("num_hidden_layers", 0), penultimate)
        for exporter, options in EXPORTERS.items():
            if options.exporter == "dynamo" and (name, component) not in DYNAMO:
                continue
            path = self.work / f"{name}-{component}-{exporter}.onnx"
            dynamo = options.exporter == "dynamo"
            write_onnx(module, {key: tensor(key, value) for key, value in given.items()}, names,
                       axes_of([*given, *names], component, dynamo), path, options)
            model = onnx.load(str(path))
            self.case(name, component, exporter, given, names[-1], path, filled.strip(model))
            if (name, component) == QUANTIZED and exporter == "torchscript-17":
                self.quantized(name, component, given, names[-1], path)

    def quantized(self, name: str, component: str, given: dict, output: str, path: Path) -> None:
        """Weights inside, so of one network only: ours (halves behind Casts), and 4 bits in blocks."""
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        network = tensor("", ([1], [0.0]))
        feeds = {key: tensor(key, value) for key, value in given.items()}
        network = in_ort(path, feeds, output)
        ours = onnx.load(str(path))
        quantize_model(ours, Recipe())
        blocks = MatMulNBitsQuantizer(onnx.load(str(path)), bits=4, block_size=32, is_symmetric=False)
        blocks.process()
        for kind, model in (("int8", ours), ("nbits-4", blocks.model.model)):
            made = self.work / f"{kind}.onnx"
            onnx.save(model, str(made))
            more = {"float_values": [float(f"{x:.6g}") for x in network.flatten()]}
            self.case(name, component, kind, given, output, made, model, **more)


def run(name: str, tokenizer: Path, writer: Writer) -> dict:
    """One picture by diffusers' pipeline, and the parts of a pack that makes the same."""
    words = CLIPTokenizer.from_pretrained(str(tokenizer))
    model = name.removesuffix("-empty")
    architecture = architectures.ARCHITECTURES[model]
    texts = ["text_encoder", "text_encoder_2"][: 1 + (architecture.text_2 is not None)]
    parts = {part: network(model, part, len(words)) for part in (*texts, "unet", "vae_decoder")}
    unet, vae = (parts[part].module for part in ("unet", "vae_decoder"))
    kind, config = architecture.scheduler
    scheduler = getattr(diffusers, kind)(**config)
    out = writer.out / name
    out.mkdir()
    for part, filled in parts.items():
        config = dict(filled.module.config) if part not in texts else filled.module.config.to_dict()
        more = {"block_out_channels": vae_levels(config)} if part == "vae_decoder" else {}
        (out / f"{part}.json").write_text(json.dumps(config | more, indent=1, default=str) + "\n")
    (out / "scheduler.json").write_text(json.dumps(dict(scheduler.config) | {"_class_name": kind}, indent=1, default=str) + "\n")
    (out / "model_index.json").write_text(json.dumps(architectures.index(architecture)) + "\n")
    given = {"vae": vae, "tokenizer": words, "unet": unet, "scheduler": scheduler} | {part: parts[part].module for part in texts}
    if "text_encoder_2" in texts:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(tokenizer, Path(folder) / "tokenizer_2")
            architectures.pad_with_exclamation_marks(Path(folder) / "tokenizer_2")
            given["tokenizer_2"] = CLIPTokenizer.from_pretrained(str(Path(folder) / "tokenizer_2"))
        made = diffusers.StableDiffusionXLPipeline(**given, force_zeros_for_empty_prompt=True, add_watermarker=False)
    else:
        pipeline = diffusers.LatentConsistencyModelPipeline if name == "lcm" else diffusers.StableDiffusionPipeline
        made = pipeline(**given, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    asked = RUNS[name]
    side = vae.config.sample_size
    guidance = 0.0 if asked["guidance_scale"] == 1.0 else asked["guidance_scale"]
    negative = {} if name in WITHOUT_NEGATIVE else {"negative_prompt": NEGATIVE}
    call = lambda kind: made(PROMPT, num_inference_steps=STEPS, guidance_scale=guidance, height=side, width=side,  # noqa: E731
                             generator=torch.Generator().manual_seed(asked["seed"]), output_type=kind, **negative).images
    latents, picture = call("latent")[0], call("pil")[0]
    picture.save(out / "picture.png")
    print(f"{name}: latents {float(latents.std()):.3f}", flush=True)
    request = {"prompt": PROMPT, "negative_prompt": None if name in WITHOUT_NEGATIVE else NEGATIVE, "steps": STEPS, "size": side, **asked}
    graphs = {part: "-".join(writer.same[model, part]) + "-torchscript-17" for part in parts}
    return request | {"graphs": graphs, "latents": [float(f"{x:.6g}") for x in latents.flatten().tolist()], "shape": list(latents.shape)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    args.out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        writer = Writer(args.out, Path(folder), len(CLIPTokenizer.from_pretrained(str(args.tokenizer))))
        for name, component in dict.fromkeys(writer.same.values()):
            writer.network(name, component)
        runs = {name: run(name, args.tokenizer, writer) for name in RUNS}
    (args.out / "cases.json.gz").write_bytes(gzip.compress(json.dumps(writer.cases).encode(), 9, mtime=0))
    (args.out / "runs.json.gz").write_bytes(gzip.compress(json.dumps(runs).encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
