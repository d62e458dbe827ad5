# In:  the configuration and what is there already; nothing is required and nothing is changed
# Out: on the terminal and in logs/check.log: jobs still to do, and what they would cost in time, disk and memory
localrules:
    check,


# No output: it runs whenever it is asked for, and nothing else depends on it.
rule check:
    log:
        "logs/check.log",
    conda:
        "../../envs/environment.yaml"
    threads: 1
    params:
        # the interpreter that has Snakemake, whatever environment the script runs in
        python=sys.executable,
        snakefile=workflow.main_snakefile,
        triggers=lambda wildcards: sorted(str(trigger) for trigger in workflow.rerun_triggers),
        patterns=lambda wildcards: {rule.name: str(rule.output[0]) for rule in workflow.rules if rule.output},
        threads=lambda wildcards: reserved("_cores"),
        gpus=lambda wildcards: reserved("gpu"),
        memory_mb=lambda wildcards: reserved("mem_mb"),
        limits=lambda wildcards: {name: allowed(name) for name in ("_cores", "gpu", "mem_mb")},
    script:
        "../scripts/check.py"
