"""Download one file of a dataset."""

from pathlib import Path

from negspike.config import Source
from negspike.console import rule_log
from negspike.download import download

with rule_log(snakemake.log[0]) as report:
    entry = snakemake.config["datasets"][snakemake.wildcards.dataset][snakemake.wildcards.file]
    download(Source(entry["url"], entry["sha256"], entry.get("size")), Path(snakemake.output.archive), report)
