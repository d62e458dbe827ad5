"""Simulate the spiking network over the test set and check that nothing was lost."""

from pathlib import Path

from negspike.console import rule_log
from negspike.stages.evaluate import Inputs, evaluate_spiking
from negspike.stages.run import Hardware, Run, Simulation

with rule_log(snakemake.log[0]) as report:
    params, wildcards = snakemake.params, snakemake.wildcards
    evaluate_spiking(
        Run(wildcards.net, params.net, int(wildcards.seed), wildcards.quantized, params.weight_bits),
        Simulation(params.timesteps, params.timesteps_cap, params.batch_size, snakemake.config["evaluation"]["engine"]),
        inputs=Inputs(*(Path(snakemake.input[name]) for name in ("spiking", "weights", "images"))),
        directory=Path(snakemake.output.summary).parent,
        hardware=Hardware(snakemake.config["device"], snakemake.threads),
        report=report,
    )
