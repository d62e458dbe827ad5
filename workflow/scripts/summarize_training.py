"""Write how good a trained network is, and how it was made."""

from pathlib import Path

from negspike.console import rule_log
from negspike.stages.summarize_training import summarize_training

with rule_log(snakemake.log[0]):
    summarize_training(
        net=snakemake.params.net,
        precision=snakemake.wildcards.precision,
        weight_bits=snakemake.params.weight_bits,
        weights=[Path(path) for path in snakemake.input.weights],
        histories=[Path(path) for path in snakemake.input.histories],
        output=Path(snakemake.output.ann),
        history=Path(snakemake.output.history),
    )
