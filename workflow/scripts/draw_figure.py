"""Draw the figure that the rule is named after."""

from pathlib import Path

from negspike.console import rule_log
from negspike.figures import draw
from negspike.results import collect

with rule_log(snakemake.log[0]) as report:
    csv = Path(snakemake.output.csv)  # {results}/figs/{figure}.csv
    results = collect(csv.parents[1], snakemake.params.runs)
    draw(csv.stem, results.curves, results.fp32, dict(snakemake.output.items()))
    report(f"{len(results.curves)} simulated networks drawn")
