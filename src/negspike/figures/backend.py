"""Matplotlib, imported whatever the environment says.

A notebook's MPLBACKEND names a backend that need not be installed where a workflow draws, and a matplotlibrc may be
unreadable: Matplotlib then refuses to be imported. Figures here have a backend and a style of their own.
"""

from __future__ import annotations

import importlib
import os
import sys

try:
    importlib.import_module("matplotlib")
except (ValueError, OSError):
    _before = {name: os.environ.get(name) for name in ("MPLBACKEND", "MATPLOTLIBRC")}
    for _name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        del sys.modules[_name]  # half of it
    os.environ |= {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull}
    importlib.import_module("matplotlib")
    for _name, _value in _before.items():
        os.environ.pop(_name)
        os.environ |= {} if _value is None else {_name: _value}
