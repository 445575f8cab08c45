"""Trains the two towers of CLIP contrastively (Radford et al. 2021), bounded by wall time, resumable.

A batch holds scenes in pairs that differ in one thing only - an object, the background, or the order of
two objects - so that the towers cannot do with less than the whole caption. Each process contrasts its
own share of the batch. Pictures are [B, 3, 128, 128] in -1..1, token ids [B, 77].

Later, with the text tower as the UNet's training left it, `train_image_tower` brings the image tower and both
projections back into step; the text tower itself keeps still then (Zhai et al. 2022, LiT, the other way round).
"""

from __future__ import annotations

import math
from pathlib import Path

import torch

import models
import tokenizer as T
from pool import Pool
from session import Session, averaged, samples

BATCH = 192  # over all processes
TEMPERATURE = 0.07  # at the start; learned
MUON_LR, ADAM_LR = 3e-3, 1e-3


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


def _contrast(session: Session, state: Path, towers: tuple, scale: Temperature, seed: int) -> None:
    text, image = towers
    pool = Pool(state, session.device)
    torch.manual_seed(seed + 1000 * session.step + session.rank)
    count = samples(BATCH, session.world, session.device)

    def step():
        chosen = pool.paired(count)
        with torch.autocast(session.device.type, torch.bfloat16):
            texts = models.read_texts(text, pool.tokens(chosen)).text_embeds
            images = image(pool.pictures(chosen)).image_embeds
            loss, right = contrastive_loss(texts, images, scale())
        return loss, {"right": right}

    session.run(step)
    session.close()


def train_clip(rank: int, world: int, state: Path, seconds: float, device: str, seed: int) -> None:
    """Both towers from nothing; rank 0 writes `clip.pt`."""
    torch.manual_seed(seed)
    text = models.build_text_encoder(len(T.load_tokenizer(state / "tokenizer"))).to(device).train()
    image, scale = models.build_image_encoder().to(device).train(), Temperature().to(device)
    session = Session(state / "clip.pt", {"text": text, "image": image, "scale": scale}, seconds, (MUON_LR, ADAM_LR),
                      rank, world)
    _contrast(session, state, (text, image), scale, seed + 11)


def train_image_tower(rank: int, world: int, state: Path, seconds: float, device: str, seed: int) -> None:
    """The image tower and both projections towards the UNet's text tower; rank 0 writes `image.pt`."""
    torch.manual_seed(seed)
    text = models.build_text_encoder(len(T.load_tokenizer(state / "tokenizer")))
    text.load_state_dict(averaged(state / "clip.pt", "text"))
    text.text_model.load_state_dict(
        {k.removeprefix("text_model."): v for k, v in averaged(state / "unet.pt", "text").items()
         if k.startswith("text_model.")})
    text.to(device).train().text_model.requires_grad_(False)
    image, scale = models.build_image_encoder(), Temperature()
    image.load_state_dict(averaged(state / "clip.pt", "image"))
    scale.load_state_dict(averaged(state / "clip.pt", "scale"))
    image, scale = image.to(device).train(), scale.to(device)
    session = Session(
        state / "image.pt", {"projection": text.text_projection, "image": image, "scale": scale}, seconds,
        (MUON_LR, ADAM_LR), rank, world)
    _contrast(session, state, (text, image), scale, seed + 12)
