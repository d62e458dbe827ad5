"""Train one phase of one network."""

from pathlib import Path

from negspike.console import rule_log
from negspike.stages.train import train
from negspike.training.schedule import Phase

with rule_log(snakemake.log[0]) as report:
    train(
        net=snakemake.params.net,
        precision=snakemake.wildcards.precision,
        weight_bits=snakemake.params.weight_bits,
        phase=Phase(**snakemake.params.phase),
        seed=int(snakemake.wildcards.seed),
        dataset_path=Path(snakemake.input.images),
        previous=Path(snakemake.input.previous[0]) if snakemake.input.previous else None,
        output=Path(snakemake.output.weights),
        history=Path(snakemake.output.history),
        device_name=snakemake.config["device"],
        threads=snakemake.threads,
        report=report,
    )
