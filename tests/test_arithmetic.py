"""What a process that trains has set for itself."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PAGES = """
import resource, torch
from negspike.arithmetic import prepare_training
prepare_training(1)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.empty(1 << 24).zero_()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc, whose settings these are")
def test_memory_that_a_training_frees_is_used_again_without_new_pages() -> None:
    """Ten tensors of 64 MB one after the other are 160,000 pages of 4 kB where each is mapped anew."""
    run = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 100


def test_float32_is_float32() -> None:
    """On CUDA too, where PyTorch's own choice for convolutions is TF32; and tracing takes the setting."""
    code = (
        "import torch, negspike; from negspike.arithmetic import keep_float32; keep_float32();"
        "assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32;"
        "model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 2), negspike.QuantReLU(k=1), torch.nn.Flatten(), "
        "torch.nn.Linear(2, 2)).eval();"
        "network = negspike.convert(model, torch.zeros(1, 1, 2, 2));"
        "assert negspike.verify(network, torch.ones(3, 1, 2, 2), model).lossless;"
        "assert not torch.backends.cudnn.allow_tf32"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
