"""Turn a dataset's archives into arrays."""

from pathlib import Path

from negspike.console import rule_log
from negspike.stages.prepare_dataset import prepare_dataset

with rule_log(snakemake.log[0]) as report:
    archives = {Path(path).stem: Path(path) for path in snakemake.input.archives}
    prepare_dataset(snakemake.wildcards.dataset, archives, Path(snakemake.output.images), report)
