"""Writes textual-inversion embeddings and what a text encoder makes of prompts that use them.

    python quantize/golden/textual_inversion.py tests/golden/tiny tests/golden/embeddings

diffusers loads the embeddings and turns the prompts into token ids; ONNX Runtime runs the tiny pack's text encoder with
the vectors appended to its table. Files:

    embeddings/*.safetensors   one as diffusers saves it (three vectors), one as Stable Diffusion web UI does (one, f16)
    prompts.json               the prompts
    token_ids.npy              [prompts, 77], ids of learned vectors counted from 1048576
    last_hidden_state.npy      [prompts, 77, width]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from diffusers import DiffusionPipeline
from diffusers.loaders import TextualInversionLoaderMixin
from onnx import numpy_helper
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

FIRST_LEARNED_ID = 1 << 20
PROMPTS = ("a <easeld-fox> on red", "calm", "two calm <easeld-fox> and a <easeld-fox>", "a fox on red", "<easeld-fox>calm")


class Loader(DiffusionPipeline, TextualInversionLoaderMixin):
    """A pipeline of a tokenizer and a text encoder, which is all that loading needs."""

    def __init__(self, tokenizer, text_encoder):
        super().__init__()
        self.register_modules(tokenizer=tokenizer, text_encoder=text_encoder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiny", type=Path, help="gives tokenizer and text encoder")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    model = onnx.load(str(args.tiny / "shared/text_encoder/model.onnx"))
    config = json.loads((args.tiny / "shared/text_encoder/config.json").read_text())
    width, count = config["hidden_size"], config["vocab_size"]

    generator = torch.Generator().manual_seed(11)
    folder = args.out / "embeddings"
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"<easeld-fox>": torch.randn(3, width, generator=generator)}, folder / "fox.safetensors")
    save_file({"emb_params": torch.randn(1, width, generator=generator).half()}, folder / "calm.safetensors")

    tokenizer = CLIPTokenizer.from_pretrained(str(args.tiny / "shared/tokenizer"))
    known = len(tokenizer)
    text = CLIPTextModel(CLIPTextConfig(vocab_size=known, hidden_size=width, intermediate_size=width, num_hidden_layers=1,
                                        num_attention_heads=1))
    pipeline = Loader(tokenizer, text)
    # In the order of the file names, which is that of easeld's ids.
    pipeline.load_textual_inversion(str(folder / "calm.safetensors"), token="calm")
    pipeline.load_textual_inversion(str(folder / "fox.safetensors"))
    learned = text.get_input_embeddings().weight.detach().float().numpy()[known:]
    converted = [pipeline.maybe_convert_prompt(prompt, tokenizer) for prompt in PROMPTS]
    ids = tokenizer(converted, padding="max_length", max_length=77, truncation=True, return_tensors="np").input_ids

    # The table of the graph is longer than the vocabulary: what was learned goes behind it.
    gather = next(n for n in model.graph.node if n.op_type == "Gather" and len(numpy_dims(model, n.input[0])) == 2
                  and numpy_dims(model, n.input[0])[0] == count)
    table = next(t for t in model.graph.initializer if t.name == gather.input[0])
    longer = np.concatenate([numpy_helper.to_array(table), learned])
    table.CopyFrom(numpy_helper.from_array(longer, table.name))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    extended = np.where(ids >= known, ids - known + count, ids)
    states = session.run(["last_hidden_state"], {"input_ids": extended.astype(np.int32)})[0]

    (args.out / "prompts.json").write_text(json.dumps(PROMPTS) + "\n")
    np.save(args.out / "token_ids.npy", np.where(ids >= known, ids - known + FIRST_LEARNED_ID, ids).astype(np.int64))
    np.save(args.out / "last_hidden_state.npy", states.astype(np.float32))


def numpy_dims(model: onnx.ModelProto, name: str) -> list[int]:
    return next((list(t.dims) for t in model.graph.initializer if t.name == name), [])


if __name__ == "__main__":
    main()
