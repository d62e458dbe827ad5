# In:  data/{dataset}.npz; weights of a trained net, if the configuration names some
# Out: {results}/{net}/seed{seed}/{precision}/phase{p}.pt, weights after phase p, with phase{p}.csv, its history; phase 0,
#      where there is one, is what training starts from: the FP32 net quantised, or weights from elsewhere;
#      .../ann.json, test accuracy and how it was made, with history.csv, every epoch of all phases


rule initialize:
    input:
        source=start_weights,
        images=dataset_images,
    output:
        weights=f"{RESULTS}/{{net}}/seed{{seed}}/{{precision}}/phase0.pt",
        history=f"{RESULTS}/{{net}}/seed{{seed}}/{{precision}}/phase0.csv",
    log:
        f"{RESULTS}/logs/{{net}}/seed{{seed}}/{{precision}}/phase0.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{net}}/seed{{seed}}/{{precision}}/phase0.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        **GPU,
        mem_mb=growing(RESERVED["train_phase"]["mem_mb"]),
        runtime=growing(60),
    params:
        code=code("initialize.py"),
        net=net_science,
        weight_bits=weight_bits,
    script:
        "../scripts/initialize.py"


rule train_phase:
    input:
        images=dataset_images,
        previous=previous_phase,
    output:
        weights=f"{RESULTS}/{{net}}/seed{{seed}}/{{precision}}/phase{{phase}}.pt",
        history=f"{RESULTS}/{{net}}/seed{{seed}}/{{precision}}/phase{{phase}}.csv",
    log:
        f"{RESULTS}/logs/{{net}}/seed{{seed}}/{{precision}}/phase{{phase}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{net}}/seed{{seed}}/{{precision}}/phase{{phase}}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: RESERVED["train_phase"]["threads"]
    resources:
        **GPU,
        mem_mb=growing(RESERVED["train_phase"]["mem_mb"]),
        runtime=growing(12 * 60),
    params:
        code=code("train_phase.py"),
        net=net_science,
        phase=phase_settings,
        weight_bits=weight_bits,
    script:
        "../scripts/train_phase.py"


rule summarize_training:
    input:
        weights=all_phases(".pt"),
        histories=all_phases(".csv"),
    output:
        ann=f"{RESULTS}/{{net}}/seed{{seed}}/{{precision}}/ann.json",
        history=f"{RESULTS}/{{net}}/seed{{seed}}/{{precision}}/history.csv",
    log:
        f"{RESULTS}/logs/{{net}}/seed{{seed}}/{{precision}}/ann.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{net}}/seed{{seed}}/{{precision}}/ann.tsv"
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code("summarize_training.py"),
        net=net_science,
        weight_bits=weight_bits,
    script:
        "../scripts/summarize_training.py"
