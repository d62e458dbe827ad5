"""Lossless conversion of quantised networks into integer spiking networks with negative spikes."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from negspike.spiking.graph import SpikingNetwork
    from negspike.spiking.recording import SimulationLog
    from negspike.spiking.simulation import simulate

__version__ = "0.1.0"
__all__ = ["SimulationLog", "SpikingNetwork", "__version__", "simulate"]

_HOME = {"SpikingNetwork": "graph", "SimulationLog": "recording", "simulate": "simulation"}


def __getattr__(name: str) -> Any:
    # PyTorch takes seconds to import; Snakemake reads the configuration with this package and needs none of it.
    if name in _HOME:
        return getattr(importlib.import_module(f"negspike.spiking.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
