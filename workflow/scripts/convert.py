"""Convert a quantised network into an integer spiking network."""

from pathlib import Path

from negspike.console import rule_log
from negspike.stages.convert import convert

with rule_log(snakemake.log[0]) as report:
    convert(
        name=snakemake.wildcards.net,
        net=snakemake.params.net,
        k=int(snakemake.wildcards.k),
        weight_bits=snakemake.params.weight_bits,
        seed=int(snakemake.wildcards.seed),
        weights=Path(snakemake.input.weights),
        output=Path(snakemake.output.spiking),
        report=report,
    )
