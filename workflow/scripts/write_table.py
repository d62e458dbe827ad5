"""Write one line a simulated network: what it reaches, when, and what it costs."""

from pathlib import Path

from negspike.console import rule_log
from negspike.results.collect import collect
from negspike.results.metrics import write_table

with rule_log(snakemake.log[0]):
    # {results}/{net}/seed{seed}/{quantized}/accuracy.txt; not the config's folder, which a module may have moved
    folder = Path(snakemake.input.accuracy[0]).parents[3]
    write_table(collect(folder, snakemake.params.runs).curves, snakemake.output.table)
