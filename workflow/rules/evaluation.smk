# In:  weights after a net's last phase, data/{dataset}.npz
# Out: {results}/{net}/seed{seed}/{quantized}/spiking.npz, the integer spiking network;
#      .../{accuracy,sop_num,spike_collect,spike_num}.txt, the four logs, with evaluation.npz and evaluation.json;
#      .../{layers,layer_steps}.csv, spikes and operations of each layer, and of each step;
#      .../trace.npz, neurons of one network of each net while it is shown the first test image;
#      .../stream.csv, operations of frames of test images that move, if asked for;
#      .../shards/{scatteritem}.npz, parts of these, until they are put together


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
        **THRESHOLD_BITS,
        code=code("convert.py"),
        net=net_science,
        weight_bits=weight_bits,
    script:
        "../scripts/convert.py"


# In one job, or scattered over many that are gathered to the same bytes.
EVALUATION = f"{RESULTS}/{{net}}/seed{{seed}}/{{quantized}}"
EVALUATED = {name: f"{EVALUATION}/{name}.txt" for name in ("accuracy", "sop_num", "spike_collect", "spike_num")}
EVALUATED |= {name: f"{EVALUATION}/{name}.csv" for name in ("layers", "layer_steps")}
EVALUATED |= {"arrays": f"{EVALUATION}/evaluation.npz", "summary": f"{EVALUATION}/evaluation.json"}
if EXPERIMENT.evaluation.shards == 1:

    rule evaluate:
        input:
            spiking=rules.convert.output.spiking,
            weights=final_weights,
            images=dataset_images,
        output:
            **EVALUATED,
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
            batch_size=EXPERIMENT.evaluation.batch_size,
        script:
            "../scripts/evaluate.py"

else:

    rule evaluate_shard:
        input:
            spiking=rules.convert.output.spiking,
            weights=final_weights,
            images=dataset_images,
        output:
            shard=temp(f"{EVALUATION}/shards/{{scatteritem}}.npz"),
        log:
            f"{RESULTS}/logs/{{net}}/seed{{seed}}/{{quantized}}/evaluate/{{scatteritem}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/{{net}}/seed{{seed}}/{{quantized}}/evaluate/{{scatteritem}}.tsv"
        conda:
            "../../envs/environment.yaml"
        threads: RESERVED["evaluate"]["threads"]
        resources:
            **GPU,
            mem_mb=growing(RESERVED["evaluate"]["mem_mb"]),
            runtime=growing(12 * 60),
        params:
            code=code("evaluate_shard.py"),
            net=net_science,
            weight_bits=weight_bits,
            timesteps=lambda wildcards: definition(wildcards).timesteps,
            timesteps_cap=timesteps_cap,
        script:
            "../scripts/evaluate_shard.py"

    rule evaluate:
        input:
            shards=gather.evaluation(
                f"{RESULTS}/{{{{net}}}}/seed{{{{seed}}}}/{{{{quantized}}}}/shards/{{scatteritem}}.npz"
            ),
            spiking=rules.convert.output.spiking,
        output:
            **EVALUATED,
        log:
            f"{RESULTS}/logs/{{net}}/seed{{seed}}/{{quantized}}/evaluate.log",
        benchmark:
            f"{RESULTS}/benchmarks/{{net}}/seed{{seed}}/{{quantized}}/evaluate.tsv"
        localrule: True
        conda:
            "../../envs/environment.yaml"
        threads: 1
        resources:
            mem_mb=growing(RESERVED["evaluate"]["mem_mb"]),
            runtime=growing(60),
        params:
            code=code("gather_evaluation.py"),
            net=net_science,
            weight_bits=weight_bits,
            timesteps=lambda wildcards: definition(wildcards).timesteps,
            timesteps_cap=timesteps_cap,
            batch_size=EXPERIMENT.evaluation.batch_size,
        script:
            "../scripts/gather_evaluation.py"


rule trace:
    input:
        spiking=rules.convert.output.spiking,
        images=dataset_images,
    output:
        trace=f"{EVALUATION}/trace.npz",
    log:
        f"{RESULTS}/logs/{{net}}/seed{{seed}}/{{quantized}}/trace.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{net}}/seed{{seed}}/{{quantized}}/trace.tsv"
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=code("trace_image.py"),
        net=net_science,
        timesteps=timesteps_cap,
    script:
        "../scripts/trace_image.py"


# only where its figure is asked for
rule stream:
    input:
        spiking=rules.convert.output.spiking,
        images=dataset_images,
    output:
        table=f"{EVALUATION}/stream.csv",
    log:
        f"{RESULTS}/logs/{{net}}/seed{{seed}}/{{quantized}}/stream.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{net}}/seed{{seed}}/{{quantized}}/stream.tsv"
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=code("stream_images.py"),
        net=net_science,
    script:
        "../scripts/stream_images.py"
