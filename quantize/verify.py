"""Says how far an int8 pack is from its float original: each network, whole pictures, and a report to look at.

    python quantize/verify.py ONNX_FOLDER INT8_FOLDER --report report.html

Relative error is |int8 - float| / |float| (Euclidean norms) on the same inputs, with ONNX Runtime, which runs the int8
graph with float activations. With --easeld BINARY the engine's own arithmetic, activations in 8 bits, is measured as
well. The report is one HTML file with its pictures inside. One network is in memory at a time; with --small, latents
are 32 x 32 whatever the model's size.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import json
import math
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from pipeline import PROMPTS, Pack, cast, guidance_embedding, run, to_pixels
from quantize import network_bytes

TIMESTEPS = (999, 500, 100)
STEPS, GUIDANCE, SEED = 8, 3.0, 1
SMALL = 32  # latents
# The bar of the project: what int8 may move a network's output.
BAR = 0.03


@dataclass
class Measured:
    """One call of one network."""

    name: str
    component: str
    feeds: dict[str, np.ndarray]
    output: str
    values: np.ndarray
    int8: float = math.nan
    engine: float = math.nan


@dataclass
class Compared:
    rows: list[Measured] = field(default_factory=list)
    pictures: tuple[np.ndarray, np.ndarray] | None = None
    bytes: tuple[int, int] = (0, 0)

    def psnr(self) -> float:
        assert self.pictures is not None
        return psnr(*self.pictures)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """dB of two pictures of 8 bits."""
    return 10 * math.log10(255**2 / max(np.square(a.astype(float) - b.astype(float)).mean(), 1e-9))


def relative(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30))


def settings(pack: Pack) -> tuple[int, float]:
    """Steps and guidance of the pack's preset, or usual ones."""
    import tomllib

    manifest = pack.folder / "easel.toml"
    preset = tomllib.loads(manifest.read_text()).get("presets", {}).get("default", {}) if manifest.is_file() else {}
    return preset.get("steps", STEPS), preset.get("guidance_scale", GUIDANCE)


def originals(pack: Pack, bar: tqdm, steps: int, guidance: float) -> tuple[list[Measured], np.ndarray, torch.Tensor]:
    """Every call, with the float pack's outputs; pixels and final latents of whole pictures."""
    rows = []

    def call(name: str, component: str, output: str, feeds: dict) -> np.ndarray:
        bar.set_postfix_str(f"float {name}")
        feeds = {entry.name: feeds[entry.name] for entry in pack.network(component).get_inputs()}
        values = run(pack.network(component), output, feeds)
        rows.append(Measured(name, component, feeds, output, values))
        bar.update()
        return values

    for component in ("text_encoder", "text_encoder_2"):
        if (pack.folder / component / "model.onnx").is_file():
            output = "last_hidden_state" if not pack.is_xl else hidden_state(pack, component)
            call(component, component, output, {"input_ids": pack.ids(PROMPTS, component)})
    conditions = pack.conditions(PROMPTS)
    for component in ("text_encoder", "text_encoder_2"):
        pack.drop(component)
    noise = pack.noise(len(PROMPTS), SEED)
    if pack.guidance_width is not None:
        conditions["timestep_cond"] = np.repeat(guidance_embedding(guidance, pack.guidance_width), len(PROMPTS), 0)
    for t in TIMESTEPS:
        call(f"unet, t = {t}", "unet", "out_sample", {"sample": noise.numpy(), "timestep": np.array([t]), **conditions})
    final = pack.denoise(PROMPTS, SEED, steps, guidance)
    pack.drop("unet")
    for component in ("text_encoder", "text_encoder_2"):
        pack.drop(component)
    latents = (final / pack.scaling + pack.shift).numpy()
    image = call("vae_decoder", "vae_decoder", "sample", {"latent_sample": latents})
    pack.drop("vae_decoder")
    if (pack.folder / "vae_encoder/model.onnx").is_file():
        call("vae_encoder", "vae_encoder", "latent_parameters", {"sample": image})
        pack.drop("vae_encoder")
    return rows, to_pixels(image), final


def hidden_state(pack: Pack, component: str) -> str:
    """What goes into the last layer of one of SDXL's encoders."""
    names = [entry.name for entry in pack.network(component).get_outputs() if entry.name.startswith("hidden_states.")]
    names.sort(key=lambda name: int(name.split(".")[1]))
    return names[-2] if len(names) > 1 else names[0]


