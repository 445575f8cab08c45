"""What every training has in common: resume from a checkpoint, go on for a bounded time, show how it goes."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from tqdm import tqdm

from optim import Ema, Optimisers, rate_factor, save_atomic
from parallel import average

SAVE_EVERY = 60.0  # seconds
HISTORY_EVERY = 50  # steps between points of the loss curve
SMOOTHING = 0.98  # of the running means shown and kept


class Session:
    """Named modules under training, their moving averages and optimisers, in one file `path`.

    `seconds` bounds the time over all runs together; the learning rate follows the share of it that is spent.
    """

    def __init__(self, path: Path, modules: dict[str, torch.nn.Module], seconds: float, rates: tuple[float, float],
                 rank: int = 0, world: int = 1, decay: float = 0.999):
        self.path, self.modules, self.seconds, self.rank, self.world = path, modules, seconds, rank, world
        self.device = next(next(iter(modules.values())).parameters()).device
        self.averages = {name: Ema(module, decay) for name, module in modules.items()}
        self.optimisers = Optimisers(list(modules.values()), *rates, rank, world)
        self.step, self.elapsed, self.history, self.shown = 0, 0.0, [], {}
        if path.exists():
            saved = torch.load(path, map_location=self.device)
            for name, module in modules.items():
                module.load_state_dict(saved["model"][name])
                self.averages[name].module.load_state_dict(saved["ema"][name])
            if "optimisers" in saved:  # not in what warm.py makes of a pack
                self.optimisers.load(saved["optimisers"])
            self.step, self.elapsed, self.history = saved["step"], saved["seconds"], saved["history"]
        self.began = time.monotonic() - self.elapsed
        self.saved_at = self.elapsed
        self.first = self.step
        self.bar = tqdm(total=int(seconds), initial=int(self.elapsed), unit="s", desc=path.stem, mininterval=10,
                        disable=rank > 0)

    @property
    def progress(self) -> float:
        return self.elapsed / self.seconds

    def running(self) -> bool:
        return self.elapsed < self.seconds

    def learn(self, loss: torch.Tensor, **shown: float) -> None:
        """One step down `loss`; the numbers in `shown` join it in the progress bar and the loss curve."""
        loss.backward()
        names = ["loss", *shown]
        self.elapsed, *values = average(
            self.optimisers.parameters, self.world, time.monotonic() - self.began, loss.item(), *shown.values())
        self.optimisers.step(rate_factor(self.step - self.first, self.progress))
        self.step += 1
        for name, module in self.modules.items():
            self.averages[name].update(module, self.step)
        for name, value in zip(names, values):
            self.shown[name] = SMOOTHING * self.shown.get(name, value) + (1 - SMOOTHING) * value
        self.bar.n = int(self.elapsed)
        self.bar.set_postfix(step=self.step, **{k: f"{v:.4f}" for k, v in self.shown.items()})
        if self.step % HISTORY_EVERY == 0:
            self.history.append({"step": self.step, "seconds": round(self.elapsed, 1), **self.shown})
        if self.elapsed - self.saved_at > SAVE_EVERY:
            self.save()

    def save(self) -> None:
        self.saved_at = self.elapsed
        if self.rank == 0:
            save_atomic({
                "model": {name: module.state_dict() for name, module in self.modules.items()},
                "ema": {name: ema.module.state_dict() for name, ema in self.averages.items()},
                "optimisers": self.optimisers.state(),
                "step": self.step, "seconds": self.elapsed, "history": self.history,
            }, self.path)

    def close(self) -> None:
        self.save()
        self.bar.close()


def averaged(path: Path, name: str, device: str = "cpu") -> dict[str, torch.Tensor]:
    """The averaged weights of one module of a checkpoint."""
    return torch.load(path, map_location=device)["ema"][name]
