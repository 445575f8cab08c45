"""A quick look at the newest checkpoints, by torch instead of easeld: what the judge says of held-out prompts.

    python models/train/look.py --state STATE [--prompts 200] [--steps 8] [--guidance 3] [--fast] [--out look.png]

`evaluate.py` is what counts; this takes seconds on a GPU and says whether a longer training is worth its time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import measures as M
import models
import tokenizer as T
from distill import guess
from judge import load_judge
from session import averaged
from train_unet import build_unet, signal_and_noise
from train_vae import tuned_vae
from trajectories import draw
from trial import held_out_prompts

BATCH = 50


@torch.no_grad()
def quickly(unet, text, tokens: torch.Tensor, noise: torch.Tensor, steps: int) -> torch.Tensor:
    """Latents by consistency steps (LCM): guess the end, put fresh noise on it, guess again."""
    device = noise.device.type
    a, s = signal_and_noise(device)
    scheduler = models.build_scheduler()
    scheduler.set_timesteps(steps)
    x = noise
    with torch.autocast(device, torch.bfloat16):
        states = models.text_states(text, tokens)
        for i, t in enumerate(scheduler.timesteps):
            end = guess(unet, x, t.to(x.device).expand(len(x)), states, a, s)
            if i + 1 < steps:
                after = scheduler.timesteps[i + 1]
                x = a[after] * end + s[after] * torch.randn_like(end)
    return end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--fast", action="store_true", help="the few-step UNet, without guidance")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="a sheet of the first pictures")
    args = parser.parse_args()
    device = args.device
    torch.manual_seed(3)
    tokenizer = T.load_tokenizer(args.state / "tokenizer")
    vae, text = models.build_vae(), models.build_text_encoder(len(tokenizer))
    vae.load_state_dict(tuned_vae(args.state))
    tuned = args.state / "text.pt"
    text.load_state_dict(averaged(tuned if tuned.exists() else args.state / "unet.pt", "text"))
    unet = build_unet(device, averaged(args.state / ("fast.pt" if args.fast else "unet.pt"), "unet")).eval()
    vae, text = vae.to(device).eval(), text.to(device).eval()
    prompts = held_out_prompts(args.prompts)
    empty = T.encode(tokenizer, [""])[0].to(device)
    pictures = []
    for at in range(0, len(prompts), BATCH):
        tokens = T.encode(tokenizer, [p.text for p in prompts[at : at + BATCH]]).to(device)
        noise = torch.randn((len(tokens), *models.LATENT), device=device)
        if args.fast:
            end = quickly(unet, text, tokens, noise, args.steps)
        else:
            end = draw(unet, text, tokens, empty, noise, args.steps, args.guidance)[1]
        with torch.no_grad(), torch.autocast(device, torch.bfloat16):
            made = vae.decode(end).sample.float().clamp(-1, 1)
        pictures.append(((made.permute(0, 2, 3, 1) + 1) * 127.5).round().byte().cpu().numpy())
    made = np.concatenate(pictures)
    verdict = M.judge_pictures(load_judge(args.state), made, [p.scene for p in prompts])
    two = verdict.two
    shares = {"single": verdict.single[~two], "background": verdict.background, "both": verdict.both[two],
              "relation given both": verdict.relation[two & verdict.both]}
    print(", ".join(f"{name} {100 * right.mean():.1f} %" for name, right in shares.items()))
    if args.out:
        rows = [np.concatenate(list(made[i : i + 10]), 1) for i in range(0, min(len(made), 60) - 9, 10)]
        Image.fromarray(np.concatenate(rows)).save(args.out)


if __name__ == "__main__":
    main()
