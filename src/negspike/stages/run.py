"""What rules tell their scripts: which network of the experiment, how it is simulated, and on what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from negspike.conversion.calibrate import quantize
from negspike.data.registry import DatasetSpec, dataset_spec
from negspike.precision import Precision
from negspike.training.models import build_model
from negspike.training.network import Network
from negspike.training.quantizers import QuantIdentity, QuantReLU
from negspike.training.topology import parse_topology

Report = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """One network of the experiment.

    Attributes:
        name: of the net.
        net: what it is, as :meth:`negspike.config.Definition.science` gives it.
        seed: training repetition.
        precision: ``fp32``, ``k0``, ``k1``, ... or ``levels1``, ...
        weight_bits: width of the rounded weights; None in full precision.
    """

    name: str
    net: Mapping[str, Any]
    seed: int
    precision: str
    weight_bits: int | None

    @property
    def quantization(self) -> Precision:
        """The precision, taken apart."""
        return Precision.parse(self.precision)

    @property
    def spec(self) -> DatasetSpec:
        """Of the net's dataset."""
        return dataset_spec(self.net["dataset"])

    def network(self) -> nn.Module:
        """The network with its initial weights; a quantised model's steps are still to be calibrated.

        Raises:
            InputError: the model cannot be made or quantised.
        """
        spec, precision = self.spec, self.quantization
        if "model" not in self.net:
            topology = parse_topology(
                self.net["topology"], spec.input_shape, self.net["padding"], self.net["width"], spec.classes
            )
            return Network(topology, precision.k, self.weight_bits, self.seed, levels=precision.levels)
        model = build_model(
            self.net["model"],
            self.net["arguments"],
            input_shape=spec.input_shape,
            classes=spec.classes,
            seed=self.seed,
        )
        return model if precision.kind == "fp32" else self._quantized(model, torch.zeros(2, *spec.input_shape))

    def from_fp32(self, trained: nn.Module, images: torch.Tensor) -> nn.Module:
        """The quantised network with the weights of the full-precision one.

        Args:
            trained: the same net in full precision.
            images: (N, C, H, W) prepared training images, by which the steps are chosen.
        """
        if "model" in self.net:
            return self._quantized(trained, images)
        network, levels = self.network(), self.quantization.levels
        made = trained if levels is None else quantize(trained, images, levels=levels)
        network.load_state_dict(made.state_dict())
        return network

    def _quantized(self, model: nn.Module, images: torch.Tensor) -> nn.Module:
        k, levels = self.quantization.k, self.quantization.levels
        made = quantize(model, images, levels=levels or 1)
        if k is None:
            return made
        for path, module in [*made.named_modules()]:
            if isinstance(module, QuantReLU):
                made.set_submodule(path, QuantReLU(k=k))
            elif isinstance(module, QuantIdentity):
                unbounded = QuantIdentity(step=2.0**-k, low=None, high=None)
                made.set_submodule(path, unbounded.requires_grad_(False))
        return made


@dataclass(frozen=True)
class Simulation:
    """How a test set is simulated.

    Attributes:
        timesteps: T, or ``until_silent``.
        timesteps_cap: with ``until_silent``, never more steps than this.
        batch_size: images that share one run of lines in the four log files.
        engine: ``auto`` or the name of one; the numbers are the same.
    """

    timesteps: int | str
    timesteps_cap: int
    batch_size: int
    engine: str = "auto"


@dataclass(frozen=True)
class Hardware:
    """What a job computes on.

    Attributes:
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: CPU threads.
    """

    device: str
    threads: int
