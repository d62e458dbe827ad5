"""Convert a quantised network into an integer spiking network."""

from pathlib import Path

from negspike.console import rule_log
from negspike.stages.convert import convert
from negspike.stages.run import Run

with rule_log(snakemake.log[0]) as report:
    params, wildcards = snakemake.params, snakemake.wildcards
    convert(
        Run(wildcards.net, params.net, int(wildcards.seed), wildcards.quantized, params.weight_bits),
        weights=Path(snakemake.input.weights),
        output=Path(snakemake.output.spiking),
        report=report,
        threshold_bits=params.get("threshold_bits"),
    )
