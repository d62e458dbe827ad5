# The checked configuration, the wildcards' constraints and what several stages share.
import os
import shutil
import sys
from itertools import product
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

# The package beside this workflow is the one that is used, here and in every job, whatever environment the job has.
RULES = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).resolve()
SCRIPTS = RULES.parent / "scripts"
PACKAGE = RULES.parents[1] / "src"
CONFIG = RULES.parents[1] / "config.yaml"
sys.path.insert(0, str(PACKAGE))
os.environ |= {"PYTHONPATH": os.pathsep.join(filter(None, [str(PACKAGE), os.getenv("PYTHONPATH")]))}

from negspike.config import dataset_science, resolve_config
from negspike.errors import InputError
from negspike.estimate.reserved import RESERVED
from negspike.files import file_sha256
from negspike.fingerprint import code_of
from negspike.precision import Precision
from negspike.user_files import FOLDERS, find_file, listing_checksum, published_file


def typed(value, given):
    """What was given inside a list or mapping of --config, which Snakemake leaves as text, as YAML reads it."""
    if isinstance(value, dict) and isinstance(given, dict):
        return {key: typed(entry, given.get(key)) for key, entry in value.items()}
    if value != given:
        return value
    if isinstance(value, list):
        return [typed(entry, entry) for entry in value]
    if isinstance(value, dict):
        return {key: typed(entry, entry) for key, entry in value.items()}
    return yaml.safe_load(value) if isinstance(value, str) else value


# Whether this is the workflow that was called, and not a module of another one.
CALLED = Path(workflow.main_snakefile).resolve() in {CONFIG.parent / "Snakefile", CONFIG.parent / "workflow/Snakefile"}
GIVEN = workflow.config_settings.config
if not CALLED:  # what is meant for this one stands below a key of the other's choice, and all of it is text
    inner = {key: entry for below in GIVEN.values() if isinstance(below, dict) for key, entry in below.items()}
    config, GIVEN = {key: typed(entry, inner.get(key)) for key, entry in config.items()}, {}
# A workflow that uses this one as a module needs to say only what differs from the published experiment.
published = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
update_config(published, config)
config = {
    key: typed(value, given) if isinstance(given := GIVEN.get(key), dict | list) or given == "null" else value
    for key, value in published.items()
}


class Refused(WorkflowError):
    """Something that the user gave is wrong. Its line is the last one: without this Snakemake adds places in these files."""

    __traceback__ = None


try:
    EXPERIMENT = resolve_config(config)
except InputError as error:
    raise Refused(str(error)) from None

# Files that the configuration names lie in the current folder, or beside one of the files of configuration.
folders = [str(Path(path).absolute().parent) for path in reversed(workflow.configfiles)]
inherited = os.getenv(FOLDERS, "").split(os.pathsep)  # of the Snakemake that asks this one what it would do
os.environ[FOLDERS] = os.pathsep.join(dict.fromkeys([*folders, *filter(None, inherited), str(CONFIG.parent)]))


def config_file(key, name):
    """A file or folder that the configuration names; relative below the current folder, so that both may be moved."""
    try:
        path = find_file(name)
    except InputError as error:
        raise Refused(f"config key '{key}': {error}") from None
    here = Path.cwd()
    return path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path


def model_file(net):
    """Of a model in a file of the user's, or in a module of the current folder, what is in it."""
    model = EXPERIMENT.definitions[net].model or ""
    name, colon, _ = model.rpartition(":")
    if colon:
        return {"sha256": file_sha256(config_file(f"definitions.{net}.model", name))}
    # a job finds modules of the current folder as it finds installed ones, which are not looked at
    *package, stem = model.split(".")[:-1] or [""]
    files = (Path(*package, f"{stem}.py"), Path(*package, stem, "__init__.py"))
    found = [path for path in files if stem and path.is_file()]
    return {"sha256": file_sha256(found[-1])} if found else {}


for net in EXPERIMENT.nets:
    each = EXPERIMENT.definitions[net]
    if each.weights:
        config_file(f"definitions.{net}.weights", each.weights)
    model_file(net)
    if images := EXPERIMENT.folder(each.dataset):
        config_file(f"datasets.{each.dataset}.folder", images)

RESULTS = EXPERIMENT.results
DATA = EXPERIMENT.data
# Sorted, so that the order in the config is of no consequence: net, seed and precision of each spiking network.
NETS, SEEDS = sorted(EXPERIMENT.nets), sorted(EXPERIMENT.seeds)
RUNS = [
    (net, seed, precision.name)
    for net, seed in product(NETS, SEEDS)
    for precision in EXPERIMENT.definitions[net].quantization
]
TRAININGS = [*product(NETS, SEEDS, ["fp32"]), *RUNS]
# "auto" takes a GPU where there is one; the profile says how many this machine or cluster has to give. Without one the
# resource is absent: some executors take gpu=0 for a request.
NEEDS_GPU = EXPERIMENT.device == "cuda" or (EXPERIMENT.device == "auto" and shutil.which("nvidia-smi") is not None)
GPU = {"gpu": 1} if NEEDS_GPU else {}


scattergather:
    evaluation=EXPERIMENT.evaluation.shards,


wildcard_constraints:
    dataset="|".join(EXPERIMENT.sources),
    file="[a-z_]+",
    net="|".join(EXPERIMENT.definitions),
    seed=r"0|[1-9]\d{0,9}",
    precision=r"fp32|k[0-8]|levels[1-9]\d{0,7}",
    quantized=r"k[0-8]|levels[1-9]\d{0,7}",
    scatteritem=r"\d+-of-\d+",


