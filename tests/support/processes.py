"""Functions run in several processes that talk through gloo."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from pretrainrl.data.windows import Batch
from pretrainrl.networks.losses import info_nce, masked_cross_entropy, masked_mean
from pretrainrl.objectives import make_objective

WORLD = 2
TENSORS = ("frames", "actions", "rewards", "terminations", "games", "returns", "valid", "taken")


def in_processes(function: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """Call `function(rank, *arguments)` in two processes and return what they return, tensors in plain containers."""
    multiprocessing: Any = torch.multiprocessing
    multiprocessing.spawn(_member, (function, folder, arguments), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


def _member(rank: int, function: Callable[..., Any], folder: Path, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=WORLD)
    torch.save(function(rank, *arguments), folder / f"{rank}.pt")
    dist.destroy_process_group()


def share(batch: Batch, rank: int) -> Batch:
    """This process's windows of a batch, as `WindowSampler` deals them out."""
    return Batch(**{name: getattr(batch, name)[rank::WORLD] for name in TENSORS})


LOSSES: dict[str, Callable[..., tuple[torch.Tensor, torch.Tensor]]] = {
    "info_nce": lambda q, k, n, ignore: info_nce(q, k, temperature=0.5),
    "info_nce normalized": lambda q, k, n, ignore: info_nce(q, k, temperature=0.1, normalize=True),
    "info_nce masked": lambda q, k, n, ignore: info_nce(q, k, ignore=ignore),
    "info_nce hidden": lambda q, k, n, ignore: info_nce(q, k, ignore=ignore, hide_ignored=True),
    "info_nce with own negatives": lambda q, k, n, ignore: info_nce(q, k, ignore=ignore, own_negatives=n),
    "cross-entropy": lambda q, k, n, ignore: masked_cross_entropy(q * k * n, k.argmax(1)),
    "cross-entropy masked": lambda q, k, n, ignore: masked_cross_entropy(q * k * n, k.argmax(1), ignore),
    "mean masked": lambda q, k, n, ignore: (masked_mean((q * k * n).sum(1), ignore), masked_mean(q[:, 0].detach())),
}


def loss_values(inputs: list[torch.Tensor], ignore: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """Each loss, its metric, and its gradients for the three inputs, zeros for those that it does not read."""
    found = {}
    for name, loss in LOSSES.items():
        leaves = [x.clone().requires_grad_() for x in inputs]
        value, metric = loss(*leaves, ignore)
        torch.autograd.backward(value)
        found[name] = [value.detach(), metric, *(torch.zeros_like(x) if x.grad is None else x.grad for x in leaves)]
    return found


def loss_values_of_a_share(rank: int, inputs: list[torch.Tensor], ignore: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    return loss_values([x[rank::WORLD].contiguous() for x in inputs], ignore[rank::WORLD].contiguous())


def objective_gradients(name: str, batch: Batch, rank: int | None = None) -> dict[str, torch.Tensor]:
    """Loss and gradients of an objective, in one process or as one of several under DistributedDataParallel."""
    torch.manual_seed(0)
    objective = make_objective(name, encoder="nature", num_games=2, preset="nano", augmentation=False)
    module = objective if rank is None else DistributedDataParallel(objective)
    loss, _ = module(batch if rank is None else share(batch, rank))
    loss.backward()
    gradients: dict[str, Any] = {key: value.grad for key, value in objective.named_parameters() if value.grad is not None}
    return {"loss": loss.detach(), **gradients}


def gradients_of_shares(rank: int, batches: dict[str, Batch]) -> dict[str, dict[str, torch.Tensor]]:
    return {name: objective_gradients(name, batch, rank) for name, batch in batches.items()}
