"""Weights that lie in parts on the processes that train: FSDP2, for models that fit on none.

Of every weight a process keeps one part, and of its gradient, its moments in AdamW and its moving
average the same part. The loss of a mechanism gathers what it needs (Zhao et al. 2023, arXiv
2304.11277): large layers one at a time, when they are called; all else of a mechanism at once.
Gradients are averaged and dealt out as the backward pass comes to them.

A mechanism with a parameter that is a single number, which has no parts, is kept whole by every
process; such mechanisms are small.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from rung3.mechanisms.base import Trainable
from rung3.training.processes import is_first, summed

__all__ = ["Sharded", "average_gradients", "is_of_parts", "own_part", "whole"]

LARGE = 2**20
"""Weights of a layer that is gathered by itself: fewer are not worth a message of their own."""


class Sharded(DDPStrategy):
    """Lightning's strategy of several processes, where each keeps a part of every mechanism."""

    def model_to_device(self) -> None:
        """Give every process the first one's weights, and then leave it its part of them."""
        loop: Any = self.model
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        for mechanism in loop.units():
            mechanism.to(self.root_device)
            for value in mechanism.state_dict().values():
                torch.distributed.broadcast(value, 0)
            _shard(mechanism, mesh)
        loop.to(self.root_device)

    def configure_ddp(self) -> None:
        """Wrap nothing: mechanisms gather and average by themselves."""

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return all weights, whole; to other processes than the first, which write nothing, none.

        A checkpoint is therefore the same for any number of processes, and for any strategy.
        """
        return _gathered(super().lightning_module_state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the moments, whole."""
        state = super().optimizer_state(optimizer)
        moments: Any = state["state"]
        return {**state, "state": {k: _gathered(values) for k, values in moments.items()}}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this process's part of moments that are whole."""
        states = []
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            moments = {
                k: {name: own_part(value, parameters[k]) for name, value in values.items()}
                for k, values in saved["state"].items()
            }
            states.append({**saved, "state": moments})
        super().load_optimizer_state_dict({**checkpoint, "optimizer_states": states})

    def teardown(self) -> None:
        """Leave the weights where they are, to be gathered."""
        assert self.accelerator is not None
        self.precision_plugin.teardown()
        self.accelerator.teardown()
        self.checkpoint_io.teardown()


def _shard(mechanism: Trainable, mesh: DeviceMesh) -> None:
    """Leave this process its part of a mechanism, if all its parameters have parts."""
    if any(parameter.ndim == 0 for parameter in mechanism.parameters()):
        return
    for layer in () if mechanism.differentiates else _large_layers(mechanism):
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    fully_shard(mechanism, mesh=mesh, reshard_after_forward=True)
    register_fsdp_forward_method(mechanism, "loss")


def _large_layers(mechanism: nn.Module) -> Iterator[nn.Module]:
    """Yield torch's own layers of many weights, which are used by being called."""
    for layer in mechanism.modules():
        weights = sum(parameter.numel() for parameter in layer.parameters(recurse=False))
        if weights >= LARGE and type(layer).__module__.startswith("torch.nn."):
            yield layer


def whole(value: Any) -> Any:
    """Return a tensor with the parts of all processes; anything else as it is.

    Every process must ask, as this takes a part from each.
    """
    return value.full_tensor() if isinstance(value, DTensor) else value


def own_part(value: Any, like: Tensor) -> Any:
    """Return this process's part of a tensor that lies as another of its shape does.

    Args:
        value: A whole tensor, the same in every process; what has another shape stays as it is.
        like: The tensor that it belongs to, in parts or whole.
    """
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    value = value.to(like.device)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def is_of_parts(error: RuntimeError) -> bool:
    """Return whether an error says that a part of a weight was used as if it were all of it.

    Example:
        >>> is_of_parts(RuntimeError("got mixed torch.Tensor and DTensor"))
        True
    """
    return "DTensor" in str(error)


def average_gradients(mechanism: nn.Module) -> None:
    """Average the gradients of a mechanism that every process keeps whole."""
    if isinstance(mechanism, FSDPModule):
        return
    for parameter in _with_gradients(mechanism.parameters()):
        parameter.grad = summed(parameter.grad) / torch.distributed.get_world_size()


def _with_gradients(parameters: Iterable[nn.Parameter]) -> Iterator[Any]:
    return (parameter for parameter in parameters if parameter.grad is not None)


def _gathered(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values, whole, in the memory of the machine; nothing but to the first process."""
    first, gathered = is_first(), {}
    for name, value in values.items():
        full = whole(value)  # one at a time: there may be no room for all on the device
        if first:
            gathered[name] = full.cpu() if isinstance(value, DTensor) else value
    return gathered
