# The checked configuration, the wildcards' constraints and what several stages share.
import os
import shutil
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# The package beside this workflow is the one that is used, here and in every job, whatever environment the job has.
PACKAGE = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).resolve().parents[1] / "src"
sys.path.insert(0, str(PACKAGE))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH")]))

from negspike.config import resolve_config
from negspike.errors import InputError

try:
    EXPERIMENT = resolve_config(config, workflow.source_path("../schemas/config.schema.yaml"))
except InputError as error:
    raise WorkflowError(str(error)) from None

RESULTS = EXPERIMENT.results
DATA = EXPERIMENT.data
PRECISIONS = ["fp32", *(f"k{k}" for k in EXPERIMENT.k)]
# "auto" takes a GPU where there is one; the profile says how many this machine or cluster has to give.
GPUS = int(EXPERIMENT.device == "cuda" or (EXPERIMENT.device == "auto" and shutil.which("nvidia-smi") is not None))


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
    return [os.path.relpath(PACKAGE / "negspike" / f"{name}.py") for name in names]
