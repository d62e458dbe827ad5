"""torchvision's models, where torchvision is installed beside a PyTorch of its own build."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import Any

from negspike.errors import InputError, one_line

PAIR = "install a pair that was built together, such as torch 2.14.1 and torchvision 0.29.1; README.md says how"


def torchvision_models() -> Any:
    """The module ``torchvision.models``.

    Raises:
        InputError: torchvision is not installed, or was built for another PyTorch.
    """
    try:
        return importlib.import_module("torchvision.models")
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "torchvision":
            raise InputError(f"torchvision is not installed; {PAIR}") from None
        found = " and ".join(f"{name} {version(name)}" for name in ("torch", "torchvision"))
        raise InputError(f"{found} do not fit together ({one_line(error)[:200]}); {PAIR}") from error
