"""Write one line a simulated network: what it reaches, when, and what it costs."""

from pathlib import Path

from negspike.console import rule_log
from negspike.results.collect import collect
from negspike.results.metrics import write_table
from negspike.results.summary import write_summary

with rule_log(snakemake.log[0]):
    # {results}/{net}/seed{seed}/{quantized}/accuracy.txt; not the config's folder, which a module may have moved
    folder = Path(snakemake.input.accuracy[0]).parents[3]
    results = collect(folder, snakemake.params.runs)
    write_table(results.curves, snakemake.output.table)
    evaluations = [Path(path) for path in snakemake.input.evaluations]
    published = snakemake.params.published and snakemake.params.published["name"]
    write_summary(results, evaluations, f"{folder}/figs/", Path(snakemake.output.summary), published)
