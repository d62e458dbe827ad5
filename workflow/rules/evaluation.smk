# In:  weights after a net's last phase, data/{dataset}.npz
# Out: {results}/{net}/seed{seed}/{quantized}/spiking.npz, the integer spiking network;
#      .../{accuracy,sop_num,spike_collect,spike_num}.txt, the four logs, with evaluation.npz and evaluation.json


rule convert:
    input:
        weights=final_weights,
    output:
        spiking=f"{RESULTS}/{{net}}/seed{{seed}}/{{quantized}}/spiking.npz",
    log:
        f"{RESULTS}/logs/{{net}}/seed{{seed}}/{{quantized}}/convert.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{net}}/seed{{seed}}/{{quantized}}/convert.tsv"
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=code("convert.py"),
        net=net_science,
        weight_bits=weight_bits,
    script:
        "../scripts/convert.py"


rule evaluate:
    input:
        spiking=rules.convert.output.spiking,
        weights=final_weights,
        images=dataset_images,
    output:
        accuracy=f"{RESULTS}/{{net}}/seed{{seed}}/{{quantized}}/accuracy.txt",
        sop_num=f"{RESULTS}/{{net}}/seed{{seed}}/{{quantized}}/sop_num.txt",
        spike_collect=f"{RESULTS}/{{net}}/seed{{seed}}/{{quantized}}/spike_collect.txt",
        spike_num=f"{RESULTS}/{{net}}/seed{{seed}}/{{quantized}}/spike_num.txt",
        arrays=f"{RESULTS}/{{net}}/seed{{seed}}/{{quantized}}/evaluation.npz",
        summary=f"{RESULTS}/{{net}}/seed{{seed}}/{{quantized}}/evaluation.json",
    log:
        f"{RESULTS}/logs/{{net}}/seed{{seed}}/{{quantized}}/evaluate.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{net}}/seed{{seed}}/{{quantized}}/evaluate.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: RESERVED["evaluate"]["threads"]
    resources:
        **GPU,
        mem_mb=growing(RESERVED["evaluate"]["mem_mb"]),
        runtime=growing(12 * 60),
    params:
        code=code("evaluate.py"),
        net=net_science,
        weight_bits=weight_bits,
        timesteps=lambda wildcards: definition(wildcards).timesteps,
        timesteps_cap=timesteps_cap,
        batch_size=EXPERIMENT.batch_size,
    script:
        "../scripts/evaluate.py"