def definition(wildcards):
    """The definition of the net that a job is about."""
    return EXPERIMENT.definitions[wildcards.net]


def net_science(wildcards):
    """What the net is, as a parameter: only what decides its numbers; of a model in a file, what is in that."""
    return definition(wildcards).science() | model_file(wildcards.net)


def quantization(wildcards):
    """The precision of a job, taken apart."""
    return Precision.parse(wildcards.get("precision") or wildcards.quantized)


def dataset_images(wildcards):
    """The prepared images of the net's dataset."""
    return f"{DATA}/{definition(wildcards).dataset}.npz"


def folder_listing(wildcards):
    """Of images in a folder, a checksum of their names and sizes; not of their times, which a copy changes."""
    if (name := EXPERIMENT.folder(wildcards.dataset)) is None:
        return None
    return listing_checksum(config_file(f"datasets.{wildcards.dataset}.folder", name))


def code(script, without=()):
    """Checksums of the code that decides a rule's result: its script, and what that imports of the package.

    As a parameter, not as input files: those are compared by their times and paths too, and a fresh clone, another
    folder or results copied without Snakemake's records would train everything anew.
    """
    return code_of(SCRIPTS / script, without=without)


def timesteps_cap(wildcards):
    """The most time steps that an image is simulated."""
    timesteps = definition(wildcards).timesteps
    return EXPERIMENT.evaluation.timesteps_cap if timesteps == "until_silent" else timesteps


def growing(amount):
    """A resource that grows with every attempt: a cluster ends a job that runs out of what it asked for."""
    return lambda wildcards, attempt: amount * attempt


def weights(net, seed, precision):
    """The weights after a training's last phase."""
    return f"{RESULTS}/{net}/seed{seed}/{precision}/weights.pt"


def start_weights(wildcards):
    """What a training starts from: the FP32 net's weights, or for itself those of the configuration; none, if none."""
    if not definition(wildcards).starts(quantization(wildcards)):
        return []
    if wildcards.precision == "fp32":
        # local: the prefix of a workflow that uses this one as a module is not the user's
        return [local(str(config_file(f"definitions.{wildcards.net}.weights", definition(wildcards).weights)))]
    return [weights(wildcards.net, wildcards.seed, "fp32")]


def training_phases(wildcards):
    """What each phase does, as a parameter."""
    return [phase.plain() for phase in definition(wildcards).phases(quantization(wildcards))]


def reconstruction_steps(wildcards):
    """Updates towards the FP32 net's activations before training, as a parameter: of levels alone."""
    return definition(wildcards).reconstruction if quantization(wildcards).kind == "levels" else 0


def weight_bits(wildcards):
    """Full precision does not depend on the width of the integer weights; models train without rounding them."""
    if quantization(wildcards).kind == "fp32":
        return None
    return 24 if definition(wildcards).model else EXPERIMENT.weight_bits


# Of converted networks; without it, their parameters are what they have always been.
THRESHOLD_BITS = {} if EXPERIMENT.threshold_bits is None else {"threshold_bits": EXPERIMENT.threshold_bits}


def final_weights(wildcards):
    """The quantised network's weights."""
    return weights(wildcards.net, wildcards.seed, wildcards.quantized)


def simulations(file):
    """One file of every simulated network of the configuration."""
    return [f"{RESULTS}/{net}/seed{seed}/{precision}/{file}" for net, seed, precision in RUNS]


def published_numbers(name):
    """What is set beside ours, as a parameter: its name, and what is in it."""
    from negspike.results.published import read_published, shared_nets  # only where it is wanted

    path = published_file(name)
    if path.is_dir():
        raise InputError(f"{name} is a folder; expected zou2023 or a table, logs are read by negspike figures")
    shared_nets(read_published(name), NETS)
    return {"name": name, "sha256": file_sha256(path)}


try:
    PUBLISHED = published_numbers(EXPERIMENT.published) if EXPERIMENT.published else None
except InputError as error:
    raise Refused(f"config key 'published': {error}") from None

# Whose neurons are drawn: the first seed, and the finest of its quantised versions.
TRACED = [(net, SEEDS[0], EXPERIMENT.definitions[net].quantization[-1].name) for net in NETS]


def curve_inputs():
    """What curves and table are made of: a few small tables."""
    return {
        "accuracy": simulations("accuracy.txt"),
        "spike_num": simulations("spike_num.txt"),
        "spike_collect": simulations("spike_collect.txt"),
        "sop_num": simulations("sop_num.txt"),
        "evaluations": simulations("evaluation.json"),
        "fp32": expand("{results}/{net}/seed{seed}/fp32/ann.json", results=RESULTS, net=NETS, seed=SEEDS),
    }


def spike_inputs():
    """What is drawn layer by layer, and of all neurons."""
    return {"arrays": simulations("evaluation.npz"), "evaluations": simulations("evaluation.json")}


def figure_code(name):
    """The code behind one figure: not that of the others."""
    return code("draw_figure.py", without=[f"figures/{other}" for other in FIGURES if other != name])


def figure_outputs(name):
    """One figure in every format, and its numbers; the report shows the SVG."""
    paths = {suffix: f"{RESULTS}/figs/{name}.{suffix}" for suffix in ("pdf", "svg", "png", "csv")}
    return paths | {"svg": in_report(paths["svg"], "Figures", name)}


def in_report(path, subcategory, name):
    """A result that the report shows, with its caption."""
    return report(
        path,
        caption=f"../report/{name}.rst",
        category="Spiking networks",
        subcategory=subcategory,
        labels={"result": name.replace("_", " ")},
    )
