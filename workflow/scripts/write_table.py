"""Write one line a simulated network: what it reaches, when, and what it costs."""

from itertools import product
from pathlib import Path

from negspike.console import rule_log
from negspike.metrics import write_table
from negspike.results import collect

with rule_log(snakemake.log[0]):
    # not the config's: where results are kept in a bucket, copies of them are read
    folder = Path(snakemake.input.accuracy[0]).parents[3]
    runs = product(snakemake.config["nets"], snakemake.config["seeds"], snakemake.config["quantization_levels"])
    write_table(collect(folder, runs).curves, snakemake.output.table)
