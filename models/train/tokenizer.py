"""Learns the pack's byte-level BPE and writes it in CLIP's file format.

Layout of the ids, as CLIP has it (Radford et al. 2021, `simple_tokenizer.py`): 256 byte symbols,
the same 256 with `</w>`, one per merge, then <|startoftext|> and <|endoftext|>. Merges are learned
until every word of the vocabulary is one token; other text falls back to shorter pieces.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import captions

START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77  # tokens a prompt is padded to, with END as SD 1.x does


def byte_symbols() -> list[str]:
    """CLIP's printable stand-in for each byte, in the order of its vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    codes, extra = list(printable), 0
    for byte in range(256):
        if byte not in printable:
            codes.append(256 + extra)
            extra += 1
    return [chr(c) for c in codes]


def learn_merges(words: list[str]) -> list[tuple[str, str]]:
    """Greedy BPE: the most frequent pair first, ties in dictionary order."""
    pieces = [[*w[:-1], w[-1] + "</w>"] for w in words]
    merges = []
    while True:
        pairs = Counter((a, b) for p in pieces for a, b in zip(p, p[1:]))
        if not pairs:
            return merges
        a, b = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append((a, b))
        for p in pieces:
            i = 0
            while i + 1 < len(p):
                if (p[i], p[i + 1]) == (a, b):
                    p[i : i + 2] = [a + b]
                i += 1


def write_tokenizer(folder: Path) -> int:
    """Writes vocab.json, merges.txt and their config; returns the number of tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    merges = learn_merges(captions.every_word())
    symbols = byte_symbols()
    tokens = [*symbols, *(s + "</w>" for s in symbols), *(a + b for a, b in merges), START, END]
    if len(set(tokens)) != len(tokens):
        raise ValueError("two merges spell the same token")
    vocab = {token: i for i, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": LENGTH,
        "do_lower_case": True,
        "add_prefix_space": False,
        **special,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return len(tokens)


def load_tokenizer(folder: Path):
    """transformers' own CLIPTokenizer over the written files."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(str(folder))


def encode(tokenizer, captions: list[str], tensors: str = "pt"):
    """Token ids, int64 [len(captions), 77], as a torch ("pt") or numpy ("np") array."""
    return tokenizer(
        captions, padding="max_length", max_length=LENGTH, truncation=True, return_tensors=tensors
    ).input_ids
