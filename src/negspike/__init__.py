"""Lossless conversion of quantised networks into integer spiking networks with negative spikes."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from negspike.conversion.arrays import from_batchnorm
    from negspike.results.verification import verify
    from negspike.spiking.graph import SpikingNetwork
    from negspike.spiking.recording import SimulationLog
    from negspike.spiking.simulation import simulate

__version__ = "0.1.0"
__all__ = ["SimulationLog", "SpikingNetwork", "__version__", "from_batchnorm", "load", "simulate", "verify"]

_HOME = {
    "SimulationLog": "spiking.recording",
    "SpikingNetwork": "spiking.graph",
    "from_batchnorm": "conversion.arrays",
    "simulate": "spiking.simulation",
    "verify": "results.verification",
}


def load(path: str) -> SpikingNetwork:
    """A spiking network that :meth:`SpikingNetwork.save` wrote; as :meth:`SpikingNetwork.load`."""
    network: type[SpikingNetwork] = __getattr__("SpikingNetwork")
    return network.load(path)


def __getattr__(name: str) -> Any:
    # PyTorch takes seconds to import; Snakemake reads the configuration with this package and needs none of it.
    if name in _HOME:
        return getattr(importlib.import_module(f"negspike.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
