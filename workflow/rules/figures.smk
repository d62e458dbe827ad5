# In:  {results}/{net}/seed{seed}/{quantized}/: the four logs, evaluation.json, evaluation.npz, layer_steps.csv,
#      spiking.npz, trace.npz and stream.csv;
#      {results}/{net}/seed{seed}/{precision}/history.csv; {results}/{net}/seed{seed}/fp32/ann.json
# Out: {results}/figs/{accuracy_speed,sparsity,sops,tradeoff,lossless,firing,raster,neuron,streaming,training}.{pdf,svg,png,csv},
#      the CSV holds the numbers that are drawn;
#      {results}/table.csv, one line a network, and {results}/summary.md, the same for people, shown at the end of a run;
#      {results}/summary.csv, each number's mean, deviation and range over the seeds


rule accuracy_speed:
    input:
        **curve_inputs(),
    output:
        **figure_outputs("accuracy_speed"),
    log:
        f"{RESULTS}/logs/figs/accuracy_speed.log",
    benchmark:
        f"{RESULTS}/benchmarks/figs/accuracy_speed.tsv"
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=figure_code("accuracy_speed"),
        runs=RUNS,
        published=PUBLISHED,
        style=EXPERIMENT.style,
    script:
        "../scripts/draw_figure.py"


use rule accuracy_speed as sparsity with:
    output:
        **figure_outputs("sparsity"),
    log:
        f"{RESULTS}/logs/figs/sparsity.log",
    benchmark:
        f"{RESULTS}/benchmarks/figs/sparsity.tsv"
    localrule: True
    params:
        code=figure_code("sparsity"),
        runs=RUNS,
        published=PUBLISHED,
        style=EXPERIMENT.style,


use rule accuracy_speed as sops with:
    output:
        **figure_outputs("sops"),
    log:
        f"{RESULTS}/logs/figs/sops.log",
    benchmark:
        f"{RESULTS}/benchmarks/figs/sops.tsv"
    localrule: True
    params:
        code=figure_code("sops"),
        runs=RUNS,
        published=PUBLISHED,
        style=EXPERIMENT.style,


rule lossless:
    input:
        **spike_inputs(),
    output:
        **figure_outputs("lossless"),
    log:
        f"{RESULTS}/logs/figs/lossless.log",
    benchmark:
        f"{RESULTS}/benchmarks/figs/lossless.tsv"
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=figure_code("lossless"),
        runs=RUNS,
        style=EXPERIMENT.style,
    script:
        "../scripts/draw_figure.py"


use rule lossless as tradeoff with:
    input:
        **curve_inputs(),
        layer_steps=simulations("layer_steps.csv"),
        spiking=simulations("spiking.npz"),
    output:
        **figure_outputs("tradeoff"),
    log:
        f"{RESULTS}/logs/figs/tradeoff.log",
    benchmark:
        f"{RESULTS}/benchmarks/figs/tradeoff.tsv"
    localrule: True
    params:
        code=figure_code("tradeoff"),
        runs=RUNS,
        published=PUBLISHED,
        style=EXPERIMENT.style,


use rule lossless as firing with:
    output:
        **figure_outputs("firing"),
    log:
        f"{RESULTS}/logs/figs/firing.log",
    benchmark:
        f"{RESULTS}/benchmarks/figs/firing.tsv"
    localrule: True
    params:
        code=figure_code("firing"),
        runs=RUNS,
        style=EXPERIMENT.style,


use rule lossless as raster with:
    input:
        traces=[f"{RESULTS}/{net}/seed{seed}/{precision}/trace.npz" for net, seed, precision in TRACED],
    output:
        **figure_outputs("raster"),
    log:
        f"{RESULTS}/logs/figs/raster.log",
    benchmark:
        f"{RESULTS}/benchmarks/figs/raster.tsv"
    localrule: True
    params:
        code=figure_code("raster"),
        runs=TRACED,
        style=EXPERIMENT.style,


use rule lossless as neuron with:
    input:
        traces=[f"{RESULTS}/{net}/seed{seed}/{precision}/trace.npz" for net, seed, precision in TRACED],
    output:
        **figure_outputs("neuron"),
    log:
        f"{RESULTS}/logs/figs/neuron.log",
    benchmark:
        f"{RESULTS}/benchmarks/figs/neuron.tsv"
    localrule: True
    params:
        code=figure_code("neuron"),
        runs=TRACED,
        style=EXPERIMENT.style,


# not part of everything: ask for it
use rule lossless as streaming with:
    input:
        tables=[f"{RESULTS}/{net}/seed{seed}/{precision}/stream.csv" for net, seed, precision in TRACED],
    output:
        **figure_outputs("streaming"),
    log:
        f"{RESULTS}/logs/figs/streaming.log",
    benchmark:
        f"{RESULTS}/benchmarks/figs/streaming.tsv"
    localrule: True
    params:
        code=figure_code("streaming"),
        runs=TRACED,
        style=EXPERIMENT.style,


use rule lossless as training with:
    input:
        histories=[f"{RESULTS}/{net}/seed{seed}/{precision}/history.csv" for net, seed, precision in TRAININGS],
    output:
        **figure_outputs("training"),
    log:
        f"{RESULTS}/logs/figs/training.log",
    benchmark:
        f"{RESULTS}/benchmarks/figs/training.tsv"
    localrule: True
    params:
        code=figure_code("training"),
        runs=TRAININGS,
        style=EXPERIMENT.style,


rule table:
    input:
        **curve_inputs(),
        trainings=[f"{RESULTS}/{net}/seed{seed}/{precision}/ann.json" for net, seed, precision in TRAININGS],
    output:
        table=in_report(f"{RESULTS}/table.csv", "Table", "table"),
        summary=f"{RESULTS}/summary.md",
        statistics=f"{RESULTS}/summary.csv",
    log:
        f"{RESULTS}/logs/table.log",
    benchmark:
        f"{RESULTS}/benchmarks/table.tsv"
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code("write_table.py"),
        runs=RUNS,
        published=PUBLISHED,
    script:
        "../scripts/write_table.py"
