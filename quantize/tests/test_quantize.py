"""int8 packs: standard ONNX, near the original, small; whole or not at all; smoothed where that helps."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import onnx
import pytest

import export
import quantize
import smooth
from pipeline import Pack, run, session
from quantize import Recipe
from to_onnx import Options

SCRIPTS = Path(__file__).resolve().parents[1]


def script(name: str, *arguments) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(SCRIPTS / name), *map(str, arguments)], capture_output=True, text=True, check=False)


def unet_error(pack: Path, original: Path, steps=(900, 300)) -> float:
    a, b = Pack(pack), Pack(original)
    generator = np.random.default_rng(1)
    total = [0.0, 0.0]
    for t in steps:
        feeds = {"sample": generator.standard_normal((1, 4, 16, 16)), "timestep": np.array([t]),
                 "encoder_hidden_states": generator.standard_normal((1, 77, 24))}
        ours, theirs = (run(p.unet, "out_sample", feeds) for p in (a, b))
        total[0] += np.square(ours - theirs).sum()
        total[1] += np.square(theirs).sum()
    return float(np.sqrt(total[0] / total[1]))


@pytest.fixture(scope="session")
def packed(exported, tmp_path_factory):
    target = tmp_path_factory.mktemp("int8")
    quantize.quantize_pack(exported("sd15"), target)
    return target


def test_weights_are_a_quarter_and_near(exported, packed):
    assert unet_error(packed, exported("sd15")) < 0.05
    sizes = [sum(p.stat().st_size for p in folder.rglob("*.onnx")) for folder in (exported("sd15"), packed)]
    # Graphs weigh more in a small model than in a large one.
    assert sizes[1] < 0.36 * sizes[0], sizes
    model = onnx.load(str(packed / "unet/model.onnx"))
    kinds = {tensor.data_type for tensor in model.graph.initializer if np.prod(tensor.dims) >= quantize.SMALLEST}
    assert kinds <= {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT16}, "what stays float is in halves"
    named = [node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"]
    assert named and not any("time_embedding" in name or "conv_in" in name for name in named)


def test_every_value_is_made_once(exported, packed):
    """Names are shortened, nodes with several outputs included."""
    for path in packed.rglob("*.onnx"):
        outputs = [name for node in onnx.load(str(path)).graph.node for name in node.output if name]
        assert len(outputs) == len(set(outputs)), path


def test_halves_and_external_data_give_the_same_pack(folders, packed, tmp_path):
    options = Options(half=True, external_data="one")
    export.export_unet(folders("sd15") / "unet", tmp_path / "onnx/unet", options)
    count = quantize.quantize_file(tmp_path / "onnx/unet/model.onnx", made(tmp_path / "int8/unet/model.onnx"), Recipe(), {})
    assert count > 1e6
    assert (tmp_path / "int8/unet/model.onnx_data").is_file(), "weights stay beside the graph"
    for part in ("text_encoder", "vae_decoder", "tokenizer", "scheduler"):
        shutil.copytree(packed / part, tmp_path / "int8" / part)
    shutil.copy(packed / "unet/config.json", tmp_path / "int8/unet")
    # Rounding to halves moves a code now and then.
    assert unet_error(tmp_path / "int8", packed) < 0.02


def made(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    return path


def test_what_is_done_is_not_done_again(exported, tmp_path, capsys):
    quantize.quantize_pack(exported("sdxs"), tmp_path)
    (tmp_path / "vae_encoder/model.onnx").unlink()
    capsys.readouterr()
    quantize.quantize_pack(exported("sdxs"), tmp_path)
    said = capsys.readouterr().out
    assert said.count("done before") == 3 and "vae_encoder/model.onnx: 0" in said
    quantize.quantize_pack(exported("sdxs"), tmp_path, Recipe(keep_float=("attn2",)))
    assert "done before" not in capsys.readouterr().out, "another recipe"


def test_the_cheapest_layers_stay_float_until_the_rest_is_below_the_target():
    from sensitivity import cheapest

    rows = {"small": {"error": 0.03, "weights": 100}, "large": {"error": 0.03, "weights": 10_000}, "calm": {"error": 0.01, "weights": 1}}
    assert cheapest(rows, 0.05) == []
    assert cheapest(rows, 0.04) == ["calm", "small"]
    assert cheapest(rows, 0.01) == ["calm", "large", "small"]


def test_a_pack_keeps_to_the_error_that_was_asked_for(folders, exported, tmp_path):
    """From checkpoint to pack: the table's names are found in the graph again, convolutions and linear layers."""
    source, target, table = folders("sd15"), 0.004, tmp_path / "table.json"
    said = script("sensitivity.py", source, "--components", "vae", "text_encoder", "--target-error", target, "--json", table)
    assert said.returncode == 0, said.stderr
    tables = json.loads(table.read_text())
    pack = shutil.copytree(exported("sd15"), tmp_path / "onnx", ignore=shutil.ignore_patterns("unet"))
    for name, more in (("all", []), ("some", ["--sensitivity", table])):
        said = script("quantize.py", pack, tmp_path / name, *more)
        assert said.returncode == 0, said.stderr
    count = lambda path: sum(node.op_type == "DequantizeLinear" for node in onnx.load(str(path / "model.onnx")).graph.node)  # noqa: E731
    assert set(tables) == {"text_encoder", "vae_decoder", "vae_encoder"}
    for component, found in tables.items():
        assert found["rest"] <= target < found["together"] and found["keep"], (component, found["rest"], found["together"])
        assert count(tmp_path / "all" / component) - count(tmp_path / "some" / component) == len(found["keep"]), component


