"""Train one phase of one network."""

from pathlib import Path

from negspike.console import rule_log
from negspike.stages.run import Hardware, Run
from negspike.stages.train import train
from negspike.training.schedule import Phase

with rule_log(snakemake.log[0]) as report:
    params, wildcards = snakemake.params, snakemake.wildcards
    train(
        Run(wildcards.net, params.net, int(wildcards.seed), wildcards.precision, params.weight_bits),
        Phase(**params.phase),
        dataset=Path(snakemake.input.images),
        previous=Path(snakemake.input.previous[0]) if snakemake.input.previous else None,
        output=Path(snakemake.output.weights),
        history=Path(snakemake.output.history),
        hardware=Hardware(snakemake.config["device"], snakemake.threads),
        report=report,
    )
