"""How a result was made: versions and machine, beside the settings and checksums that the stages add."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import torch

from negspike import __version__


def environment(device: torch.device, threads: int) -> dict[str, Any]:
    """Versions, device and threads of this process, as plain values."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "negspike": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": str(torch.__version__),  # a class of its own, which a checkpoint cannot hold
        "device": f"{device.type} ({name})",
        "threads": threads,
    }
