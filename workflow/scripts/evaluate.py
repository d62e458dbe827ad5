"""Simulate the spiking network over the test set and check that nothing was lost."""

from pathlib import Path

from negspike.console import rule_log
from negspike.stages.evaluate import evaluate_spiking

with rule_log(snakemake.log[0]) as report:
    evaluate_spiking(
        name=snakemake.wildcards.net,
        net=snakemake.params.net,
        k=int(snakemake.wildcards.k),
        seed=int(snakemake.wildcards.seed),
        timesteps=snakemake.params.timesteps,
        timesteps_cap=snakemake.params.timesteps_cap,
        batch_size=snakemake.params.batch_size,
        spiking=Path(snakemake.input.spiking),
        weights=Path(snakemake.input.weights),
        dataset_path=Path(snakemake.input.images),
        directory=Path(snakemake.output.summary).parent,
        engine=snakemake.config["evaluation"]["engine"],
        device_name=snakemake.config["device"],
        threads=snakemake.threads,
        report=report,
    )
