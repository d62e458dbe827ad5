"""A PyTorch model of the user's, by the name of what makes it, and the weights it was trained to."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from negspike.errors import InputError, one_line
from negspike.training.topology import Shape
from negspike.training.weights import check_shapes, read_tensors
from negspike.user_files import find_file


def build_model(
    name: str, arguments: Mapping[str, Any], *, input_shape: Shape, classes: int, seed: int = 0
) -> nn.Module:
    """A float model with its initial weights, the same for the same seed.

    Args:
        name: ``package.module.function`` or ``file.py:function``; a class will do.
        arguments: of the function, by name.
        input_shape: of its images, (channels, height, width).
        classes: how many logits it should give.
        seed: of the initial weights; the random numbers of others stay as they are.

    Raises:
        InputError: it cannot be made, is no ``nn.Module``, or does not take these images to so many logits.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_model(name, arguments)
    try:
        with torch.no_grad():
            logits = model.eval()(torch.zeros(2, *input_shape))
    except Exception as error:
        raise InputError(f"model {name}: images of shape {input_shape} do not go through it, {_kind(error)}") from error
    found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if found != (2, classes):
        raise InputError(
            f"model {name}: two images give {found}, expected logits of shape {(2, classes)}, one a class of the "
            "dataset; say so in its 'arguments'"
        )
    return model


def make_model(name: str, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """What a function gives, by its name as in :func:`build_model`; a colon before it will do in any name.

    Raises:
        InputError: it cannot be found or made, or is no ``nn.Module``.
    """
    function = _function(name)
    try:
        model = function(**arguments or {})
    except Exception as error:
        raise InputError(f"model {name}: {_kind(error)}; its arguments are {dict(arguments or {})}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"model {name}: it gives a {type(model).__name__}, expected a torch.nn.Module")
    return model


def load_state(model: nn.Module, path: Path) -> None:
    """Weights from elsewhere: a state dict as ``.safetensors``, or as ``torch.save`` writes it; nothing is unpickled.

    Raises:
        InputError: the file is damaged, or its weights are not those of the model.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = read_tensors(path)
            for key in ("state_dict", "weights"):  # a checkpoint of a usual shape, or weights.pt of this workflow
                state = inner if isinstance(inner := state.get(key), dict) else state
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: no state dict but more than tensors, a whole model say, never unpickled; save model.state_dict()"
        ) from error
    except Exception as error:
        raise InputError(f"{path}: no state dict in .safetensors or of torch.save ({_kind(error)})") from error
    strange = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if strange:
        raise InputError(f"{path}: {strange[0]!r} is no tensor; save model.state_dict()")
    # of whatever width: what was saved in half precision is widened
    state = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    check_shapes(model, state, path)
    model.load_state_dict(state)


def _function(name: str) -> Any:
    if name.endswith(".py"):
        raise InputError(f"model {name}: a file and a function in it are expected, such as {name}:build")
    where, _, attribute = name.rpartition(":" if ":" in name else ".")
    if not where or not attribute:
        raise InputError(f"model {name}: expected my_nets.py:build or package.module.build, a function that makes it")
    try:
        module = _load(find_file(where)) if where.endswith(".py") else importlib.import_module(where)
    except InputError as error:
        raise InputError(f"model {name}: {error}") from error
    except Exception as error:
        file = Path(*where.split(".")).with_suffix(".py")
        hint = f"; for the file in this folder write {file.as_posix()}:{attribute}" if file.is_file() else ""
        raise InputError(f"model {name}: {where} cannot be imported, {_kind(error)}{hint}") from error
    if not callable(function := getattr(module, attribute, None)):
        there = [key for key, value in vars(module).items() if callable(value) and value.__module__ == module.__name__]
        known = f"; there are {', '.join(there[:10])}" if there else ""
        raise InputError(f"model {name}: {where} has no function {attribute}{known}")
    return function


def _load(path: Path) -> ModuleType:
    name = f"negspike_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "the name ends in .py"
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))  # what it imports may lie beside it
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


def _kind(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(error)[:200]}"
