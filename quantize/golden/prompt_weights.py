"""Writes what weighted prompts become, as diffusers' community pipeline `lpw_stable_diffusion` has it.

    python quantize/golden/prompt_weights.py tests/golden/prompts LPW_FILE tests/golden/prompts

LPW_FILE is `examples/community/lpw_stable_diffusion.py` of diffusers' repository, which its package lacks; its
functions are used as they are, on a small tokenizer and text encoder (in ONNX Runtime) that lie there. Files:

    prompts.json     prompts of one window each
    embeddings.npy   [prompts, 77, D], weighed and brought back to their mean
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from transformers import CLIPTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from pipeline import session  # noqa: E402

PROMPTS = (
    "a fox on red",
    "a (fox) on red",
    "a (fox:1.4) on [red]",
    "((a fox)) next to a [[crown]]",
    "(a fox:0) on red",
    r"a fox \(small\) on (red \[dark\]:1.2)",
    "(a:2)(fox:0.25)(on:1.75)(red:10)",
    "",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path)
    parser.add_argument("lpw", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    spec = importlib.util.spec_from_file_location("lpw", args.lpw)
    lpw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lpw)
    network = session(args.pack / "text_encoder/model.onnx")
    kind = np.int32 if "32" in network.get_inputs()[0].type else np.int64

    def encode(ids: torch.Tensor) -> tuple[torch.Tensor]:
        return (torch.from_numpy(network.run(["last_hidden_state"], {"input_ids": ids.numpy().astype(kind)})[0]),)

    tokenizer = CLIPTokenizer.from_pretrained(str(args.pack / "tokenizer"))
    pipe = SimpleNamespace(tokenizer=tokenizer, text_encoder=encode, device="cpu")
    embeddings = [lpw.get_weighted_text_embeddings(pipe, prompt)[0].numpy() for prompt in PROMPTS]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "prompts.json").write_text(json.dumps(PROMPTS) + "\n")
    np.save(args.out / "embeddings.npy", np.concatenate(embeddings))


if __name__ == "__main__":
    main()
