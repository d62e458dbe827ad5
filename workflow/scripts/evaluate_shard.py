"""Simulate the spiking network over a part of the test set."""

from pathlib import Path

from negspike.console import rule_log
from negspike.stages.evaluate import Inputs, evaluate_shard
from negspike.stages.run import Hardware, Run, Simulation

with rule_log(snakemake.log[0]) as report:
    params, wildcards = snakemake.params, snakemake.wildcards
    number, _, shards = wildcards.scatteritem.partition("-of-")
    evaluate_shard(
        Run(wildcards.net, params.net, int(wildcards.seed), wildcards.quantized, params.weight_bits),
        Simulation(params.timesteps, params.timesteps_cap, 1, snakemake.config["evaluation"]["engine"]),
        shard=(int(number), int(shards)),
        inputs=Inputs(*(Path(snakemake.input[name]) for name in ("spiking", "weights", "images"))),
        output=Path(snakemake.output.shard),
        hardware=Hardware(snakemake.config["device"], snakemake.threads),
        report=report,
    )
