"""Models of other people's: by the name of what makes them, with weights from a file that nothing is unpickled from."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from negspike.errors import InputError, one_line
from negspike.training.weights import read_tensors

_NESTED = ("state_dict", "model", "weights")


def load_model(name: str, weights: Path | None = None, **arguments: Any) -> nn.Module:
    """A model as ``nets.py:build`` or ``package.module:build``, a model or a function that makes one.

    Args:
        name: file or module, a colon and the name in it. The code is run: trust it.
        weights: a ``.safetensors`` file, or a state dict that :func:`torch.save` wrote.
        arguments: of the function.

    Raises:
        InputError: the file, the name in it or the weights are missing or wrong, or making the model fails.
    """
    place, colon, attribute = name.rpartition(":")
    if not colon or not attribute:
        raise InputError(f"model {name!r}: expected a file or module and a name in it, such as my_nets.py:build")
    try:
        made = getattr(_module(place), attribute)
    except AttributeError:
        raise InputError(f"model {name!r}: {place} has no {attribute!r}") from None
    if not isinstance(made, nn.Module) or isinstance(made, type):
        try:
            made = made(**arguments)
        except Exception as error:
            raise InputError(f"model {name!r}: {type(error).__name__}: {one_line(error)[:300]}") from error
    if not isinstance(made, nn.Module):
        raise InputError(f"model {name!r}: a {type(made).__name__}, expected a torch.nn.Module")
    if weights is not None:
        _load(made, weights)
    return made


def _module(place: str) -> Any:
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        path = Path(place).resolve()
        if not path.is_file():
            raise InputError(f"model: {place}: there is no such file")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        sys.path.insert(0, str(path.parent))  # what it imports may lie beside it
        try:
            spec.loader.exec_module(module)
        finally:
            sys.path.remove(str(path.parent))
        return module
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"model: {place}: {type(error).__name__}: {one_line(error)[:300]}") from error


def _load(model: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: dict[str, Any] = load_file(path)
        else:
            state = read_tensors(path)
            nested = [state[key] for key in _NESTED if isinstance(state.get(key), dict)]
            state = nested[0] if nested else state
    except Exception as error:
        raise InputError(
            f"{path}: no state dict that can be read without unpickling ({one_line(error)[:200]}); expected a "
            ".safetensors file or torch.save(model.state_dict(), path)"
        ) from error
    wrong = {name: value for name, value in state.items() if not isinstance(value, torch.Tensor)}
    if wrong:
        raise InputError(f"{path}: {next(iter(wrong))!r} is no tensor; expected a state dict")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"{path}: weights of another model: {one_line(error)[:300]}") from None
