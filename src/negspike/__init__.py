"""Lossless conversion of quantised networks into integer spiking networks with negative spikes."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from negspike.conversion.arrays import from_batchnorm
    from negspike.conversion.calibrate import quantize
    from negspike.conversion.convert import convert
    from negspike.conversion.narrow import narrow_thresholds
    from negspike.conversion.rounding import round_weights
    from negspike.errors import InputError
    from negspike.results.verification import verify
    from negspike.spiking.graph import SpikingNetwork
    from negspike.spiking.recording import SimulationLog
    from negspike.spiking.simulation import simulate
    from negspike.spiking.stream import Stream
    from negspike.training.quantizers import QuantIdentity, QuantReLU

    load = SpikingNetwork.load

__version__ = "0.1.0"
__all__ = [
    "InputError",
    "QuantIdentity",
    "QuantReLU",
    "SimulationLog",
    "SpikingNetwork",
    "Stream",
    "__version__",
    "convert",
    "from_batchnorm",
    "load",
    "narrow_thresholds",
    "quantize",
    "round_weights",
    "simulate",
    "verify",
]

_HOME = {
    "InputError": "errors",
    "QuantIdentity": "training.quantizers",
    "QuantReLU": "training.quantizers",
    "SimulationLog": "spiking.recording",
    "SpikingNetwork": "spiking.graph",
    "Stream": "spiking.stream",
    "convert": "conversion.convert",
    "from_batchnorm": "conversion.arrays",
    "narrow_thresholds": "conversion.narrow",
    "quantize": "conversion.calibrate",
    "round_weights": "conversion.rounding",
    "simulate": "spiking.simulation",
    "verify": "results.verification",
}


def __getattr__(name: str) -> Any:
    # PyTorch takes seconds to import; Snakemake reads the configuration with this package and needs none of it.
    if name == "load":
        return __getattr__("SpikingNetwork").load
    if name in _HOME:
        return getattr(importlib.import_module(f"negspike.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
