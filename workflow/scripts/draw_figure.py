"""Draw the figure that the output is named after."""

from pathlib import Path

from negspike.console import rule_log
from negspike.figures import draw
from negspike.results.collect import collect

with rule_log(snakemake.log[0]) as report:
    # {results}/{net}/seed{seed}/{quantized}/accuracy.txt; not the config's folder, which a module may have moved
    folder = Path(snakemake.input.accuracy[0]).parents[3]
    results = collect(folder, snakemake.params.runs)
    draw(Path(snakemake.output.csv).stem, results.curves, results.fp32, dict(snakemake.output.items()))
    report(f"{len(results.curves)} simulated networks drawn")
