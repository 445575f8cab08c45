"""Finds or makes the diffusers folder of a checkpoint: a folder, a hub id, one file of the original layout, LoRAs.

What has to be made goes to a scratch folder; what is there already is used where it lies.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import torch

FILES = (".safetensors", ".ckpt", ".pt")


def resolve(source: str, scratch: Path, config: Path | None = None, tokenizer: Path | None = None,
            loras: list[tuple[Path, float]] = (), revision: str | None = None) -> Path:
    """A diffusers folder with what `source` means, LoRAs added to its weights."""
    path = Path(source)
    if path.is_dir():
        folder = path
        if not (path / "model_index.json").is_file():
            sys.exit(f"{path} is no diffusers folder: it has no model_index.json")
    elif path.is_file():
        folder = single_file(path, scratch / "single", config, tokenizer)
    elif path.suffix in FILES or source.count("/") != 1 or source.startswith((".", "/")):
        sys.exit(f"{source}: there is no such folder or file (a hub id is OWNER/NAME)")
    else:
        folder = from_hub(source, revision)
    return with_loras(folder, list(loras), scratch / "lora") if loras else folder


def from_hub(name: str, revision: str | None) -> Path:
    """The folder of `name` in the local cache, downloaded first where the hub can be reached."""
    from diffusers import DiffusionPipeline
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return Path(DiffusionPipeline.download(name, revision=revision))
    except GatedRepoError:
        sys.exit(f"{name} asks for its licence to be accepted: do so on its page at the hub, then `hf auth login`")
    except RepositoryNotFoundError:
        sys.exit(f"the hub knows no model {name} (private ones need `hf auth login`)")
    except RevisionNotFoundError:
        sys.exit(f"{name} has no revision {revision}")
    except (OSError, ValueError) as error:  # httpx's and huggingface_hub's own are among these
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        sys.exit(f"{name} is neither a folder here nor in the local cache, and the hub cannot be reached: {reason}\n"
                 f"Download it where there is a network (`hf download {name}`), and give that folder.")


def single_file(path: Path, out: Path, config: Path | None, tokenizer: Path | None) -> Path:
    """Converts one file of the original layout (ldm) with diffusers.

    Which architecture it is, diffusers tells from the names of its tensors. It looks the configuration up in the hub's
    cache; where there is none, that of architectures.py is used.
    """
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    kind, loaded = architecture(path)
    pipeline = StableDiffusionXLPipeline if kind.startswith("xl_") else StableDiffusionPipeline
    config = config or published(kind, loaded, out.with_name("config"), tokenizer)
    more = {} if pipeline is StableDiffusionXLPipeline else {"safety_checker": None, "requires_safety_checker": False}
    try:
        made = pipeline.from_single_file(str(path), config=str(config), local_files_only=True,
                                         torch_dtype=torch.float32, **more)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        sys.exit(f"{path}: diffusers cannot convert it as {kind} ({str(error).strip().splitlines()[0]})")
    made.save_pretrained(out)
    return out


def architecture(path: Path) -> tuple[str, dict]:
    """diffusers' name of what is in the file, and its tensors."""
    from diffusers.loaders.single_file_utils import infer_diffusers_model_type, load_single_file_checkpoint

    try:
        loaded = load_single_file_checkpoint(str(path))
    except Exception as error:  # every reader has errors of its own
        sys.exit(f"{path} is no checkpoint: {str(error).strip().splitlines()[0]}")
    if not any(name.startswith("model.diffusion_model.") for name in loaded):
        sys.exit(f"{path} has no UNet (no tensor model.diffusion_model.*): it is not a whole checkpoint of Stable Diffusion")
    return infer_diffusers_model_type(loaded), loaded


def published(kind: str, loaded: dict, out: Path, tokenizer: Path | None) -> Path:
    """A folder of configurations for the architecture, with a tokenizer."""
    import architectures

    names = {"v1": "sd15", "inpainting": "sd15", "v2": "sd21", "inpainting_v2": "sd21-base", "xl_base": "sdxl"}
    if kind not in names:
        sys.exit(f"no configuration is known here for a checkpoint of the kind {kind}: give one with --config FOLDER")
    if kind == "v2":
        print("taken for Stable Diffusion 2.1 at 768, which predicts v; for the base model give --config", file=sys.stderr)
    if tokenizer is None:
        sys.exit("a single file holds no tokenizer: give a folder with vocab.json and merges.txt with --tokenizer "
                 "(CLIP's is the tokenizer/ of every Stable Diffusion folder), or a whole configuration with --config")
    return architectures.write_configuration(names[kind], out, tokenizer, unet_channels=loaded)


def with_loras(folder: Path, loras: list[tuple[Path, float]], out: Path) -> Path:
    """The same pipeline with each LoRA's product added to the weights it changes, times its scale."""
    from diffusers import DiffusionPipeline

    if (out / "model_index.json").is_file():
        return out
    if importlib.util.find_spec("peft") is None:
        sys.exit("a LoRA needs `peft`, which is not installed: pip install -r quantize/requirements.lock")
    more = {} if is_xl(folder) else {"safety_checker": None, "requires_safety_checker": False}
    pipeline = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, **more)
    for path, scale in loras:
        if not path.is_file():
            sys.exit(f"{path}: there is no such LoRA file")
        before = checksum(pipeline)
        try:
            pipeline.load_lora_weights(str(path.parent), weight_name=path.name)
            pipeline.fuse_lora(lora_scale=scale)
            pipeline.unload_lora_weights()
        except (ValueError, KeyError, RuntimeError) as error:
            sys.exit(f"{path} does not fit this model: {str(error).strip().splitlines()[0]}")
        if scale and checksum(pipeline) == before:
            sys.exit(f"{path} changes no weight of this model: it was made for another architecture")
    pipeline.save_pretrained(out)
    return out


def checksum(pipeline) -> float:
    """Another number when any weight of UNet or text encoders is another."""
    parts = [getattr(pipeline, name, None) for name in ("unet", "text_encoder", "text_encoder_2")]
    return sum(float(p.detach().double().abs().sum()) for part in parts if part is not None for p in part.parameters())


def is_xl(folder: Path) -> bool:
    """Whether a folder is of SDXL's kind: two text encoders."""
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    return "XL" in index.get("_class_name", "") or "text_encoder_2" in index
