"""What export.py makes of a checkpoint computes what diffusers computes with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import diffusers
import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

import export
import ldm
from pipeline import cast, session
from to_onnx import Options

HERE = Path(__file__).parent
BOUND = 1e-4


def run_script(*arguments, **environment) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(HERE.parent / "export.py"), *map(str, arguments)], capture_output=True, text=True,
                          env=os.environ | environment, check=False)


def error(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.linalg.norm(ours.astype(np.float64) - theirs) / np.linalg.norm(theirs))


def onnx_unet(folder: Path, config, side: int = 16, tokens: int = 77) -> tuple[np.ndarray, dict]:
    torch.manual_seed(3)
    inputs = export.unet_inputs(dict(config), side, tokens, batch=3)
    network = session(folder / "unet/model.onnx")
    feeds = cast(network, {name: value.numpy() for name, value in inputs.items()})
    return network.run(None, feeds)[0].astype(np.float32), inputs


def torch_unet(unet, inputs: dict) -> np.ndarray:
    inputs = dict(inputs)
    added = {name: inputs.pop(name) for name in ("text_embeds", "time_ids") if name in inputs}
    with torch.no_grad():
        return unet(**inputs, added_cond_kwargs=added or None).sample.numpy()


@pytest.mark.parametrize("name", ["sd15", "sd21", "lcm", "sdxl", "bk-sdm-tiny", "sdxs"])
def test_another_batch_and_size_give_what_diffusers_gives(folders, exported, name):
    unet = diffusers.UNet2DConditionModel.from_pretrained(folders(name) / "unet").eval()
    ours, inputs = onnx_unet(exported(name), unet.config, side=24, tokens=154)
    assert error(ours, torch_unet(unet, inputs)) < BOUND


def test_sdxl_gives_what_its_pipeline_takes_of_both_text_encoders(folders, exported):
    ids = torch.randint(1, 900, (2, 77), dtype=torch.int32)
    for part, kind in (("text_encoder", CLIPTextModel), ("text_encoder_2", CLIPTextModelWithProjection)):
        text = kind.from_pretrained(folders("sdxl") / part).eval()
        with torch.no_grad():
            out = text(ids, output_hidden_states=True)
        network = session(exported("sdxl") / part / "model.onnx")
        names = [entry.name for entry in network.get_outputs()]
        found = dict(zip(names, network.run(None, {"input_ids": ids.numpy()})))
        assert error(found["hidden_states.2"], out.hidden_states[-2].numpy()) < BOUND
        assert ("text_embeds" in found) == (part == "text_encoder_2")
        if part == "text_encoder_2":
            assert error(found["text_embeds"], out.text_embeds.numpy()) < BOUND


@pytest.mark.parametrize("name", ["sd15", "sdxs", "asymmetric"])
def test_autoencoders_of_every_kind(folders, name, tmp_path):
    from networks import load_vae

    vae = load_vae(folders(name) / "vae").eval()
    export.export_vae(folders(name) / "vae", tmp_path)
    latents, picture = torch.randn(1, 4, 12, 8), torch.rand(1, 3, 96, 64) * 2 - 1
    with torch.no_grad():
        decoded, encoded = vae.decode(latents).sample.numpy(), vae.encode(picture)
    mean = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mean
    out = session(tmp_path / "vae_decoder/model.onnx").run(None, {"latent_sample": latents.numpy()})[0]
    assert error(out, decoded) < BOUND
    out = session(tmp_path / "vae_encoder/model.onnx").run(None, {"sample": picture.numpy()})[0]
    assert out.shape[1] == 8 and error(out[:, :4], mean.numpy()) < BOUND


def test_one_file_of_the_original_layout_is_the_same_model(folders, exported, tmp_path):
    ldm.write(folders("sd15"), tmp_path / "model.safetensors")
    made = run_script(tmp_path / "model.safetensors", tmp_path / "onnx", "--config", folders("sd15"))
    assert made.returncode == 0, made.stderr
    config = diffusers.UNet2DConditionModel.load_config(folders("sd15") / "unet")
    assert error(onnx_unet(tmp_path / "onnx", config)[0], onnx_unet(exported("sd15"), config)[0]) < 1e-6
    ids = np.full((1, 77), 5, np.int32)
    theirs, ours = (session(folder / "text_encoder/model.onnx").run(None, {"input_ids": ids})[0]
                    for folder in (exported("sd15"), tmp_path / "onnx"))
    assert error(ours, theirs) < 1e-6
    latents = np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype(np.float32)
    theirs, ours = (session(folder / "vae_decoder/model.onnx").run(None, {"latent_sample": latents})[0]
                    for folder in (exported("sd15"), tmp_path / "onnx"))
    assert error(ours, theirs) < 1e-6
    assert (tmp_path / "onnx/tokenizer").is_dir()


def test_a_lora_is_added_to_the_weights(folders, tmp_path):
    generator = torch.Generator().manual_seed(11)
    unet = diffusers.UNet2DConditionModel.from_pretrained(folders("sd15") / "unet").eval()
    lora, scale, rank = {}, 0.7, 4
    for name, module in unet.named_modules():
        if name.endswith(("attn1.to_q", "attn2.to_v")):
            down = torch.randn(rank, module.in_features, generator=generator) * 0.1
            up = torch.randn(module.out_features, rank, generator=generator) * 0.3
            lora |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}
            module.weight.data += scale * up @ down
    save_file(lora, tmp_path / "style.safetensors")
    made = run_script(folders("sd15"), tmp_path / "onnx", "--lora", f"{tmp_path / 'style.safetensors'}:{scale}")
    assert made.returncode == 0, made.stderr
    ours, inputs = onnx_unet(tmp_path / "onnx", unet.config)
    assert error(ours, torch_unet(unet, inputs)) < BOUND
    plain = diffusers.UNet2DConditionModel.from_pretrained(folders("sd15") / "unet").eval()
    assert error(ours, torch_unet(plain, inputs)) > 0.01, "it changes something"


def test_a_lora_of_another_model_is_refused(folders, tmp_path):
    save_file({"unet.nothing.to_q.lora_A.weight": torch.ones(4, 8), "unet.nothing.to_q.lora_B.weight": torch.ones(8, 4)},
              tmp_path / "other.safetensors")
    made = run_script(folders("sd15"), tmp_path / "onnx", "--lora", tmp_path / "other.safetensors")
    assert made.returncode == 1 and "other.safetensors" in made.stderr and "Traceback" not in made.stderr


@pytest.mark.parametrize("options", [Options(half=True), Options("dynamo", 18), Options("dynamo", 20, half=True),
                                     Options(opset=14), Options(opset=20), Options(external_data="one"),
                                     Options(external_data="many")], ids=str)
def test_exporters_opsets_precisions_and_external_data(folders, tmp_path, options):
    export.export_unet(folders("bk-sdm-tiny") / "unet", tmp_path / "unet", options)
    model = onnx.load(str(tmp_path / "unet/model.onnx"), load_external_data=False)
    assert max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")) == options.opset
    beside = [file.name for file in (tmp_path / "unet").iterdir() if file.name not in ("model.onnx", "config.json")]
    assert beside == [] if options.external_data == "auto" else beside
    assert options.external_data != "one" or beside == ["model.onnx_data"]
    unet = diffusers.UNet2DConditionModel.from_pretrained(folders("bk-sdm-tiny") / "unet").eval()
    ours, inputs = onnx_unet(tmp_path, unet.config, side=24)
    assert error(ours, torch_unet(unet, inputs)) < (0.01 if options.half else BOUND)


def test_what_is_there_is_not_written_again(folders, tmp_path, capsys):
    export.export(folders("sdxs"), tmp_path / "onnx")
    before = (tmp_path / "onnx/unet/model.onnx").stat().st_mtime_ns
    shutil.rmtree(tmp_path / "onnx/vae_decoder")
    export.export(folders("sdxs"), tmp_path / "onnx")
    assert (tmp_path / "onnx/unet/model.onnx").stat().st_mtime_ns == before
    assert (tmp_path / "onnx/vae_decoder/model.onnx").is_file()


@pytest.mark.parametrize("source, words", [
    ("nobody/nothing-of-this-name", "neither a folder here nor in the local cache"), ("./missing", "no such folder or file"),
    ("missing.safetensors", "no such folder or file"), (str(HERE), "no model_index.json"),
    (str(Path(__file__)), "is no checkpoint"),
])
def test_a_source_that_is_none_is_said_to_be(tmp_path, source, words):
    made = run_script(source, tmp_path / "onnx", HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(tmp_path / "cache"))
    assert made.returncode == 1 and words in made.stderr and "Traceback" not in made.stderr, made.stderr


def test_a_hub_id_in_the_local_cache_needs_no_network(folders, tmp_path):
    """The cache as huggingface_hub lays it out."""
    cache, revision = tmp_path / "cache/models--somebody--small", "0123456789abcdef0123456789abcdef01234567"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs/main").write_text(revision)
    shutil.copytree(folders("sdxs"), cache / "snapshots" / revision)
    made = run_script("somebody/small", tmp_path / "onnx", HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(tmp_path / "cache"))
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "onnx/unet/model.onnx").is_file()