def test_layers_are_found_by_the_names_that_pytorch_has(folders, exported, tmp_path):
    import networks
    import sensitivity

    source, pack = folders("sdxl"), exported("sdxl")
    models = {name: networks.load_text_encoder(source / name) for name in ("text_encoder", "text_encoder_2")}
    for name, model in (models | {"unet": networks.load_unet(source / "unet")}).items():
        layers = sensitivity.quantizable(model)
        assert len(layers) > 5 and quantize.unknown(pack / name / "model.onnx", layers) == [], name
    table = tmp_path / "table.json"
    table.write_text(json.dumps({"text_encoder_2": {"keep": ["encoder.layers.0.self_attn.q_proj", "encoder.layers.77.mlp.fc1"]}}))
    said = script("quantize.py", pack, tmp_path / "out", "--sensitivity", table)
    assert said.returncode and "no layer is called encoder.layers.77.mlp.fc1" in said.stderr, said.stderr


@pytest.mark.parametrize("opset", [14, 17], ids=["decomposed", "operator"])
def test_smoothing_changes_nothing_but_the_shares(folders, exported, tmp_path, opset):
    """Norms with outliers: 1 % of the channels 20 times as large, as language models have them."""
    pack = shutil.copytree(exported("sd15"), tmp_path / "onnx")
    shutil.rmtree(pack / "unet")
    export.export_unet(folders("sd15") / "unet", pack / "unet", Options(opset=opset))
    model = onnx.load(str(pack / "unet/model.onnx"))
    factors = smooth.factors(pack, pack / "unet/model.onnx", 0.5)
    places = smooth.norms(model.graph)
    assert len(places) >= 30 and len(factors) >= 4 * len(places) - 30, (len(places), len(factors))
    recipe = Recipe(keep_float=("",), half=False, smooth=0.5)
    target = shutil.copytree(pack, tmp_path / "smooth")
    (target / "unet/model.onnx").unlink()
    quantize.quantize_file(pack / "unet/model.onnx", target / "unet/model.onnx", recipe, factors)
    assert unet_error(target, pack) < 1e-5, "in f32 the product is the same"
    before = [tensor for tensor in model.graph.initializer if tensor.name in factors]
    after = {tensor.name: tensor for tensor in onnx.load(str(target / "unet/model.onnx")).graph.initializer}
    assert any(not np.allclose(onnx.numpy_helper.to_array(tensor), onnx.numpy_helper.to_array(after[tensor.name])) for tensor in before)


def test_the_whole_path_ends_in_a_tar(exported, packed, tmp_path):
    pack = shutil.copytree(packed, tmp_path / "my-model")
    report = tmp_path / "report.html"
    said = script("verify.py", exported("sd15"), pack, "--report", report, "--json", tmp_path / "numbers.json")
    assert said.returncode == 0, said.stderr
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert {row["name"] for row in numbers["rows"]} >= {"text_encoder", "unet, t = 500", "vae_decoder", "vae_encoder"}
    page = report.read_text()
    assert page.count("data:image/png;base64,") == 12 and "http" not in re.sub(r"data:\S+", "", page)
    refused = script("publish.py", pack)
    assert refused.returncode != 0 and "run manifest.py first" in refused.stderr
    assert script("manifest.py", pack, "--title", "Small", "--licence", "MIT", "--preset", "default:4:7.5").returncode == 0
    published = script("publish.py", pack)
    assert published.returncode == 0, published.stderr
    with tarfile.open(tmp_path / "my-model.tar") as tar:
        names = tar.getnames()
    assert "my-model/unet/model.onnx" in names and not any("/." in name for name in names)
    (pack / "unet/config.json").write_text("{}")
    assert "is not what easel.toml says" in script("publish.py", pack).stderr


@pytest.mark.parametrize("name", ["sdxl", "lcm"])
def test_other_pipelines_are_verified_too(exported, tmp_path, name):
    quantize.quantize_pack(exported(name), tmp_path / "int8")
    said = script("verify.py", exported(name), tmp_path / "int8", "--small")
    assert said.returncode == 0, said.stderr
    assert ("text_encoder_2" in said.stdout) == (name == "sdxl")
    assert float(re.search(r"PSNR dB\s+([\d.]+)", said.stdout)[1]) > 20


def test_a_folder_that_is_no_pack_is_said_to_be(tmp_path):
    said = script("verify.py", tmp_path, tmp_path)
    assert said.returncode == 1 and "no unet/model.onnx" in said.stderr
