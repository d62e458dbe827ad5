# From a topology string to figures: accuracy versus speed, firing sparsity, computing operations, the lossless check.
#
#   snakemake --cores 4 results/figs/sops.pdf                      the published experiment (config.yaml)
#   snakemake --cores 2 --configfile presets/digits.yaml           a preset laid over it
#   snakemake --cores 4 results/cnn1/seed0/k1/accuracy.txt         one net, one k
#   snakemake --cores 4 -f results/cnn1/seed0/k1/evaluation.json   redo one result
from snakemake.utils import min_version

min_version("9.0")


# beside this file, whatever folder the results go to (--directory)
configfile: workflow.current_basedir.join("config.yaml").get_path_or_uri(secret_free=True)


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/check.smk"


# Rules of a few seconds, and downloads, have localrule: True. Where jobs go to a cluster they stay where Snakemake runs:
# they would wait in the queue for longer than they take, and a cluster's nodes often have no internet.
rule all:
    default_target: True
    input:
        rules.accuracy_speed.output,
        rules.sparsity.output,
        rules.sops.output,
        rules.tradeoff.output,
        rules.lossless.output,
        rules.firing.output,
        rules.raster.output,
        rules.neuron.output,
        rules.training.output,
        rules.table.output,
        [f"{RESULTS}/{net}/seed{seed}/{precision}/ann.json" for net, seed, precision in TRAININGS],
    localrule: True


# behind everything that a target can name
include: "workflow/rules/messages.smk"
