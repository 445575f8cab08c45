"""Optimiser, moving average and checkpoints shared by the two trainings."""

from __future__ import annotations

import copy
import math
import os
from pathlib import Path

import torch

from parallel import exchange


class Muon(torch.optim.Optimizer):
    """Momentum orthogonalised by Newton-Schulz (Jordan et al. 2024) for weight matrices.

    Convolutions [O, I, kh, kw] count as matrices [O, I * kh * kw]. The update is scaled by
    0.2 * sqrt(larger side), which gives it AdamW's usual size (Liu et al. 2025, arXiv 2502.16982).
    Processes that train together orthogonalise a share of the matrices each and exchange the results.
    """

    def __init__(self, params, lr: float, momentum: float = 0.95, weight_decay: float = 0.01,
                 rank: int = 0, world: int = 1):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.rank, self.world = rank, world

    @staticmethod
    def orthogonalise(matrices: torch.Tensor, rounds: int = 5) -> torch.Tensor:
        """Each of several matrices [N, rows, columns]."""
        tall = matrices.shape[1] > matrices.shape[2]
        x = matrices.mT if tall else matrices
        x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(torch.bfloat16)
        for _ in range(rounds):
            gram = x @ x.mT
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        x = x.to(matrices.dtype)
        return x.mT if tall else x

    def wanted(self, p: torch.nn.Parameter, momentum: float) -> torch.Tensor:
        """The update of p before it is orthogonalised, as a matrix."""
        buffer = self.state[p].setdefault("momentum", torch.zeros_like(p)).lerp_(p.grad, 1 - momentum)
        return p.grad.lerp(buffer, momentum).flatten(1)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            updates = [self.wanted(p, group["momentum"]) for p in group["params"]]
            owners = shares([work(u) for u in updates], self.world)
            for alike in by_shape(updates, owners[self.rank]):
                done = self.orthogonalise(torch.stack([updates[i] for i in alike]))
                for i, update in zip(alike, done):
                    updates[i] = update
            exchange(updates, owners, self.rank)
            for p, update in zip(group["params"], updates):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(update.reshape(p.shape) * (group["lr"] * (0.2 * math.sqrt(max(update.shape)))))


def work(matrix: torch.Tensor) -> int:
    """What it costs to orthogonalise a matrix, in multiplications but for a factor."""
    return matrix.numel() * min(matrix.shape)


def by_shape(matrices: list[torch.Tensor], chosen: list[int]) -> list[list[int]]:
    """The chosen indices in groups of matrices of one shape: one large product is cheaper than many small ones."""
    groups: dict[torch.Size, list[int]] = {}
    for i in chosen:
        groups.setdefault(matrices[i].shape, []).append(i)
    return list(groups.values())


def shares(costs: list[int], world: int) -> list[list[int]]:
    """Indices for each of `world` processes, of about equal cost together."""
    found, loads = [[] for _ in range(world)], [0] * world
    for i in sorted(range(len(costs)), key=lambda i: -costs[i]):
        least = loads.index(min(loads))
        found[least].append(i)
        loads[least] += costs[i]
    return found


class Optimisers:
    """Muon for the matrices, AdamW for everything else, one learning-rate factor for both."""

    def __init__(self, modules: list[torch.nn.Module], muon_lr: float, adam_lr: float, rank: int = 0, world: int = 1):
        matrices, others = [], []
        for module in modules:
            for name, p in module.named_parameters():
                if not p.requires_grad:
                    continue
                small = min(p.shape[0], p[0].numel()) < 16 if p.ndim > 1 else True
                (others if small or "embedding" in name else matrices).append(p)
        self.parameters = matrices + others
        cuda = self.parameters[0].is_cuda
        self.all = [torch.optim.AdamW(others, lr=adam_lr, betas=(0.9, 0.99), weight_decay=0.0, capturable=cuda)]
        if muon_lr > 0:
            self.all.append(Muon(matrices, lr=muon_lr, rank=rank, world=world))
        else:
            self.all[0].add_param_group({"params": matrices})
        self.groups = [group for optimiser in self.all for group in optimiser.param_groups]
        self.base = [group["lr"] for group in self.groups]
        if cuda:  # where a recorded step finds the rate of each repetition
            for group in self.groups:
                group["lr"] = torch.tensor(group["lr"], device=self.parameters[0].device)

    def set_rate(self, factor: float) -> None:
        """The learning rates of the next step: this factor of the usual ones."""
        for group, rate in zip(self.groups, self.base):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate * factor)
            else:
                group["lr"] = rate * factor

    def step(self, clip: float = 1.0) -> None:
        torch.nn.utils.clip_grad_norm_(self.parameters, clip)
        for optimiser in self.all:
            optimiser.step()
        for p in self.parameters:
            p.grad = None

    def state(self) -> list[dict]:
        return [o.state_dict() for o in self.all]

    def load(self, states: list[dict]) -> None:
        for optimiser, state in zip(self.all, states):
            optimiser.load_state_dict(state)
        self.groups = [group for optimiser in self.all for group in optimiser.param_groups]


def rate_factor(step: int, progress: float, warmup: int = 100, tail: float = 0.35) -> float:
    """Warm-up by steps, flat, then linear to zero over the last `tail` of the time budget."""
    rise = min(1.0, (step + 1) / warmup)
    fall = min(1.0, max(0.0, (1.0 - progress) / tail))
    return rise * max(fall, 0.01)


class Ema:
    """Exponential moving average of a module's weights; the average is what gets exported."""

    def __init__(self, module: torch.nn.Module, decay: float):
        self.decay = decay
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.share = torch.zeros((), device=next(module.parameters()).device)  # of the newest weights

    def set_share(self, step: int) -> None:
        """Before step `step`: the first steps count for more."""
        self.share.fill_(1 - min(self.decay, (1 + step) / (10 + step)))

    @torch.no_grad()
    def update(self, module: torch.nn.Module) -> None:
        mine = list(self.module.parameters())
        moved = torch._foreach_sub(list(module.parameters()), mine)
        torch._foreach_mul_(moved, self.share)
        torch._foreach_add_(mine, moved)
        for mine, theirs in zip(self.module.buffers(), module.buffers()):
            mine.copy_(theirs)


def save_atomic(value, path: Path) -> None:
    """torch.save to a neighbour, then rename: a cut never leaves half a checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(value, partial)
    os.replace(partial, path)
