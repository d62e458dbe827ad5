"""A quantised model in float64, quantiser by quantiser: what the integers of its network have to come to.

The traced program is computed again. Parameters, and what is made of them alone, are the numbers that conversion read;
what comes from the images is float64 throughout, also where the model makes it float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from negspike.conversion.calls import Operation, depends_on_image
from negspike.conversion.fold import Folder
from negspike.conversion.simplify import simplify
from negspike.conversion.trace import read
from negspike.conversion.values import FloatNode

# These divide by a step in float32, or take nothing else: they are computed as conversion understands them.
_ROUNDED_AS_FLOAT32 = ("aten.fake_quantize", "aten._fake_quantize", "quantized_decomposed.")


class Float64Model:
    """A quantised model on the CPU, in evaluation mode, in float64.

    Args:
        model: it is left as it is.
        example: (N, C, H, W), (N, C, L) or (N, F) floats, at least one image.
        batch: images that it takes at a time, 2 or more.

    Attributes:
        populations: the neurons of its network, in order.

    Raises:
        InputError: it cannot be converted.
    """

    def __init__(self, model: nn.Module, example: Any, *, batch: int) -> None:
        program, known, operations = read(model, example, batch=batch)
        self._program, self._batch = program, batch
        self._constants = {node: _wide(one) for node, one in known.items() if not depends_on_image(one)}
        self._chains: dict[str, list[Operation]] = {}
        for operation in operations:
            self._chains.setdefault(_call_of(operation.name), []).append(operation)
        nodes = Folder().fold(simplify(operations))
        self.populations = [node for node in nodes if node.kind == "neurons"]

    @torch.no_grad()
    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, list[np.ndarray | None]]:
        """(N, ...) logits in float64 of at most ``batch`` images, and (N, ...) counts of each population's quantiser.

        They are those of the neurons behind the population's pools; None for neurons that the model does not have.
        """
        given = np.resize(images, (self._batch, *images.shape[1:]))
        run = _Run(self._program, self._chains, {_call_of(one.operation) for one in self.populations})
        logits = run.run(torch.from_numpy(given).double(), initial_env=dict(self._constants))[0]
        counts = [self._counts(one, run.kept) for one in self.populations]
        return logits[: len(images)].numpy(), [None if one is None else one[: len(images)] for one in counts]

    def _counts(self, node: FloatNode, kept: Mapping[str, torch.Tensor]) -> np.ndarray | None:
        """From what a call gave that rounds, and scales and shifts behind it."""
        if not node.operation:
            return None
        array, chain = kept[_call_of(node.operation)].numpy(), self._chains[_call_of(node.operation)]
        behind = [one.name for one in chain].index(node.operation) + 1
        for operation in reversed(chain[behind:]):
            if operation.kind == "affine":
                numerator, denominator, shift = _factors(operation, array.ndim)
                array = (array - shift) * denominator / numerator
        low, high = (-np.inf if node.low is None else node.low), (np.inf if node.high is None else node.high)
        counts: np.ndarray = np.clip(np.rint(array / node.step), low, high)
        return counts


class _Run(torch.fx.Interpreter):
    """One batch through the exported program.

    Attributes:
        kept: results of the calls in ``wanted``, by their names.
    """

    def __init__(self, program: Any, chains: Mapping[str, list[Operation]], wanted: set[str]) -> None:
        super().__init__(program.graph_module)
        self._chains, self._wanted = chains, wanted
        self.kept: dict[str, torch.Tensor] = {}

    def run_node(self, n: Any) -> Any:
        if str(n.target).startswith("aten._assert_tensor_metadata"):
            return None  # it is another type here
        if str(n.target).startswith(_ROUNDED_AS_FLOAT32):
            found = self.fetch_args_kwargs_from_env(n)[0][0]
            for operation in self._chains[n.name]:
                found = _applied(operation, found)
        else:
            found = _wide(super().run_node(n))
        if n.name in self._wanted:
            self.kept[n.name] = found
        return found

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        wide = [_wide(one) for one in args], {name: _wide(one) for name, one in kwargs.items()}
        if "batch_norm" not in str(target):
            # a number that meets activations is float32, for the model and for conversion: 0.7 is a little less
            wide = torch.fx.node.map_aggregate(wide, lambda one: float(np.float32(one)) if type(one) is float else one)
        return super().call_function(target, tuple(wide[0]), wide[1])


def _applied(operation: Operation, x: torch.Tensor) -> torch.Tensor:
    if operation.kind == "affine":
        numerator, denominator, shift = (torch.from_numpy(one) for one in _factors(operation, x.dim()))
        x = x * numerator / denominator + shift
    elif operation.kind == "quantize":
        step, tie, low, high = (operation.values[name] for name in ("step", "tie", "low", "high"))
        x = (x / step + tie).floor().clamp(low, high) * step
    return x


def _factors(operation: Operation, axes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numerator, denominator and shift of each channel, beside values of so many axes, the images first."""
    names, shape = ("numerator", "denominator", "shift"), (-1, *(1,) * (axes - 2))
    numerator, denominator, shift = (np.reshape(operation.values[name], shape) for name in names)
    return numerator, denominator, shift


def _call_of(operation: str) -> str:
    """The name of the call that an operation is of: one call may come to several (negspike.conversion.trace)."""
    return operation.partition(".")[0]


def _wide(value: Any) -> Any:
    """Float64 in place of other floats, tensors and types."""
    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, torch.dtype):
        return torch.float64 if value.is_floating_point else value
    if isinstance(value, list | tuple):
        return type(value)(_wide(one) for one in value)
    return value
