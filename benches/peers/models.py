"""Makes the models that the peers are compared on: the architectures of Stable Diffusion 1.5 with seeded random
weights, as a diffusers folder (fp16), the same under the names that stable-diffusion.cpp knows, and as ONNX (fp32,
`quantize/export.py`).

    python benches/peers/models.py FOLDER

Writes FOLDER/diffusers, FOLDER/sd-cpp and FOLDER/onnx, about 6 GB; what is there already is kept.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "quantize"))
import architectures  # noqa: E402
import export  # noqa: E402


def for_stable_diffusion_cpp(diffusers: Path, out: Path) -> None:
    """The same files; the text encoder's tensors are called as transformers called them before version 5."""
    from safetensors.numpy import load_file, save_file

    (out / "text_encoder").mkdir(parents=True, exist_ok=True)
    for part in ("unet", "vae", "model_index.json"):
        (out / part).symlink_to((diffusers / part).resolve())
    tensors = load_file(diffusers / "text_encoder/model.safetensors")
    prefix = "text_model."
    named = {prefix + name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    save_file(named, out / "text_encoder/model.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    if not (folder / "diffusers/model_index.json").exists():
        architectures.write("sd15", architectures.ARCHITECTURES["sd15"], folder / "diffusers", half=True)
    if not (folder / "sd-cpp/text_encoder/model.safetensors").exists():
        for_stable_diffusion_cpp(folder / "diffusers", folder / "sd-cpp")
    for part, function in (("text_encoder", export.export_text_encoder), ("unet", export.export_unet)):
        if not (folder / "onnx" / part / "model.onnx").exists():
            function(folder / "diffusers" / part, folder / "onnx" / part)
        shutil.copy(folder / "diffusers" / part / "config.json", folder / "onnx" / part)
    if not (folder / "onnx/vae_decoder/model.onnx").exists():
        export.export_vae(folder / "diffusers/vae", folder / "onnx")


if __name__ == "__main__":
    main()
