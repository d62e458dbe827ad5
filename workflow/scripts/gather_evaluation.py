"""Put the parts of an evaluation together and check that nothing was lost."""

from pathlib import Path

from negspike.console import rule_log
from negspike.stages.evaluate import gather_shards
from negspike.stages.run import Run, Simulation

with rule_log(snakemake.log[0]) as report:
    params, wildcards = snakemake.params, snakemake.wildcards
    gather_shards(
        Run(wildcards.net, params.net, int(wildcards.seed), wildcards.quantized, params.weight_bits),
        Simulation(params.timesteps, params.timesteps_cap, params.batch_size),
        shards=[Path(path) for path in snakemake.input.shards],
        spiking=Path(snakemake.input.spiking),
        directory=Path(snakemake.output.summary).parent,
        report=report,
    )
