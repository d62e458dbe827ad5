"""From a PyTorch model to a small graph of operations: torch.export, and a table of what each operation means.

A new layer is one entry of the table in :mod:`negspike.conversion.operations`.
"""

from __future__ import annotations

import io
import logging
import operator
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from negspike.conversion.calls import Activation, Call, Chain, Comparison, Operation, depends_on_image, needed
from negspike.conversion.fake_quantize import without_switches
from negspike.conversion.operations import OPERATIONS
from negspike.errors import InputError, one_line

# Two images: a batch of one could be mistaken for any other axis of length 1.
BATCH = 2
# Of a batch: of features, of lines with channels, of images.
AXES = (2, 3, 4)


class Reading(NamedTuple):
    """A traced model.

    Attributes:
        program: what ``torch.export`` made of it.
        known: of each node of the program that has one, its value, or where it depends on the images what it is.
        operations: in order, the last one gives the logits.
    """

    program: Any
    known: dict[Any, Any]
    operations: list[Operation]


def trace(model: nn.Module, example: Any) -> list[Operation]:
    """What a model in evaluation mode computes, in order; arguments and errors as :func:`read`'s."""
    return read(model, example).operations


def read(model: nn.Module, example: Any, *, batch: int = BATCH) -> Reading:
    """Trace a model in evaluation mode.

    Args:
        model: the model; it is left as it is.
        example: (N, C, H, W), (N, C, L) or (N, F) floats, at least one image.
        batch: images that the traced program takes, at least 2.

    Raises:
        InputError: the model cannot be traced or does something that cannot be converted; it names the module.
    """
    check_module(model)
    images = _example(example)
    training = [name for name, module in model.named_modules() if module.training]
    if training:
        raise InputError(f"{training[0] or 'the model'}: it is in training mode; call model.eval() first")
    program = _export(without_switches(model), images, batch)
    reader = _Reader(program, batch)
    return Reading(program, reader.known, reader.operations())


