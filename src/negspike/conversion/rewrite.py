"""Quantisers, still without a step, in place of a model's activation functions and where linear maps need one."""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from negspike.conversion.reconstruct import Limits
from negspike.errors import InputError, one_line
from negspike.training.quantizers import QuantIdentity, QuantReLU

Quantiser = QuantReLU | QuantIdentity

_RECTIFIERS: set[Any] = {F.relu, F.relu_, torch.relu, torch.relu_, F.relu6, F.hardtanh, F.hardtanh_}
_UPPER: set[Any] = {torch.clamp_max, "clamp_max", "clamp_max_"}
_CLAMPS: set[Any] = {torch.clamp, torch.clip, torch.clamp_min, *_UPPER}
_CLAMPS |= {"clamp", "clamp_", "clip", "clip_", "clamp_min", "clamp_min_"}
_WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Linear)
_WEIGHTED_FUNCTIONS: set[Any] = {F.conv1d, torch.conv1d, F.conv2d, torch.conv2d, F.linear}
# What one value passes through on its way to a linear map; a quantiser has fewer weights before it than behind it.
_AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
_POOLS: set[Any] = {F.avg_pool1d, F.avg_pool2d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d}
_AVERAGE_FUNCTIONS: set[Any] = {*_POOLS, torch.mean, torch.sum, "mean", "sum"}
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Identity)
_PASSED = (*_AVERAGES, *_DROPOUTS, nn.Flatten, nn.Unflatten)
_PASSED_FUNCTIONS: set[Any] = {*_POOLS, torch.flatten, F.dropout, torch.mean}
_PASSED_FUNCTIONS |= {"mean", "flatten", "view", "reshape", "contiguous", "squeeze"}
_WINDOWED = (nn.Conv1d, nn.Conv2d, nn.AvgPool1d, nn.AvgPool2d)
_LARGEST = (nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)
_LARGEST_FUNCTIONS: set[Any] = {F.max_pool1d, F.max_pool2d, F.adaptive_max_pool1d, F.adaptive_max_pool2d}
_LARGEST_FUNCTIONS |= {torch.amax, "amax"}
_JOINED: set[Any] = {torch.cat, torch.concat}
_SUMS: set[Any] = {operator.add, operator.iadd, torch.add, "add", "add_"}
# What a max pool can change places with, besides factors; and what it cannot.
_KEPT = (*_LARGEST, *_DROPOUTS, nn.BatchNorm2d, nn.BatchNorm1d, nn.Hardtanh)
_FOLDED: set[Any] = {torch.flatten, "flatten", "view", "reshape", *_WEIGHTED_FUNCTIONS, *_JOINED}
_NOT_LINEAR = (
    *(nn.SiLU, nn.GELU, nn.Sigmoid, nn.Hardswish, nn.Hardsigmoid, nn.Tanh, nn.ELU, nn.SELU, nn.CELU, nn.LeakyReLU),
    *(nn.PReLU, nn.Softplus, nn.Mish, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d, nn.MultiheadAttention),
    *(nn.LocalResponseNorm, nn.LSTM, nn.GRU),
)
_REFUSED = {
    _NOT_LINEAR: "is nothing that spikes can follow exactly; use ReLU, batch norm and the like in its place, and train",
    (nn.Softmax, nn.LogSoftmax): "cannot be converted; as the last layer leave it out: argmax is the same",
    (nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d): "cannot be converted; there are Conv1d, Conv2d and Linear",
}


_REFUSED_FUNCTIONS = {
    *("silu", "gelu", "sigmoid", "hardswish", "hardsigmoid", "tanh", "elu", "selu", "celu", "leaky_relu", "prelu"),
    *("softplus", "mish", "layer_norm", "group_norm", "instance_norm", "softmax", "log_softmax"),
}


_ROUNDING = {"round", "floor", "ceil", "fake_quantize_per_tensor_affine", "quantize_per_tensor"}


