"""Let a spiking network watch test images that move."""

from pathlib import Path

from negspike.console import rule_log
from negspike.stages.run import Hardware
from negspike.stages.stream import stream_images

with rule_log(snakemake.log[0]) as report:
    stream_images(
        snakemake.wildcards.quantized,
        snakemake.params.net,
        spiking=Path(snakemake.input.spiking),
        images=Path(snakemake.input.images),
        output=Path(snakemake.output.table),
        hardware=Hardware("cpu", snakemake.threads),
        report=report,
    )