def mean_half(row: Measured, values: np.ndarray) -> np.ndarray:
    """Of the encoder's output the mean: logarithms of variances near zero say nothing."""
    return values[:, : values.shape[1] // 2] if row.component == "vae_encoder" else values


def compare(fp32: Path, int8: Path, small: bool = False, engine: str | None = None) -> Compared:
    """Every network of the two packs on the same inputs, and whole pictures of both."""
    original, quantized = Pack(fp32), Pack(int8)
    for pack in (original, quantized):
        if small:
            pack.latent = (pack.latent[0], min(SMALL, pack.latent[1]), min(SMALL, pack.latent[2]))
    steps, guidance = settings(quantized)
    with tqdm(desc="verify", unit="call", total=2 * (len(TIMESTEPS) + 3 + original.is_xl)) as bar:
        rows, picture, final = originals(original, bar, steps, guidance)
        for row in rows:
            bar.set_postfix_str(f"int8 {row.name}")
            found = run(quantized.network(row.component), row.output, row.feeds)
            row.int8 = relative(mean_half(row, found), mean_half(row, row.values))
            bar.update()
        bar.set_postfix_str("whole pictures")
        other = to_pixels(quantized.decode(quantized.denoise(PROMPTS, SEED, steps, guidance)))
    if engine:
        with_engine(rows, int8, engine)
    return Compared(rows, (picture, other), (network_bytes(fp32), network_bytes(int8)))


def with_engine(rows: list[Measured], int8: Path, binary: str) -> None:
    """Adds the error of the engine's own arithmetic."""
    for component in dict.fromkeys(row.component for row in rows):
        mine = [row for row in rows if row.component == component]
        with tempfile.TemporaryDirectory() as folder:
            calls = [Path(folder) / str(i) for i in range(len(mine))]
            for row, call in zip(mine, calls):
                call.mkdir()
                for name, value in row.feeds.items():
                    np.save(call / f"{name}.npy", value if value.dtype != np.float64 else value.astype(np.float32))
            subprocess.run([binary, "pack", "run", str(int8), component, *map(str, calls), "--output", mine[0].output],
                           check=True, stdout=subprocess.DEVNULL)
            for row, call in zip(mine, calls):
                found = np.load(call / f"out/{row.output}.npy")
                row.engine = relative(mean_half(row, found), mean_half(row, row.values))


# --- the report ---------------------------------------------------------------------------------

STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse}td,th{padding:.25rem .8rem;text-align:left;border-bottom:1px solid #ddd}
td.n{text-align:right;font-variant-numeric:tabular-nums}.bad{color:#b00020;font-weight:600}
figure{display:inline-block;margin:.5rem}img{image-rendering:pixelated;width:11rem;border-radius:4px}figcaption{font-size:.8rem;color:#666}"""


def picture_tag(pixels: np.ndarray, caption: str) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{data}"><figcaption>{html.escape(caption)}</figcaption></figure>'


def report(compared: Compared, fp32: Path, int8: Path) -> str:
    """One page."""
    engine = any(not math.isnan(row.engine) for row in compared.rows)

    def cell(value: float) -> str:
        return f'<td class="n{" bad" * (value > BAR)}">{value:.3%}</td>'

    lines = "".join(f"<tr><td>{html.escape(row.name)}</td>{cell(row.int8)}{cell(row.engine) if engine else ''}</tr>"
                    for row in compared.rows)
    float_size, int8_size = compared.bytes
    pictures = ""
    for prompt, a, b in zip(PROMPTS, *compared.pictures):
        difference = np.clip(np.abs(a.astype(int) - b) * 4, 0, 255).astype(np.uint8)
        pictures += "<div>" + picture_tag(a, f"float: {prompt}") + picture_tag(b, "int8") + picture_tag(difference, "difference, times 4") + "</div>"
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(int8.name)}: int8 against float</title><style>{STYLE}</style>
<h1>{html.escape(int8.name)}</h1>
<p>int8 weights against {html.escape(str(fp32))}: {int8_size / 1e6:.1f} MB of {float_size / 1e6:.1f} ({int8_size / float_size:.3f}),
whole pictures {compared.psnr():.1f} dB apart. Errors above {BAR:.0%} are red.</p>
<table><tr><th>network<th>int8 weights, ONNX Runtime{"<th>int8 weights and activations, easeld" if engine else ""}</tr>{lines}</table>
<h2>Pictures, seed {SEED}</h2>{pictures}</html>
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fp32", type=Path, help="the float ONNX folder")
    parser.add_argument("int8", type=Path, help="what quantize.py or `easeld pack quantize` made of it")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write the report here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here")
    parser.add_argument("--easeld", metavar="BINARY", help="measure the engine as well")
    parser.add_argument("--small", action="store_true", help=f"latents of {SMALL} x {SMALL}: quick, pictures mean little")
    args = parser.parse_args()
    for folder in (args.fp32, args.int8):
        if not (folder / "unet/model.onnx").is_file():
            sys.exit(f"{folder} is no pack: it has no unet/model.onnx")
    compared = compare(args.fp32, args.int8, args.small, args.easeld)
    for row in compared.rows:
        print(f"{row.name:32} {row.int8:.5f}" + ("" if math.isnan(row.engine) else f"  easeld {row.engine:.5f}"))
    print(f"{'whole pictures, PSNR dB':32} {compared.psnr():.1f}")
    print(f"{'bytes of the networks':32} {compared.bytes[1] / compared.bytes[0]:.3f} of the original")
    if args.report:
        args.report.write_text(report(compared, args.fp32, args.int8), encoding="utf-8")
        print(f"report: {args.report}")
    if args.json:
        args.json.write_text(json.dumps({"rows": [{"name": row.name, "int8": row.int8, "easeld": None if math.isnan(row.engine) else row.engine} for row in compared.rows],
                                         "psnr_db": compared.psnr(), "bytes": compared.bytes}, indent=1) + "\n")


if __name__ == "__main__":
    main()
