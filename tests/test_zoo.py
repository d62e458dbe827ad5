"""torchvision, present, missing, or built for another PyTorch."""

from __future__ import annotations

import sys
from importlib.metadata import version
from types import ModuleType
from typing import Any

import pytest
from conftest import OneLine

from negspike.errors import InputError
from negspike.zoo import torchvision_models


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("No module named 'torchvision'", name="torchvision"), ("is not installed", "README")),
        (RuntimeError("operator torchvision::nms does not exist"), ("do not fit together", "::nms", version("torch"))),
        (ImportError("libtorch.so: undefined\nsymbol: x"), ("do not fit together", "undefined symbol", "README")),
    ],
)
def test_one_line(error: Exception, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    class Finder:
        def find_spec(self, name: str, *_: Any) -> None:
            if name.startswith("torchvision"):
                raise error

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with OneLine(InputError, *words):
        torchvision_models()


def test_present() -> None:
    pytest.importorskip("torchvision")
    models = torchvision_models()
    assert isinstance(models, ModuleType) and "resnet18" in models.list_models()
