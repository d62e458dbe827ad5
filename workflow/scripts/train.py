"""Train one network, all phases."""

from pathlib import Path

from negspike.console import rule_log
from negspike.stages.run import Hardware, Run
from negspike.stages.train import train
from negspike.training.schedule import Phase

with rule_log(snakemake.log[0]) as report:
    params, wildcards, source = snakemake.params, snakemake.wildcards, snakemake.input.source
    train(
        Run(wildcards.net, params.net, int(wildcards.seed), wildcards.precision, params.weight_bits),
        [Phase(**phase) for phase in params.phases],
        source=Path(source[0]) if source else None,
        reconstruction_steps=params.reconstruction,
        dataset=Path(snakemake.input.images),
        folder=Path(snakemake.output.weights).parent,
        hardware=Hardware(snakemake.config["device"], snakemake.threads),
        report=report,
    )
