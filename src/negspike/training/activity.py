"""How many synaptic operations a quantised network's net spikes would take, differentiable: a penalty on activity.

Each activation counts with its fan-out, the additions that a spike of it causes (docs/counting.md), found by one pass
in which every weight is a one. Sorbaro et al. (Frontiers in Neuroscience 2020) train quantised networks so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from negspike.errors import InputError
from negspike.training.network import Block
from negspike.training.quantizers import QuantIdentity, QuantReLU

# What adds weighted inputs up.
_WEIGHTED = {"conv1d", "conv2d", "linear"}
_MEANS = {"adaptive_avg_pool1d", "adaptive_avg_pool2d", "mean"}


class Activity:
    """Synaptic operations of the net spikes of a batch, an image, as a share of the ANN's multiply-accumulates.

    Spikes that are taken back again are not in it, and steps are constants. Behind a max pool, the inputs of a window
    share its costs.

    Args:
        network: quantised; on the device of its parameters.
        shape: of an image, (channels, height, width).

    Raises:
        InputError: nothing in it is quantised.
    """

    def __init__(self, network: nn.Module, shape: tuple[int, int, int]) -> None:
        self._modules = [one for one in network.modules() if _quantises(one)]
        if not self._modules:
            raise InputError("a network without quantisers has no spikes; spike_penalty is for quantised trainings")
        self.fan_outs, self.macs = _fan_outs(network, self._modules, shape)
        self._seen: list[torch.Tensor] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """One forward pass, within it."""
        self._seen.clear()
        handles = [one.register_forward_hook(self._keep) for one in self._modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _keep(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        self._seen.append(_counts(module, inputs[0], output))

    def operations(self) -> torch.Tensor:
        """() mean over the images of the pass that was watched; straight-through gradients to what is quantised."""
        pairs = zip(self._seen, self.fan_outs, strict=True)
        total = sum(((counts.abs() * fan_out).sum() for counts, fan_out in pairs), torch.zeros((), device="cpu"))
        return total / (len(self._seen[0]) * self.macs)


def _quantises(module: nn.Module) -> bool:
    return isinstance(module, QuantReLU | QuantIdentity) or (isinstance(module, Block) and module.k is not None)


def _counts(module: nn.Module, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """Activations in steps."""
    if isinstance(module, Block):
        assert module.k is not None
        return output * 2.0**module.k
    assert isinstance(module, QuantReLU | QuantIdentity)
    step = module.step.detach()
    ratio = x.float() / step
    inside = ratio if module.low is None and module.high is None else ratio.clamp(module.low, module.high)
    return inside + (output / step - inside).detach()


class _Ones(TorchFunctionMode):
    """Weights are ones, their sums are kept and go no further; means are sums, batch norms let pass."""

    def __init__(self) -> None:
        super().__init__()
        self.sums: list[torch.Tensor] = []
        self.macs = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name == "batch_norm":
            return args[0]
        if name in ("max_pool1d", "max_pool2d"):
            func, args, kwargs = getattr(F, name.replace("max", "avg")), *_window(*args, **kwargs)
        elif name in ("adaptive_max_pool1d", "adaptive_max_pool2d"):
            return getattr(F, name.replace("max", "avg"))(*args[:2])
        elif name == "avg_pool1d":
            return _line_sums(*args, **kwargs)
        elif name == "avg_pool2d":  # its module gives every argument by its place, the divisor last
            args, kwargs = args[:6], {**kwargs, "divisor_override": 1}
        elif name in _WEIGHTED:
            x, weight, args, kwargs = _weighted(*args, **kwargs)
            found = func(x, torch.ones_like(weight), None, *args, **kwargs)
            if x.requires_grad:  # else it is on the image
                self.sums.append(found.sum())
                self.macs += found[0].numel() * weight[0].numel()
            return torch.zeros_like(found)
        found = func(*args, **kwargs)
        return found * (args[0].numel() / found.numel()) if name in _MEANS else found


def _weighted(
    input: torch.Tensor, weight: torch.Tensor, bias: Any = None, *args: Any, **kwargs: Any
) -> tuple[torch.Tensor, torch.Tensor, tuple[Any, ...], dict[str, Any]]:
    """What is weighted, by what, and the rest of the arguments but for the bias, however they were given."""
    return input, weight, args, kwargs


def _line_sums(
    x: torch.Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> torch.Tensor:
    """Sums over the windows of an average pool of (N, channels, length)."""
    sizes = (kernel_size, kernel_size if stride in (None, ()) else stride, padding)
    kernel, step, sides = (one if isinstance(one, int) else one[0] for one in sizes)
    sums = F.avg_pool2d(x[:, :, None], (1, kernel), (1, step), (0, sides), ceil_mode, count_include_pad, 1)
    return sums[:, :, 0]


def _window(
    x: torch.Tensor,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    **_: Any,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """An average pool's arguments for those of a max pool."""
    return (x, kernel, stride or kernel, padding, ceil_mode), {}


@torch.enable_grad()
def _fan_outs(
    network: nn.Module, modules: list[nn.Module], shape: tuple[int, int, int]
) -> tuple[list[torch.Tensor], int]:
    """Additions that a spike of each neuron causes, (1, ...) for each use of a quantiser, and the ANN's MACs."""
    spikes: list[torch.Tensor] = []
    training, ones = network.training, _Ones()

    def spike(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        if inputs[0].requires_grad and not isinstance(module, Block):  # spikes that are added as they are
            ones.sums.append(inputs[0].sum())
        spikes.append(torch.ones_like(output, requires_grad=True))
        return spikes[-1]

    handles = [one.register_forward_hook(spike) for one in modules]
    parameters = [one for one in network.parameters() if one.requires_grad]
    like = next(network.parameters())
    try:
        for one in parameters:
            one.requires_grad_(False)
        with ones:
            network.eval()(torch.zeros(1, *shape, dtype=like.dtype, device=like.device))
        total = sum(ones.sums, torch.zeros((), device=like.device))
        found = torch.autograd.grad(total, spikes, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
        for one in parameters:
            one.requires_grad_(True)
        network.train(training)
    return [torch.zeros_like(a) if b is None else b for a, b in zip(spikes, found, strict=True)], max(ones.macs, 1)
