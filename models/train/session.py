"""What every training has in common: resume from a checkpoint, go on for a bounded time, show how it goes.

On a CUDA device one whole step - batch, loss, gradients, optimisers, averages - is recorded once as a CUDA graph and
replayed: thousands of small kernels then cost one launch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

from optim import Ema, Optimisers, rate_factor, save_atomic
from parallel import agree, average_gradients

SAVE_EVERY = 60.0  # seconds
HISTORY_EVERY = 50  # steps between points of the loss curve
SMOOTHING = 0.98  # of the running means shown and kept
WARM_UP = 3  # steps before one is recorded
LARGER = 8  # times as many samples a step on a CUDA device

# A loss, and the numbers that join it in the progress bar and the loss curve.
Step = Callable[[], tuple[torch.Tensor, dict[str, torch.Tensor]]]


def samples(count: int, world: int, device: str | torch.device) -> int:
    """Samples of this process in a step that takes `count` on CPUs."""
    return max(1, count // world) * (LARGER if torch.device(device).type == "cuda" else 1)


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

    def run(self, step: Step, until: float = 1.0) -> None:
        """Goes down the losses `step` gives until the share `until` of the time is spent."""
        learn = None
        while self.progress < until:
            self.optimisers.set_rate(rate_factor(self.step - self.first, self.progress))
            for average in self.averages.values():
                average.set_share(self.step)
            learn = learn or (self._recorded(step) if self.device.type == "cuda" else lambda: self._learn(step))
            values = learn().tolist()
            self.elapsed, *values = agree(self.world, time.monotonic() - self.began, *values)
            self._note(values)

    def _learn(self, step: Step) -> torch.Tensor:
        """One step; the loss and the numbers beside it."""
        loss, shown = step()
        self.names = ["loss", *shown]
        loss.backward()
        average_gradients(self.optimisers.parameters, self.world)
        self.optimisers.step()
        for name, module in self.modules.items():
            self.averages[name].update(module)
        return torch.stack([value.detach().float() for value in (loss, *shown.values())])

    def _recorded(self, step: Step) -> Callable[[], torch.Tensor]:
        """The step as a CUDA graph, after some real ones in which libraries choose their kernels."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._learn(step)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            values = self._learn(step)

        def replay() -> torch.Tensor:
            graph.replay()
            return values

        return replay

    def _note(self, values: list[float]) -> None:
        self.step += 1
        for name, value in zip(self.names, values):
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
