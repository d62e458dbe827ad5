"""Write one line a simulated network: what it reaches, when, and what it costs."""

from pathlib import Path

from negspike.console import rule_log
from negspike.metrics import write_table
from negspike.results import collect

with rule_log(snakemake.log[0]):
    table = Path(snakemake.output.table)  # {results}/table.csv
    write_table(collect(table.parent, snakemake.params.runs).curves, table)
