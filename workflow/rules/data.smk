# In:  the URLs and folders under 'datasets' in the config
# Out: data/{dataset}/{file}.gz, the archives as downloaded; data/{dataset}.npz, their images and labels as arrays


rule download:
    output:
        archive=f"{DATA}/{{dataset}}/{{file}}.gz",
    log:
        f"{DATA}/logs/download/{{dataset}}/{{file}}.log",
    benchmark:
        f"{DATA}/benchmarks/download/{{dataset}}/{{file}}.tsv"
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=60,
    params:
        # not the URL, nor the code: a file with this checksum is this file, however it came here
        sha256=lambda wildcards: EXPERIMENT.sources[wildcards.dataset][wildcards.file].sha256,
    script:
        "../scripts/download.py"


rule prepare_dataset:
    input:
        archives=lambda wildcards: [
            f"{DATA}/{wildcards.dataset}/{file}.gz" for file in EXPERIMENT.sources[wildcards.dataset]
        ],
    output:
        images=f"{DATA}/{{dataset}}.npz",
    log:
        f"{DATA}/logs/prepare/{{dataset}}.log",
    benchmark:
        f"{DATA}/benchmarks/prepare/{{dataset}}.tsv"
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=code("prepare_dataset.py"),
        dataset=lambda wildcards: dataset_science(EXPERIMENT.specs[wildcards.dataset]),
        folder=folder_listing,
    script:
        "../scripts/prepare_dataset.py"
