"""A float model becomes a quantised one: quantisers in place of activations, their steps from calibration images."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from negspike.arguments import whole
from negspike.conversion.reconstruct import Limits, reconstruct
from negspike.conversion.rounding import round_weights
from negspike.conversion.trace import check_module, tensor_of
from negspike.errors import InputError, one_line
from negspike.training.quantizers import QuantIdentity, QuantReLU

Quantiser = QuantReLU | QuantIdentity
# What the error of a step is measured on, and how many steps are tried in each of two rounds.
MOST_VALUES = 1 << 18
CALIBRATION_IMAGES = 512
TRIED = 48

_RECTIFIERS: set[Any] = {F.relu, F.relu_, torch.relu, torch.relu_, F.relu6, F.hardtanh, F.hardtanh_}
_CLAMPS: set[Any] = {torch.clamp, torch.clamp_min, "clamp", "clamp_", "clamp_min", "clamp_min_"}
_WEIGHTED = (nn.Conv2d, nn.Linear)
_WEIGHTED_FUNCTIONS: set[Any] = {F.conv2d, torch.conv2d, F.linear}
# What one value passes through on its way to a linear map; a quantiser has fewer weights before it than behind it.
_PASSED = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Dropout, nn.Dropout2d, nn.Identity, nn.Unflatten)
_PASSED_FUNCTIONS: set[Any] = {F.avg_pool2d, F.adaptive_avg_pool2d, torch.flatten, F.dropout, torch.mean}
_PASSED_FUNCTIONS |= {"mean", "flatten", "view", "reshape", "contiguous", "squeeze"}
_NOT_LINEAR = (
    *(nn.SiLU, nn.GELU, nn.Sigmoid, nn.Hardswish, nn.Hardsigmoid, nn.Tanh, nn.ELU, nn.SELU, nn.CELU, nn.LeakyReLU),
    *(nn.PReLU, nn.Softplus, nn.Mish, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d, nn.MultiheadAttention),
    *(nn.LocalResponseNorm, nn.LSTM, nn.GRU),
)
_REFUSED = {
    _NOT_LINEAR: "is nothing that spikes can follow exactly; use ReLU, batch norm and the like in its place, and train",
    (
        nn.Softmax,
        nn.LogSoftmax,
    ): "is nothing that spikes can follow; as the last layer leave it out: argmax is the same",
    (nn.Conv1d, nn.Conv3d, nn.ConvTranspose2d): "cannot be converted; there are Conv2d and Linear",
}


def quantize(
    model: nn.Module,
    calibration: Any,
    *,
    levels: int = 15,
    percentile: float | None = None,
    reconstruction_steps: int = 0,
) -> nn.Module:
    """A copy of a float model that :func:`negspike.convert` takes, trainable in a loop of one's own.

    Each ReLU, ReLU6 and Hardtanh, as a module, function or method, becomes a :class:`negspike.QuantReLU` of its own,
    and where a linear map reads another's result, as behind a linear bottleneck, a :class:`negspike.QuantIdentity` is
    put between. Layer by layer, on what the quantised layers before give, the step is chosen. Weights are rounded to 24
    bits (:func:`negspike.round_weights`); they and batch norm keep the names that they have.

    Args:
        model: made of what ``torch.fx`` can trace; it is left as it is.
        calibration: (N, C, H, W) floats, some dozens to hundreds of images as the model is used with; steps are chosen
            by at most 512 of them, spread evenly.
        levels: largest count L; 15 makes activations of 4 bits. A QuantIdentity has as many values, half below 0.
        percentile: the largest count stands for this percentile of the positive inputs; None: the step with the least
            squared error.
        reconstruction_steps: so many updates of weights, biases and steps towards the float model's activations on the
            calibration images, without labels (:mod:`negspike.conversion.reconstruct`); some hundred gain most of
            what few levels lose.

    Returns:
        The model in the same mode, with evaluation-mode control flow.

    Raises:
        InputError: the model cannot be traced or has an activation that spikes cannot follow; it names the module.
    """
    check_module(model)
    count, updates = whole("levels", levels), whole("reconstruction_steps", reconstruction_steps)
    for name, number, least in (("levels", count, 1), ("reconstruction_steps", updates, 0)):
        if not least <= number < 1 << 24:
            raise InputError(f"{name} is {number}: it must be from {least} to {(1 << 24) - 1}")
    if percentile is not None and not 0 < percentile <= 100:
        raise InputError(f"percentile is {percentile}: it must be above 0 and at most 100")
    images = tensor_of(calibration)
    if images.dim() != 4 or 0 in images.shape:
        raise InputError(f"calibration images have shape {tuple(images.shape)}, expected (N, channels, height, width)")
    with torch.device("cpu"):  # not where the caller's new tensors would be, but where the model is
        rewriter = _Rewriter(model, count)
        quantised = round_weights(rewriter.rewrite())
    parameter = next(model.parameters(), None)
    if parameter is not None:
        images = images.to(parameter.device, parameter.dtype)
        quantised.to(parameter.device)
    _calibrate(quantised, images[:: -(-len(images) // CALIBRATION_IMAGES)], percentile, rewriter.activations)
    if updates:
        reconstruct(quantised, images, rewriter.activations, steps=updates)
        round_weights(quantised)
    quantised.train(model.training)
    return quantised


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Quantiser) or super().is_leaf_module(m, module_qualified_name)


class _Rewriter:
    """Puts quantisers, still without a step, into the graph of a model.

    Args:
        model: to copy.
        levels: largest count.
    """

    def __init__(self, model: nn.Module, levels: int) -> None:
        self.levels = levels
        root = copy.deepcopy(model).eval()
        try:
            graph = _Tracer().trace(root)
        except Exception as error:
            raise InputError(
                f"{type(model).__name__}: torch.fx cannot trace it ({one_line(error)[:200]}); put a QuantReLU in the "
                "place of each activation yourself"
            ) from error
        self.module = fx.GraphModule(root, graph, type(model).__name__)
        self.used: set[str] = set()
        # What each quantiser takes the place of, by its path: the bounds that values are clipped to.
        self.activations: dict[str, Limits] = {}

    def rewrite(self) -> fx.GraphModule:
        """The copy with quantisers."""
        nodes = list(self.module.graph.nodes)
        for node in nodes:
            self._refuse(node)
        # All of them before any is replaced: a module may be used more than once.
        for node, limits in [(node, self._limits(node)) for node in nodes]:
            if limits is not None:
                name = self._name(node, "relu")
                self.activations[name] = limits
                self._put(node, name, self._quantiser(limits[0]))
            elif node.op == "call_function" and node.target is F.dropout:
                # In training mode it is to drop again, whatever mode the graph was made in.
                bound = dict(zip(("input", "p"), node.args, strict=False)) | dict(node.kwargs)
                self._put(node, self._name(node, "dropout"), nn.Dropout(bound.get("p", 0.5)))
        while (bottleneck := next(self._bottlenecks(), None)) is not None:
            self._insert(bottleneck)
        for node in self.module.graph.nodes:
            node.meta.clear()  # where nodes came from is where quantisers were named after, not where they are
        self.module.graph.lint()
        self.module.delete_all_unused_submodules()
        self.module.recompile()
        return self.module

    def _module(self, node: fx.Node) -> nn.Module | None:
        return self.module.get_submodule(str(node.target)) if node.op == "call_module" else None

    def _refuse(self, node: fx.Node) -> None:
        module = self._module(node)
        for kinds, reason in _REFUSED.items():
            if isinstance(module, kinds):
                raise InputError(f"{node.target}: {type(module).__name__} {reason}")

    def _limits(self, node: fx.Node) -> Limits | None:
        """(low, high) that an activation function clips to; None for anything else."""
        module = self._module(node)
        if isinstance(module, nn.Hardtanh):  # ReLU6 is one
            return float(module.min_val), float(module.max_val)
        if isinstance(module, nn.ReLU) or node.target == "relu" or node.target == "relu_":
            return 0.0, None
        names: tuple[str, ...] = ("input", "low", "high")
        if node.target in _RECTIFIERS:
            if node.target is F.relu6:
                return 0.0, 6.0
            if node.target not in (F.hardtanh, F.hardtanh_):
                return 0.0, None
        elif node.target not in _CLAMPS:
            return None
        values = dict(zip(names, node.args, strict=False)) | {
            {"min": "low", "max": "high", "min_val": "low", "max_val": "high"}.get(key, key): value
            for key, value in node.kwargs.items()
        }
        hard = node.target in (F.hardtanh, F.hardtanh_)
        low, high = values.get("low", -1.0 if hard else None), values.get("high", 1.0 if hard else None)
        if not isinstance(low, int | float) or not isinstance(high, int | float | None) or low > 0:
            raise InputError(f"{self._path(node) or node.name}: clamp from {low} to {high} cannot be quantised")
        return float(low), None if high is None else float(high)

    def _path(self, node: fx.Node) -> str:
        stack = list(node.meta.get("nn_module_stack", {}).values())
        return str(stack[-1][0]) if stack else ""

    def _name(self, node: fx.Node, word: str) -> str:
        """The path of a module that takes a node's place: the first use of a module keeps its name."""
        path = ".".join(filter(None, (self._path(node), word)))
        if node.op == "call_module":
            path = f"{node.target}_{word}" if word == "quant" else str(node.target)
        taken = self.used if node.op == "call_module" else self.used | {name for name, _ in self.module.named_modules()}
        name, number = path, 1
        while name in taken:
            number += 1
            name = f"{path}_{number}"
        self.used.add(name)
        return name

    def _quantiser(self, low: float | None) -> Quantiser:
        if low == 0:
            return QuantReLU(step=1.0, levels=self.levels)
        above = max(self.levels // 2, 1)
        return QuantIdentity(step=1.0, low=-max(self.levels - above, 1), high=above)

    def _put(self, node: fx.Node, name: str, module: nn.Module) -> None:
        """A module in place of a node."""
        self.module.add_submodule(name, module)
        first = node.args[0] if node.args else node.kwargs["input"]
        with self.module.graph.inserting_before(node):
            new = self.module.graph.call_module(name, (first,))
        new.meta = dict(node.meta)
        node.replace_all_uses_with(new)
        self.module.graph.erase_node(node)

    def _insert(self, node: fx.Node) -> None:
        """A QuantIdentity behind a node."""
        name = self._name(node, "quant")
        self.activations[name] = (None, None)
        self.module.add_submodule(name, self._quantiser(None))
        with self.module.graph.inserting_after(node):
            new = self.module.graph.call_module(name, (node,))
        new.meta = dict(node.meta)
        node.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)

    def _bottlenecks(self) -> Iterator[fx.Node]:
        """Values that hold weights without a quantiser and are read by a map with weights."""
        holds: dict[fx.Node, bool] = {}
        for node in self.module.graph.nodes:
            module = self._module(node)
            weighted = isinstance(module, _WEIGHTED) or node.target in _WEIGHTED_FUNCTIONS
            read = any(holds[one] for one in node.all_input_nodes)
            if weighted and read:
                first = node.args[0] if node.args else node.kwargs["input"]
                assert isinstance(first, fx.Node)
                yield self._source(first)
            holds[node] = weighted or (read and not isinstance(module, Quantiser))

    def _source(self, node: fx.Node) -> fx.Node:
        while isinstance(self._module(node), _PASSED) or node.target in _PASSED_FUNCTIONS:
            before = node.args[0]
            assert isinstance(before, fx.Node)
            node = before
        return node


