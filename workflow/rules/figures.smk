# In:  {results}/{net}/seed{seed}/{quantized}/: the four logs and evaluation.json; {results}/{net}/seed{seed}/fp32/ann.json
# Out: {results}/figs/{accuracy_speed,sparsity,sops}.{pdf,svg,png,csv}, the CSV holds the numbers that are drawn;
#      {results}/table.csv, one line a network, and {results}/summary.md, the same for people, shown at the end of a run


rule accuracy_speed:
    input:
        **figure_inputs(),
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


rule table:
    input:
        **figure_inputs(),
    output:
        table=in_report(f"{RESULTS}/table.csv", "Table", "table"),
        summary=f"{RESULTS}/summary.md",
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
    script:
        "../scripts/write_table.py"
