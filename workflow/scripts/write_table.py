"""Write one line a simulated network: what it reaches, when, and what it costs."""

from itertools import product

from negspike.console import rule_log
from negspike.metrics import write_table
from negspike.results import collect

with rule_log(snakemake.log[0]):
    runs = product(snakemake.config["nets"], snakemake.config["seeds"], snakemake.config["quantization_levels"])
    write_table(collect(snakemake.config["results"], runs).curves, snakemake.output.table)
