"""Data parallelism over single-threaded processes.

On a shared two-core machine two processes of one thread each train faster than one process of two
threads: a thread that loses its core to a neighbour then delays one all-reduce a step, not every
small operator's barrier.
"""

from __future__ import annotations

import os
import tempfile

import torch
import torch.distributed as dist


def _worker(rank: int, world: int, meeting: str, function, arguments: tuple) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    try:
        function(rank, world, *arguments)
    finally:
        dist.destroy_process_group()


def launch(world: int, function, *arguments) -> None:
    """Calls function(rank, world, *arguments) in `world` processes, or here if there is only one."""
    if world == 1:
        function(0, 1, *arguments)
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_worker, (world, f"{folder}/meeting", function, arguments), nprocs=world)


def average_gradients(parameters: list[torch.nn.Parameter], world: int) -> None:
    """Averages gradients over all processes, in place."""
    if world == 1:
        return
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in grads])
    dist.all_reduce(flat)
    flat /= world
    for g, mean in zip(grads, flat.split([g.numel() for g in grads])):
        g.copy_(mean.view_as(g))


def agree(world: int, *numbers: float) -> list[float]:
    """The numbers' means over all processes."""
    if world == 1:
        return list(numbers)
    flat = torch.tensor(numbers)
    dist.all_reduce(flat)
    return (flat / world).tolist()


def exchange(tensors: list[torch.Tensor], owners: list[list[int]], rank: int) -> None:
    """Every process gets the tensors that another one owns; owners[r] are the indices that process r has ready."""
    if len(owners) == 1:
        return
    sizes = [[tensors[i].numel() for i in indices] for indices in owners]
    longest = max(map(sum, sizes))
    mine = torch.cat([*(tensors[i].reshape(-1) for i in owners[rank]), torch.zeros(longest - sum(sizes[rank]))])
    parts = [torch.empty_like(mine) for _ in owners]
    dist.all_gather(parts, mine)
    for part, indices, lengths in zip(parts, owners, sizes):
        for i, values in zip(indices, part[: sum(lengths)].split(lengths)):
            tensors[i] = values.view(tensors[i].shape)


def barrier(world: int) -> None:
    if world > 1:
        dist.barrier()
