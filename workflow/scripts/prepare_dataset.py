"""Turn a dataset's archives into arrays."""

from pathlib import Path

from negspike.console import rule_log
from negspike.stages.prepare_dataset import prepare_dataset
from negspike.user_files import find_file

with rule_log(snakemake.log[0]) as report:
    archives = {Path(path).stem: Path(path) for path in snakemake.input.archives}
    if snakemake.params.folder:
        archives["archive"] = find_file(snakemake.config["datasets"][snakemake.wildcards.dataset]["folder"])
    prepare_dataset(snakemake.params.dataset, archives, Path(snakemake.output.images), report)
