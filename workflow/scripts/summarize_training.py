"""Write how good a trained network is, and how it was made."""

from pathlib import Path

from negspike.console import rule_log
from negspike.stages.run import Run
from negspike.stages.summarize_training import summarize_training

with rule_log(snakemake.log[0]):
    params, wildcards = snakemake.params, snakemake.wildcards
    summarize_training(
        Run(wildcards.net, params.net, int(wildcards.seed), wildcards.precision, params.weight_bits),
        weights=[Path(path) for path in snakemake.input.weights],
        histories=[Path(path) for path in snakemake.input.histories],
        output=Path(snakemake.output.ann),
        history=Path(snakemake.output.history),
    )
