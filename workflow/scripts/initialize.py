"""Write the weights that a training starts from."""

from pathlib import Path

from negspike.console import rule_log
from negspike.stages.initialize import initialize
from negspike.stages.run import Hardware, Run

with rule_log(snakemake.log[0]) as report:
    params, wildcards = snakemake.params, snakemake.wildcards
    initialize(
        Run(wildcards.net, params.net, int(wildcards.seed), wildcards.precision, params.weight_bits),
        source=Path(snakemake.input.source),
        dataset=Path(snakemake.input.images),
        output=Path(snakemake.output.weights),
        history=Path(snakemake.output.history),
        hardware=Hardware(snakemake.config["device"], snakemake.threads),
        report=report,
    )
