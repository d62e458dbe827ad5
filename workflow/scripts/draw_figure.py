"""Draw the figure that the output is named after."""

from pathlib import Path

from negspike.console import rule_log
from negspike.figures import draw, read

with rule_log(snakemake.log[0]) as report:
    # {results}/figs/{kind}.csv; not the config's folder, which a module may have moved
    output = Path(snakemake.output.csv)
    params, published = snakemake.params, snakemake.params.get("published")
    data = read(output.stem, output.parents[1], params.runs, published and published["name"])
    draw(output.stem, data, dict(snakemake.output.items()), style=params.style)
    report(f"{len(params.runs)} networks drawn")
