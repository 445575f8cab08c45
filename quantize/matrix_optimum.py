"""Has Optimum export the pipeline around one network, for matrix.py: SOURCE COMPONENT OUT OPSET.

Runs in a Python that has optimum-onnx, which asks for older transformers than the rest. Optimum exports whole pipelines
only, so the parts that are not asked for are the smallest that it takes.
"""

import sys
from pathlib import Path

from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from optimum.exporters.onnx import export_models
from optimum.exporters.utils import get_diffusion_models_for_export
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

SOURCE, COMPONENT, OUT, OPSET = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])


def text(projected: bool):
    folder = SOURCE / ("text_encoder_2" if projected else "text_encoder")
    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    if folder.is_dir():
        return kind.from_pretrained(folder).float()
    return kind(CLIPTextConfig(vocab_size=100, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=1,
                               projection_dim=8, bos_token_id=98, eos_token_id=99))


def unet():
    if (SOURCE / "unet").is_dir():
        return UNet2DConditionModel.from_pretrained(SOURCE / "unet").float()
    return UNet2DConditionModel(sample_size=8, block_out_channels=(8, 8), layers_per_block=1, cross_attention_dim=8,
                                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), norm_num_groups=4,
                                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=2)


def vae():
    if (SOURCE / "vae").is_dir():
        import json

        import diffusers

        name = json.loads((SOURCE / "vae/config.json").read_text())["_class_name"]
        return getattr(diffusers, name).from_pretrained(SOURCE / "vae").float()
    return AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, sample_size=16,
                         down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)


class Tokenizer:
    model_max_length = 77


def main() -> None:
    network = unet()
    xl = network.config.addition_embed_type == "text_time" or COMPONENT == "text_encoder_2"
    pipeline = (StableDiffusionXLPipeline if xl else StableDiffusionPipeline).__new__(
        StableDiffusionXLPipeline if xl else StableDiffusionPipeline)
    pipeline.__dict__["_internal_dict"] = {}
    parts = {"text_encoder": text(False), "unet": network, "vae": vae()}
    if xl:
        parts |= {"text_encoder_2": text(True), "tokenizer_2": Tokenizer()}
    for name, part in parts.items():
        object.__setattr__(pipeline, name, part)
    object.__setattr__(pipeline, "tokenizer", Tokenizer())
    models = get_diffusion_models_for_export(pipeline, int_dtype="int64", float_dtype="fp32", exporter="onnx")
    one = {COMPONENT: models[COMPONENT]}
    (OUT / COMPONENT).mkdir(parents=True)
    export_models(one, OUT, output_names=[f"{COMPONENT}/model.onnx"], opset=OPSET, device="cpu", dtype="fp32")


main()
