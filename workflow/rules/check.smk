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
    # more than any machine has: Snakemake gives it what --cores says, which is what it wants to know
    threads: 10000
    params:
        # the interpreter that has Snakemake, whatever environment the script runs in
        python=sys.executable,
        snakefile=str(PACKAGE.parent / "Snakefile"),
        reserved=RESERVED,
    script:
        "../scripts/check.py"
