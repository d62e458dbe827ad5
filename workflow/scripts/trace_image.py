"""Watch single neurons while the spiking network is shown one test image."""

from pathlib import Path

from negspike.console import rule_log
from negspike.stages.trace import trace_image

with rule_log(snakemake.log[0]) as report:
    wildcards = snakemake.wildcards
    traced = trace_image(
        (wildcards.net, int(wildcards.seed), wildcards.quantized),
        snakemake.params.net,
        timesteps=snakemake.params.timesteps,
        spiking=Path(snakemake.input.spiking),
        images=Path(snakemake.input.images),
        output=Path(snakemake.output.trace),
    )
    report(f"{len(traced.trace.neuron)} neurons watched for {traced.trace.counts.shape[1]} time steps")
