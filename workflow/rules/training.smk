# In:  data/{dataset}.npz; weights of a trained net, if the configuration names some
# Out: {results}/{net}/seed{seed}/{precision}/weights.pt, weights after the last phase;
#      .../ann.json, test accuracy and how it was made, with history.csv, every epoch of all phases;
#      .../.phase{p}.checkpoint, which no rule knows: what a later run goes on from. Phase 0, where there is one, is what
#      training starts from: the FP32 net quantised, or weights from elsewhere


rule train:
    input:
        images=dataset_images,
        source=start_weights,
    output:
        weights=f"{RESULTS}/{{net}}/seed{{seed}}/{{precision}}/weights.pt",
        ann=f"{RESULTS}/{{net}}/seed{{seed}}/{{precision}}/ann.json",
        history=f"{RESULTS}/{{net}}/seed{{seed}}/{{precision}}/history.csv",
    log:
        f"{RESULTS}/logs/{{net}}/seed{{seed}}/{{precision}}/train.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{net}}/seed{{seed}}/{{precision}}/train.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: RESERVED["train"]["threads"]
    resources:
        **GPU,
        mem_mb=growing(RESERVED["train"]["mem_mb"]),
        runtime=growing(12 * 60),
    params:
        code=code("train.py"),
        net=net_science,
        phases=training_phases,
        reconstruction=reconstruction_steps,
        weight_bits=weight_bits,
    script:
        "../scripts/train.py"
