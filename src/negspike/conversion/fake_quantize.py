"""Models of PyTorch's quantisation-aware training: what its FakeQuantize modules do, without their switches."""

from __future__ import annotations

import copy
import sys
from typing import Any

import torch
from torch import nn

from negspike.errors import InputError

_MODULE = "torch.ao.quantization.fake_quantize"


class _Fixed(nn.Module):
    """Rounds as a FakeQuantize does that observes nothing."""

    scale: torch.Tensor
    zero_point: torch.Tensor

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.rounds = bool(module.fake_quant_enabled[0])
        self.bounds = (int(module.activation_post_process.quant_min), int(module.activation_post_process.quant_max))
        self.axis = int(module.ch_axis) if module.is_per_channel else None
        self.register_buffer("scale", module.scale.detach().clone())
        self.register_buffer("zero_point", module.zero_point.detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.rounds:
            return x
        if self.axis is None:
            return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, *self.bounds)
        return torch.fake_quantize_per_channel_affine(x, self.scale, self.zero_point, self.axis, *self.bounds)


def without_switches(model: nn.Module) -> nn.Module:
    """The model itself; or, where it has FakeQuantize modules, a copy in which they are fixed, as tracing needs it.

    Raises:
        InputError: one still observes, so that the next images would change its step.
    """
    if _MODULE not in sys.modules:  # nobody can have made one, and it takes time to import
        return model
    kind: Any = sys.modules[_MODULE].FakeQuantizeBase
    found: dict[str, Any] = {name: module for name, module in model.named_modules() if isinstance(module, kind)}
    for name, module in found.items():
        if module.observer_enabled[0]:
            raise InputError(
                f"{name}: it still changes its step with the images; call "
                "model.apply(torch.ao.quantization.disable_observer) first"
            )
    fixed = copy.deepcopy(model) if found else model
    for name, module in found.items():
        fixed.set_submodule(name, _Fixed(module).train(module.training))
    return fixed
