# The checked configuration, the wildcards' constraints and what several stages share.
import os
import shutil
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# The package beside this workflow is the one that is used, here and in every job, whatever environment the job has.
PACKAGE = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).resolve().parents[1] / "src"
sys.path.insert(0, str(PACKAGE))
os.environ |= {"PYTHONPATH": os.pathsep.join(filter(None, [str(PACKAGE), os.getenv("PYTHONPATH")]))}

from negspike.config import resolve_config
from negspike.errors import InputError

try:
    EXPERIMENT = resolve_config(config, workflow.source_path("../schemas/config.schema.yaml"))
except InputError as error:
    raise WorkflowError(str(error)) from None

RESULTS = EXPERIMENT.results
DATA = EXPERIMENT.data
PRECISIONS = ["fp32", *(f"k{k}" for k in EXPERIMENT.k)]
# "auto" takes a GPU where there is one; the profile says how many this machine or cluster has to give. Without one the
# resource is absent: some executors take gpu=0 for a request.
NEEDS_GPU = EXPERIMENT.device == "cuda" or (EXPERIMENT.device == "auto" and shutil.which("nvidia-smi") is not None)
GPU = {"gpu": 1} if NEEDS_GPU else {}


wildcard_constraints:
    dataset="|".join(EXPERIMENT.sources),
    file="[a-z_]+",
    net="|".join(EXPERIMENT.definitions),
    seed=r"\d+",
    precision=r"fp32|k\d",
    k=r"\d",
    phase=r"[1-9]\d*",


def definition(wildcards):
    """The definition of the net that a job is about."""
    return EXPERIMENT.definitions[wildcards.net]


def net_science(wildcards):
    """What the net is, as a parameter: only what decides its numbers."""
    return definition(wildcards).science()


def dataset_images(wildcards):
    """The prepared images of the net's dataset."""
    return f"{DATA}/{definition(wildcards).dataset}.npz"


def modules(*names):
    """Package modules whose change must redo a rule's result; Snakemake itself sees only the script."""
    # Snakemake would look for them in a bucket, and anything marked local() would keep the job from leaving this machine.
    if workflow.storage_settings.default_storage_provider is not None:
        return []
    return [os.path.relpath(PACKAGE / "negspike" / f"{name}.py") for name in names]


def growing(amount):
    """A resource that grows with every attempt: a cluster ends a job that runs out of what it asked for."""
    return lambda wildcards, attempt: amount * attempt


def previous_phase(wildcards):
    """The weights a phase starts from; none for the first."""
    phase = int(wildcards.phase)
    return [f"{RESULTS}/{{net}}/seed{{seed}}/{{precision}}/phase{phase - 1}.pt"] if phase > 1 else []


def phase_settings(wildcards):
    """What this phase does, as a parameter."""
    phases = definition(wildcards).phases
    if int(wildcards.phase) > len(phases):
        raise WorkflowError(
            f"net '{wildcards.net}' has {len(phases)} phases, phase{wildcards.phase}.pt is none of them"
        )
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


def final_weights(wildcards):
    """The quantised network's weights after its last phase."""
    return f"{RESULTS}/{{net}}/seed{{seed}}/k{{k}}/phase{len(definition(wildcards).phases)}.pt"


def simulations(file):
    """One file of every simulated network of the configuration."""
    return expand(
        "{results}/{net}/seed{seed}/k{k}/{file}",
        results=RESULTS,
        net=EXPERIMENT.nets,
        seed=EXPERIMENT.seeds,
        k=EXPERIMENT.k,
        file=file,
    )


def figure_inputs():
    """What each figure is drawn from: a few small tables."""
    return {
        "accuracy": simulations("accuracy.txt"),
        "spike_num": simulations("spike_num.txt"),
        "spike_collect": simulations("spike_collect.txt"),
        "sop_num": simulations("sop_num.txt"),
        "evaluations": simulations("evaluation.json"),
        "fp32": expand(
            "{results}/{net}/seed{seed}/fp32/ann.json", results=RESULTS, net=EXPERIMENT.nets, seed=EXPERIMENT.seeds
        ),
        "code": modules("figures", "logs", "metrics", "results"),
    }


def figure_outputs(name):
    """One figure in every format, and its numbers."""
    return {suffix: f"{RESULTS}/figs/{name}.{suffix}" for suffix in ("pdf", "svg", "png", "csv")}
