"""Draw the figure that the rule is named after."""

from itertools import product
from pathlib import Path

from negspike.console import rule_log
from negspike.figures import draw
from negspike.results import collect

with rule_log(snakemake.log[0]) as report:
    # not the config's: where results are kept in a bucket, copies of them are read
    folder = Path(snakemake.input.accuracy[0]).parents[3]
    runs = product(snakemake.config["nets"], snakemake.config["seeds"], snakemake.config["quantization_levels"])
    results = collect(folder, runs)
    draw(snakemake.rule, results.curves, results.fp32, dict(snakemake.output.items()))
    report(f"{len(results.curves)} simulated networks drawn")