def _function(node: fx.Node) -> str:
    """The name of a function or method."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Quantiser) or super().is_leaf_module(m, module_qualified_name)


class Rewriter:
    """Puts quantisers, still without a step, into the graph of a model.

    Args:
        model: to copy.
        levels: largest count.
    """

    def __init__(self, model: nn.Module, levels: int) -> None:
        self.levels = levels
        try:
            self.original = copy.deepcopy(model).eval()
        except Exception as error:
            raise InputError(
                f"{type(model).__name__}: it cannot be copied ({one_line(error)[:200]}); make pruned or normed weights "
                "permanent first, with torch.nn.utils.prune.remove or remove_weight_norm"
            ) from error
        try:
            graph = _Tracer().trace(self.original)
        except Exception as error:
            raise InputError(
                f"{type(model).__name__}: torch.fx cannot trace it ({one_line(error)[:200]}); put a QuantReLU in the "
                "place of each activation yourself"
            ) from error
        self.module = fx.GraphModule(self.original, graph, type(model).__name__)
        self.used: set[str] = set()
        # What each quantiser takes the place of, by its path: the bounds that values are clipped to.
        self.activations: dict[str, Limits] = {}

    def rewrite(self) -> fx.GraphModule:
        """The copy with quantisers."""
        nodes: list[Any] = []  # that depend on the image: functions of parameters alone stay as they are
        for node in self.module.graph.nodes:
            if node.op == "placeholder" or any(one in nodes for one in node.all_input_nodes):
                nodes.append(node)
            if not node.args and isinstance(node.kwargs.get("input"), fx.Node):
                rest = {name: value for name, value in node.kwargs.items() if name != "input"}
                node.args, node.kwargs = (node.kwargs["input"],), rest
        for node in nodes:
            self._refuse(node)
        self._refuse_quantised(nodes)
        order = {node: number for number, node in enumerate(self.module.graph.nodes)}
        for node in nodes:
            if self._is_in_place(node):  # what comes later reads the result
                node.args[0].replace_all_uses_with(node, delete_user_cb=lambda user, at=order[node]: order[user] > at)
        # All of them before any is replaced: a module may be used more than once.
        for node, limits in [(node, self._limits(node)) for node in nodes]:
            if limits is not None and limits[0] != 0:
                self._insert(node)  # which keeps its bounds
            elif limits is not None:
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
        name = _function(node).rstrip("_")
        if node.op != "call_module" and name in _REFUSED_FUNCTIONS:
            path = self._path(node)
            kind = type(self.original.get_submodule(path)).__name__
            raise InputError(f"{path or 'the model'}: {name} of {kind} {_REFUSED[_NOT_LINEAR]}")

    def _refuse_quantised(self, nodes: list[fx.Node]) -> None:
        """A second quantiser on top of the model's own would be another network, and other levels be ignored."""
        for node in nodes:
            if node.op != "call_module" and (name := _function(node).rstrip("_")) in _ROUNDING:
                path = self._path(node) or "the model"
                raise InputError(f"{path}: {name}: it has quantisers of its own; convert it as it is")
        quantised = any(isinstance(self._module(node), Quantiser) for node in nodes)
        if quantised and all(self._limits(node) is None for node in nodes):
            raise InputError(
                f"{type(self.original).__name__}: all of its activations are quantised already; convert it as it is, "
                "or quantise the float model anew"
            )

    def _limits(self, node: fx.Node) -> Limits | None:
        """(low, high) that an activation function clips to; None for anything else."""
        module = self._module(node)
        if isinstance(module, nn.Hardtanh):  # ReLU6 is one
            return float(module.min_val), float(module.max_val)
        if isinstance(module, nn.ReLU) or (node.op == "call_method" and node.target in ("relu", "relu_")):
            return 0.0, None
        if module is not None:
            return None
        names: tuple[str, ...] = ("input", "high") if node.target in _UPPER else ("input", "low", "high")
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
        if not isinstance(low, int | float | None) or not isinstance(high, int | float | None) or (low or 0) > 0:
            raise InputError(f"{self._path(node) or node.name}: clamp from {low} to {high} cannot be quantised")
        return None if low is None else float(low), None if high is None else float(high)

    def _is_in_place(self, node: fx.Node) -> bool:
        """Whether it writes its result over what it reads."""
        given = dict(zip(("input", "inplace"), node.args, strict=False)) | dict(node.kwargs)
        if node.op == "call_module":
            return bool(getattr(self._module(node), "inplace", False))
        inplace = node.target in _RECTIFIERS and given.get("inplace")
        return bool(node.args) and bool(_function(node).endswith("_") or inplace)

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

    def _between(self, node: fx.Node) -> Quantiser:
        """A quantiser of values that no activation function has given."""
        return QuantIdentity(step=1.0, low=0, high=self.levels) if self._is_positive(node) else self._quantiser(None)

    def _is_positive(self, node: fx.Node) -> bool:
        """Whether a value is made of ReLUs, sums and pools, so that it cannot be below 0."""
        module = self._module(node)
        if isinstance(module, QuantReLU):
            return True
        operands: Any = node.args[:1]
        if node.target in _JOINED and node.args:
            operands = node.args[0]
        elif node.target in _SUMS and "alpha" not in node.kwargs:
            operands = node.args
        elif (
            not isinstance(module, (*_PASSED, *_LARGEST)) and node.target not in _PASSED_FUNCTIONS | _LARGEST_FUNCTIONS
        ):
            return False
        return bool(operands) and all(isinstance(one, fx.Node) and self._is_positive(one) for one in operands)

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
        self.module.add_submodule(name, self._between(node))
        with self.module.graph.inserting_after(node):
            new = self.module.graph.call_module(name, (node,))
        new.meta = dict(node.meta)
        node.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)

    def _bottlenecks(self) -> Iterator[fx.Node]:
        """Values that need a quantiser of their own, since what reads them is not linear in counts.

        Values with weights that are read by a map with weights; the largest of values that are no counts, as of a
        residual sum, unless a quantiser follows, with which it can change places; what windows that overlap have made
        of counts and padded windows read, which would be another map at the edge.
        """
        weighted: dict[fx.Node, bool] = {}
        counted: dict[fx.Node, bool] = {}
        windowed: dict[fx.Node, bool] = {}
        for node in self.module.graph.nodes:
            module, inputs = self._module(node), _inputs(node)
            has_weights = isinstance(module, _WEIGHTED) or node.target in _WEIGHTED_FUNCTIONS
            read = any(weighted[one] for one in inputs)
            if has_weights and read:
                yield self._source(inputs[0])
            if _is_padded(module) and any(windowed[one] for one in inputs):
                yield self._source(inputs[0], averages=False)
            if self._is_average(node) and read and len(inputs[0].users) > 1:
                yield self._source(inputs[0], averages=False)
            quantiser = isinstance(module, Quantiser)
            largest = isinstance(module, _LARGEST) or node.target in _LARGEST_FUNCTIONS
            if largest and not counted[inputs[0]] and not self._is_quantised(node):
                yield node
            weighted[node] = has_weights or (read and not quantiser)
            windowed[node] = _overlaps(module) or (any(windowed[one] for one in inputs) and not quantiser)
            routed = len(inputs) == 1 or node.target in _JOINED
            passed = routed and not has_weights and not self._is_average(node) and all(counted[one] for one in inputs)
            counted[node] = quantiser or passed

    def _is_quantised(self, node: fx.Node) -> bool:
        """Whether all that becomes of a value meets a quantiser with nothing but factors and max pools on the way."""
        for user in node.users:
            module = self._module(user)
            if isinstance(module, Quantiser):
                continue
            alone = len(_inputs(user)) == 1 and not self._is_average(user)
            kept = isinstance(module, _KEPT) or (module is None and user.op != "output" and user.target not in _FOLDED)
            if not (alone and kept and self._is_quantised(user)):
                return False
        return bool(node.users)

    def _is_average(self, node: fx.Node) -> bool:
        return isinstance(self._module(node), _AVERAGES) or node.target in _AVERAGE_FUNCTIONS

    def _source(self, node: fx.Node, *, averages: bool = True) -> fx.Node:
        """Where a value comes from, before what passes it on; with ``averages``, those too."""
        while isinstance(self._module(node), _PASSED) or node.target in _PASSED_FUNCTIONS:
            if not averages and self._is_average(node):
                break
            before = node.args[0]
            assert isinstance(before, fx.Node)
            node = before
        return node


def _inputs(node: fx.Node) -> list[fx.Node]:
    """What a node reads that depends on the image; parameters and buffers are none of it."""
    return [one for one in node.all_input_nodes if one.op != "get_attr"]


def _is_padded(module: nn.Module | None) -> bool:
    """Whether a map puts zeros around what it reads and adds them up with it."""
    return _has_zeros(module) and getattr(module, "count_include_pad", True)


def _overlaps(module: nn.Module | None) -> bool:
    """Whether a place is in several windows of a map, or zeros are in one."""
    if not isinstance(module, _WINDOWED):
        return False
    kernel, stride = _sizes(module.kernel_size), _sizes(module.stride)
    return any(a > b for a, b in zip(kernel, stride, strict=True)) or _has_zeros(module)


def _has_zeros(module: nn.Module | None) -> bool:
    """Whether a map has zeros in windows at the edge."""
    return isinstance(module, _WINDOWED) and (module.padding == "same" or any(_sizes(module.padding)))


def _sizes(value: Any) -> list[int]:
    """Height and width, or the length of lines, of a module's argument; "valid" has none."""
    return [] if value == "valid" else [value] * 2 if isinstance(value, int) else list(value)
