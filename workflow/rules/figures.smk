# In:  {results}/{net}/seed{seed}/{quantized}/: the four logs, evaluation.json, evaluation.npz, layer_steps.csv,
#      spiking.npz, trace.npz and stream.csv;
#      {results}/{net}/seed{seed}/{precision}/history.csv; {results}/{net}/seed{seed}/fp32/ann.json
# Out: {results}/figs/{accuracy_speed,sparsity,sops,tradeoff,lossless,firing,raster,neuron,streaming,training}.{pdf,svg,png,csv},
#      the CSV holds the numbers that are drawn;
#      {results}/table.csv, one line a network, and {results}/summary.md, the same for people, shown at the end of a run;
#      {results}/summary.csv, each number's mean, deviation and range over the seeds


TRACES = {"traces": [f"{RESULTS}/{net}/seed{seed}/{precision}/trace.npz" for net, seed, precision in TRACED]}
CURVES = curve_inputs()
# what each figure is drawn from, and of which networks; streaming is not part of everything: ask for it
FIGURES = {
    "accuracy_speed": (CURVES, RUNS),
    "sparsity": (CURVES, RUNS),
    "sops": (CURVES, RUNS),
    "tradeoff": (
        CURVES | {"layer_steps": simulations("layer_steps.csv"), "spiking": simulations("spiking.npz")},
        RUNS,
    ),
    "lossless": (spike_inputs(), RUNS),
    "firing": (spike_inputs(), RUNS),
    "raster": (TRACES, TRACED),
    "neuron": (TRACES, TRACED),
    "streaming": (
        {"tables": [f"{RESULTS}/{net}/seed{seed}/{precision}/stream.csv" for net, seed, precision in TRACED]},
        TRACED,
    ),
    "training": (
        {"histories": [f"{RESULTS}/{net}/seed{seed}/{precision}/history.csv" for net, seed, precision in TRAININGS]},
        TRAININGS,
    ),
}
for figure, (inputs, networks) in FIGURES.items():

    rule:
        name:
            figure
        input:
            **inputs,
        output:
            **figure_outputs(figure),
        log:
            f"{RESULTS}/logs/figs/{figure}.log",
        benchmark:
            f"{RESULTS}/benchmarks/figs/{figure}.tsv"
        localrule: True
        conda:
            "../../envs/environment.yaml"
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            **({"published": PUBLISHED} if inputs.keys() >= CURVES.keys() else {}),
            code=figure_code(figure),
            runs=networks,
            style=EXPERIMENT.style,
        script:
            "../scripts/draw_figure.py"


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