def check_module(model: Any) -> None:
    """Refuse what is no model.

    Raises:
        InputError: it is not an ``nn.Module``.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is {str(model)[:80]!r}: it must be a torch.nn.Module")


def tensor_of(images: Any) -> torch.Tensor:
    """Images as a tensor without a gradient, on the CPU unless they are a tensor already.

    Raises:
        InputError: they are no numbers.
    """
    if isinstance(images, torch.Tensor):
        return images.detach()
    try:
        return torch.as_tensor(np.asarray(images), device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the images are no array of numbers: {one_line(error)}") from error


def _example(example: Any) -> torch.Tensor:
    images = tensor_of(example)
    if images.dim() not in AXES or 0 in images.shape or images.is_complex():
        raise InputError(
            f"the example has shape {tuple(images.shape)}, expected images as (N, channels, height, width)"
        )
    return images


def _export(model: nn.Module, example: torch.Tensor, batch: int) -> Any:
    images = example[:1].expand(batch, *example.shape[1:]).clone()
    parameter = next(model.parameters(), None)
    if parameter is not None:
        images = images.to(parameter.device, parameter.dtype)
    try:
        # new tensors are where the model is, not where the caller's would be
        with _quiet(), _kept(model), torch.no_grad(), torch.device(images.device):
            program = torch.export.export(model, (images,))
            return program.run_decompositions({}) if _changes_in_place(program.graph) else program
    except InputError:
        raise
    except Exception as error:
        _check_fit(model, images, tuple(example.shape))
        reason = re.split(r"(?<=[.:;])\s|\n", str(error).strip(), maxsplit=1)[0][:300]
        values = re.search("data.?dependent|control flow", f"{type(error).__name__} {error}", re.IGNORECASE)
        advice = "control flow must not depend on the images' values" if values else "it is to take one batch of floats"
        raise InputError(
            f"{type(model).__name__}: torch.export cannot trace it ({type(error).__name__}: "
            f"{one_line(InputError(reason))}); {advice}"
        ) from error


def _check_fit(model: nn.Module, images: torch.Tensor, shape: tuple[int, ...]) -> None:
    with torch.no_grad():
        try:
            model(images)
        except Exception as error:
            reason = f"the example has shape {shape}, and images of shape {shape[1:]} do not fit the model: "
            reason += one_line(error)[:200]
            with suppress(Exception):
                model(images[:1])
                reason += "; one image alone does: keep the first axis, as x.flatten(1) does"
            raise InputError(reason) from error


def _changes_in_place(graph: Any) -> bool:
    """Whether a tensor is changed in place, which views of it, or a buffer, would have to follow."""
    return any(getattr(getattr(node.target, "_schema", None), "is_mutable", False) for node in graph.nodes)


@contextmanager
def _kept(model: nn.Module) -> Iterator[None]:
    """What a model keeps of a call, such as features for later, is the tracer's own afterwards: taken out again."""
    kept = [(module, dict(vars(module))) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes in kept:
            vars(module).clear()
            vars(module).update(attributes)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and graphs of PyTorch's tracer, which speak to its own developers."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class _Reader:
    """Reads the exported graph: what does not depend on the image is computed, the rest looked up in the table."""

    def __init__(self, program: Any, batch: int) -> None:
        self.program, self.batch = program, batch
        self.known: dict[Any, Any] = {}
        self.found: list[Operation] = []

    def operations(self) -> list[Operation]:
        signature = self.program.graph_signature
        state = self.program.state_dict | self.program.constants
        named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        named |= signature.inputs_to_lifted_tensor_constants
        images = 0
        for buffer in signature.buffers_to_mutate.values():
            raise InputError(f"{buffer}: the model changes it whenever it is called; a network keeps no such state")
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                if node.name in named:
                    self.known[node] = state[named[node.name]]
                    continue
                images += 1
                shape = tuple(node.meta["val"].shape[1:])
                self.found.append(Operation("input", "input", (), "", shape))
                self.known[node] = Activation("input", shape)
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                return self._needed([self.known.get(value) for value in node.args[0][-len(signature.user_outputs) :]])
            else:
                raise InputError(f"{node.name}: {node.op} in the traced model cannot be converted")
        raise InputError("the traced model has no output")

    def _needed(self, outputs: list[Any]) -> list[Operation]:
        if len(outputs) != 1 or not isinstance(outputs[0], Activation):
            raise InputError(
                f"the model returns {len(outputs)} values, expected one tensor of logits made of the images"
            )
        spec = self.program.call_spec.out_spec
        if not spec.is_leaf():
            raise InputError(f"the model returns a {spec.type.__name__}, expected one tensor of logits, as it is")
        return needed(self.found, outputs[0].name)

    def _value(self, argument: Any) -> Any:
        if isinstance(argument, torch.fx.Node):
            return self.known[argument]
        if isinstance(argument, list | tuple):
            return [self._value(one) for one in argument]
        return argument

    def _call(self, node: Any) -> None:
        if node.target is operator.getitem and isinstance(self.known[node.args[0]], list | tuple):
            parts, number = self.known[node.args[0]], node.args[1]
            if number >= len(parts) and node.users:
                raise InputError(f"{node.name}: where a max pool found its largest values cannot be converted")
            self.known[node] = parts[number] if number < len(parts) else None
            return
        if str(node.target).startswith("aten._assert_tensor_metadata"):
            return  # of a conversion between types, before it
        arguments = [self._value(argument) for argument in node.args]
        options = {name: self._value(argument) for name, argument in node.kwargs.items()}
        if not depends_on_image([*arguments, *options.values()]):
            drops = "dropout" not in str(node.target) or arguments[-1]  # which is whether it is in training mode
            if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()) and drops:
                raise InputError(f"{node.name}: it is random; a network computes the same whenever it is called")
            with torch.no_grad():
                self.known[node] = node.target(*arguments, **options)
            return
        self.known[node] = self._convert(node, arguments, options)

    def _convert(self, node: Any, arguments: list[Any], options: dict[str, Any]) -> Any:
        stack = list(node.meta.get("nn_module_stack", {}).values())
        path = re.sub(r"^L\['self'\]\.?|@\d+$", "", stack[-1][0]) if stack else ""
        target = node.target
        function = re.sub(r"_$", "", getattr(getattr(target, "_schema", None), "name", str(target)).replace("::", "."))
        schema = getattr(target, "_schema", None)
        values: dict[str, Any] = {str(number): argument for number, argument in enumerate(arguments)} | options
        if schema is not None:
            given = dict(zip((one.name for one in schema.arguments), arguments, strict=False)) | options
            values = {one.name: given.get(one.name, one.default_value) for one in schema.arguments}
        result = node.meta.get("val")
        several = isinstance(result, list | tuple)
        shapes = [tuple(one.shape[1:]) if hasattr(one, "shape") else () for one in (result if several else [result])]
        call = Call(function, values, path, shapes[0])
        if function == "aten.type_as" and not depends_on_image(arguments[0]):
            return arguments[0]  # which of the two types has no meaning in real numbers
        if function not in OPERATIONS:
            raise call.refuse(f"{call.short} cannot be converted; docs/conversion.md lists what can")
        first = result[0] if several else result
        if hasattr(first, "shape") and first.shape[:1] != (self.batch,):
            raise call.refuse(f"{call.short} mixes the images of a batch; keep the first axis as it is")
        parts = OPERATIONS[function](call)
        if isinstance(parts, Comparison):
            return parts
        if isinstance(parts, Chain):
            *before, parts = parts.entries
            for number, (kind, inputs, extra) in enumerate(before):
                made = Activation(f"{node.name}.{number}", shapes[0])
                names = (one.name for one in inputs) if inputs else (self.found[-1].name,)
                self.found.append(Operation(made.name, kind, tuple(names), path, made.shape, extra))
            parts = (parts[0], [made], parts[2])
        outputs = []
        for number, (kind, inputs, extra) in enumerate(parts if isinstance(parts, list) else [parts]):
            # with a dot, which no name of the exported graph has: chunk_1 may be another one's first result
            name = node.name if number == 0 else f"{node.name}.{number}"
            part = Operation(name, kind, tuple(one.name for one in inputs), path, shapes[number], extra)
            self.found.append(part)
            outputs.append(Activation(name, shapes[number]))
        return outputs if several else outputs[0]
