"""Trains the two towers of CLIP contrastively (Radford et al. 2021), bounded by wall time, resumable.

A batch holds scenes in pairs that differ in one thing only - an object, the background, or the order of
two objects - so that the towers cannot do with less than the whole caption. Each process contrasts its
own share of the batch. Pictures are [B, 3, 128, 128] in -1..1, token ids [B, 77].

Later the UNet trains the text tower on, `train_text` brings CLIP's embedding back into it, and `train_image` has the
image tower follow what came of that.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch

import models
import tokenizer as T
from pool import Pool
from session import Session, Step, averaged, samples

BATCH = 192  # over all processes
TEMPERATURE = 0.07  # at the start; learned
MUON_LR, ADAM_LR = 3e-3, 1e-3
TEXTS = 128  # captions a step of `train_text`
TUNING = 0.3  # of those rates, there
KEPT = 30.0  # weight of the states the UNet reads
POOLED_WEIGHT = 0.05  # of the one that is also CLIP's, among them


class Temperature(torch.nn.Module):
    """CLIP's logit_scale: the natural logarithm of one over the temperature, at most ln 100."""

    def __init__(self):
        super().__init__()
        self.logit_scale = torch.nn.Parameter(torch.tensor(math.log(1 / TEMPERATURE)))

    def forward(self) -> torch.Tensor:
        return self.logit_scale.clamp(max=math.log(100)).exp()


def contrastive_loss(text: torch.Tensor, image: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(symmetric cross-entropy, share of captions found for their picture) of embeddings [B, D]."""
    text, image = (e / e.norm(dim=-1, keepdim=True) for e in (text.float(), image.float()))
    logits = scale * image @ text.T
    target = torch.arange(len(logits), device=logits.device)
    loss = (torch.nn.functional.cross_entropy(logits, target) + torch.nn.functional.cross_entropy(logits.T, target)) / 2
    return loss, (logits.argmax(-1) == target).float().mean()


def train_clip(rank: int, world: int, state: Path, seconds: float, device: str, seed: int) -> None:
    """Both towers from nothing; rank 0 writes `clip.pt`."""
    torch.manual_seed(seed)
    text = models.build_text_encoder(len(T.load_tokenizer(state / "tokenizer"))).to(device).train()
    image, scale = models.build_image_encoder().to(device).train(), Temperature().to(device)
    session = Session(state / "clip.pt", {"text": text, "image": image, "scale": scale}, seconds, (MUON_LR, ADAM_LR),
                      rank, world)
    torch.manual_seed(seed + 11 + 1000 * session.step + rank)
    session.run(contrasting(Pool(state, device), text, image, scale, samples(BATCH, world, device)))
    session.close()


def contrasting(pool: Pool, text, image, scale: Temperature, count: int) -> Step:
    """A step on `count` scenes and their captions."""
    def step():
        chosen = pool.paired(count)
        with torch.autocast(torch.device(pool.device).type, torch.bfloat16):
            texts = models.read_texts(text, pool.tokens(chosen)).text_embeds
            images = image(pool.pictures(chosen)).image_embeds
            loss, right = contrastive_loss(texts, images, scale())
        return loss, {"right": right}

    return step


def train_image(rank: int, world: int, state: Path, seconds: float, device: str, seed: int) -> None:
    """The image tower alone, against the text tower as it is shipped, which keeps still; rank 0 writes `image.pt`."""
    torch.manual_seed(seed)
    text = models.build_text_encoder(len(T.load_tokenizer(state / "tokenizer"))).to(device).eval().requires_grad_(False)
    text.load_state_dict(averaged(state / "text.pt", "text", device))
    image, scale = models.build_image_encoder().to(device).train(), Temperature().to(device)
    for name, module in {"image": image, "scale": scale}.items():
        module.load_state_dict(averaged(state / "clip.pt", name, device))
    session = Session(state / "image.pt", {"image": image, "scale": scale}, seconds, (MUON_LR, ADAM_LR), rank, world)
    torch.manual_seed(seed + 13 + 1000 * session.step + rank)
    session.run(contrasting(Pool(state, device), text, image, scale, samples(BATCH, world, device)))
    session.close()


def train_text(rank: int, world: int, state: Path, seconds: float, device: str, seed: int) -> None:
    """The text tower as the UNet left it, with CLIP's embedding back in its pooled state; rank 0 writes `text.pt`.

    The UNet reads the states of all tokens, CLIP one alone. That one learns to give the embedding it gave before the UNet
    trained the tower; all others keep still, or the UNet would draw something else.
    """
    torch.manual_seed(seed)
    size = len(T.load_tokenizer(state / "tokenizer"))
    towers = {}
    for name in ("clip", "unet"):
        towers[name] = models.build_text_encoder(size).to(device).eval().requires_grad_(False)
        towers[name].load_state_dict(averaged(state / f"{name}.pt", "text", device))
    text = models.build_text_encoder(size)
    text.load_state_dict(towers["unet"].state_dict())
    text.text_projection.load_state_dict(towers["clip"].text_projection.state_dict())
    text = text.to(device).train()
    session = Session(state / "text.pt", {"text": text}, seconds, (TUNING * MUON_LR, TUNING * ADAM_LR), rank, world)
    pool = Pool(state, device)
    torch.manual_seed(seed + 12 + 1000 * session.step + rank)
    count = samples(TEXTS, world, device)

    def step():
        tokens = pool.tokens(pool.chosen(count))
        with torch.autocast(session.device.type, torch.bfloat16):
            wanted = models.read_texts(towers["clip"], tokens).text_embeds.float()
            kept = models.text_states(towers["unet"], tokens).float()
            now = models.read_texts(text, tokens)
        missed = 1 - torch.nn.functional.cosine_similarity(now.text_embeds.float(), wanted).mean()
        moved = (now.last_hidden_state.float() - kept).square().mean(-1)
        weight = torch.ones_like(moved).scatter(1, pooled(tokens)[:, None], POOLED_WEIGHT)
        moved = (weight * moved).mean() / kept.square().mean()
        return missed + KEPT * moved, {"missed": missed, "moved": moved}

    session.run(step)
    session.close()


def pooled(tokens: torch.Tensor) -> torch.Tensor:
    """The place of the first end-of-text of each row, whose state CLIP projects."""
    return (tokens == tokens[:, -1:]).int().argmax(1)
