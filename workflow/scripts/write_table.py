"""Write one line a simulated network: what it reaches, when, and what it costs."""

from itertools import product

from negspike.console import rule_log
from negspike.figures import collect
from negspike.metrics import write_table

with rule_log(snakemake.log[0]):
    runs = product(snakemake.config["nets"], snakemake.config["seeds"], snakemake.config["quantization_levels"])
    write_table(collect(snakemake.config["results"], runs).curves, snakemake.output.table)
