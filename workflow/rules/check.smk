# In:  the configuration and what is there already; nothing is required and nothing is changed
# Out: on the terminal and in logs/check.log: jobs still to do, and what they would cost in time, disk and memory
localrules:
    check,


def plain(resource):
    """A resource as a number; None where there is none, or where only a job can say."""
    try:
        value = getattr(resource, "value", resource)
    except ValueError:
        value = None
    return value if isinstance(value, int) else None


def reserved(name):
    """What a job of each rule reserves of a resource."""
    return {rule.name: plain(rule.resources.get(name)) or 0 for rule in workflow.rules}


def allowed(name):
    """The limit of a resource on the command line or in a profile, or None."""
    return plain(workflow.global_resources.get(name))


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
        schema=str(PACKAGE.parent / "workflow" / "schemas" / "config.schema.yaml"),
        triggers=lambda wildcards: sorted(str(trigger) for trigger in workflow.rerun_triggers),
        patterns=lambda wildcards: {rule.name: str(rule.output[0]) for rule in workflow.rules if rule.output},
        threads=lambda wildcards: reserved("_cores"),
        gpus=lambda wildcards: reserved("gpu"),
        memory_mb=lambda wildcards: reserved("mem_mb"),
        limits=lambda wildcards: {name: allowed(name) for name in ("_cores", "gpu", "mem_mb")},
    script:
        "../scripts/check.py"