# --- steps ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def _calibrate(
    model: nn.Module, images: torch.Tensor, percentile: float | None, activations: dict[str, Limits]
) -> None:
    """One pass: each quantiser chooses its step by what it is given, and quantises with it."""

    def choose(module: nn.Module, inputs: tuple[torch.Tensor], limit: float | None) -> None:
        assert isinstance(module, Quantiser)
        module.step.fill_(best_step(inputs[0], module.low, module.high, percentile, limit))

    handles = [
        model.get_submodule(name).register_forward_pre_hook(partial(choose, limit=high if low == 0 else None))
        for name, (low, high) in activations.items()
    ]
    try:
        model(images)
    except InputError:
        raise
    except RuntimeError as error:
        raise InputError(f"the calibration images do not fit the model: {one_line(error)[:200]}") from error
    finally:
        for handle in handles:
            handle.remove()


def best_step(
    x: torch.Tensor,
    low: int | None,
    high: int | None,
    percentile: float | None = None,
    limit: float | None = None,
) -> float:
    """The step with which rounding to counts from ``low`` to ``high`` has the least squared error.

    Args:
        x: floats of any shape.
        low, high: bounds of the counts, whole numbers.
        percentile: instead, the step that puts this percentile of the positive values at ``high``.
        limit: values above are clipped, as ReLU6 does.
    """
    assert low is not None and high is not None
    values = x.detach().reshape(-1)
    values = values[:: max(1, len(values) // MOST_VALUES)].double()
    if not bool(torch.isfinite(values).all()):
        raise InputError("the calibration images give values that are not finite")
    values = values if low else values.clamp(0.0, limit)
    largest = max(float(values.max()) / high, float(values.min()) / low if low else 0.0)
    if largest <= 0:
        return (1.0 if limit is None else limit) / high
    if percentile is not None:
        sizes = values.abs() if low else values[values > 0]
        return float(sizes.quantile(percentile / 100)) / high

    def error(step: float) -> float:
        return float((values.div(step).add_(0.5).floor_().clamp_(low, high).mul_(step) - values).square_().sum())

    steps = [largest * (number + 1) / TRIED for number in range(TRIED)]
    best = min(steps, key=error)
    fine = [best + largest * (number / TRIED - 0.5) * 2 / TRIED for number in range(1, TRIED)]
    return min((step for step in [best, *fine] if 0 < step <= largest), key=error)
