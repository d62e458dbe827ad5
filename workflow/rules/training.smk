# In:  data/{dataset}.npz
# Out: {results}/{net}/seed{seed}/{precision}/phase{p}.pt, weights after phase p, with phase{p}.csv, its history;
#      .../ann.json, test accuracy and how it was made, with history.csv, every epoch of all phases


def previous_phase(wildcards):
    """The weights a phase starts from; none for the first."""
    phase = int(wildcards.phase)
    return [f"{RESULTS}/{{net}}/seed{{seed}}/{{precision}}/phase{phase - 1}.pt"] if phase > 1 else []


def phase_settings(wildcards):
    """What this phase does, as a parameter."""
    phases = definition(wildcards).phases
    if int(wildcards.phase) > len(phases):
        raise WorkflowError(f"net '{wildcards.net}' has {len(phases)} phases, phase{wildcards.phase}.pt is none of them")
    return vars(phases[int(wildcards.phase) - 1])


def all_phases(suffix):
    """Paths of a net's phases, first to last."""
    return lambda wildcards: [
        f"{RESULTS}/{{net}}/seed{{seed}}/{{precision}}/phase{phase.number}{suffix}"
        for phase in definition(wildcards).phases
    ]


def trained_weight_bits(wildcards):
    """Full precision does not depend on the width of the integer weights."""
    return None if wildcards.precision == "fp32" else EXPERIMENT.weight_bits


rule train_phase:
    input:
        images=dataset_images,
        previous=previous_phase,
        code=modules("training", "augmentation", "network", "quantization", "topology"),
    output:
        weights=f"{RESULTS}/{{net}}/seed{{seed}}/{{precision}}/phase{{phase}}.pt",
        history=f"{RESULTS}/{{net}}/seed{{seed}}/{{precision}}/phase{{phase}}.csv",
    params:
        net=net_science,
        phase=phase_settings,
        weight_bits=trained_weight_bits,
    log:
        f"{RESULTS}/logs/{{net}}/seed{{seed}}/{{precision}}/phase{{phase}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{net}}/seed{{seed}}/{{precision}}/phase{{phase}}.tsv"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=24 * 60,
        gpu=GPUS,
    conda:
        "../../envs/environment.yaml"
    script:
        "../scripts/train_phase.py"


rule summarize_training:
    input:
        weights=all_phases(".pt"),
        histories=all_phases(".csv"),
    output:
        ann=f"{RESULTS}/{{net}}/seed{{seed}}/{{precision}}/ann.json",
        history=f"{RESULTS}/{{net}}/seed{{seed}}/{{precision}}/history.csv",
    params:
        net=net_science,
        weight_bits=trained_weight_bits,
    log:
        f"{RESULTS}/logs/{{net}}/seed{{seed}}/{{precision}}/ann.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{net}}/seed{{seed}}/{{precision}}/ann.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    conda:
        "../../envs/environment.yaml"
    script:
        "../scripts/summarize_training.py"
