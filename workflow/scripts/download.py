"""Download one file of a dataset."""

from pathlib import Path

from negspike.console import rule_log
from negspike.data.download import download
from negspike.data.registry import Source

with rule_log(snakemake.log[0]) as report:
    entry = snakemake.config["datasets"][snakemake.wildcards.dataset][snakemake.wildcards.file]
    download(Source(entry["url"], entry["sha256"], entry.get("size")), Path(snakemake.output.archive), report)
