"""What a change runs again: exactly what it makes different, as Snakemake itself plans it (dry runs)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from workflow_runs import Config, Finished, copy_repository

from negspike.figures import KINDS
from negspike.fingerprint import code_of

NETS, LEVELS = ("small", "tiny"), (0, 1)
CURVES = {"accuracy_speed", "sparsity", "sops"}
# of one image in the first seed of the finest k of each net
TRACED = {"raster", "neuron"}
FIGURES = CURVES | TRACED | {"tradeoff", "lossless", "firing", "training"}
# what follows an evaluation; a new network; and a training
EVALUATED = (FIGURES | {"table"}) - {"training"} - TRACED
DRAWN = EVALUATED | TRACED
ALL = DRAWN | {"training"}


def trained(net: str, seed: int = 0, levels: tuple[int, ...] = LEVELS) -> set[str]:
    """The trainings of a net."""
    return {f"train {net}/seed{seed}/{precision}" for precision in ("fp32", *(f"k{k}" for k in levels))}


def simulated(net: str, *rules: str, seed: int = 0, levels: tuple[int, ...] = LEVELS) -> set[str]:
    """The simulations of a net, by default with their conversion."""
    return {f"{rule} {net}/seed{seed}/k{k}" for rule in rules or ("convert", "evaluate") for k in levels}


def traced(*nets: str, k: int = 1) -> set[str]:
    """The traces of nets."""
    return {f"trace {net}/seed0/k{k}" for net in nets or NETS}


def both(function: Callable[..., set[str]], *rest: str) -> set[str]:
    return set().union(*(function(net, *rest) for net in NETS))


@pytest.fixture
def finished(finished_copy: Finished) -> Finished:
    return finished_copy


# ---- code

# What only simulates; the network itself is made by the conversion.
ENGINES = ("dense", "event/engine", "simulation")
CODE_OF_RULES = {
    "training/phase": {"train"},
    "arithmetic": {"convert", "train", "evaluate"},
    "stages/train": {"train"},
    "stages/evaluate": {"evaluate"},
    **{f"spiking/{module}": {"evaluate"} for module in ENGINES},
    "spiking/recording": {"evaluate", "trace", "tradeoff", *TRACED},
    "spiking/reference": {"evaluate", "trace", *TRACED},
    "stages/trace": {"trace"},
    "conversion/arrays": {"convert"},
    **{f"figures/{figure}": {figure} for figure in FIGURES},
    "figures/style": FIGURES,
    "figures/curves": CURVES | {"tradeoff"},
    "results/spikes": {"lossless", "firing"},
    "results/histories": {"training"},
    "results/published": CURVES | {"table", "tradeoff"},
    "results/statistics": {"table"},
    "draw_figure.py": FIGURES,
    "results/efficiency": {"tradeoff"},
    "results/traces": {"trace", *TRACED},
    "results/metrics": EVALUATED,
    "write_table.py": {"table"},
    **{module: set() for module in ("console", "devices", "data/download", "__main__", "fingerprint")},
}


def recorded_code(finished: Finished) -> dict[str, dict[str, str]]:
    """The checksums of code that Snakemake has written down for each rule, and compares."""
    found: dict[str, dict[str, str]] = {}
    for path in (finished.folder / ".snakemake/metadata").iterdir():
        record = json.loads(path.read_text())
        parameters = [yaml.safe_load(text) for text in record["params"] if text.startswith("{")]
        found[record["rule"]] = next((entry for entry in parameters if any(key.endswith(".py") for key in entry)), {})
    return found


def test_each_module_counts_for_the_rules_that_run_it(finished: Finished) -> None:
    """A module that is named there is what a change of it runs again: the plans below, test_fingerprint.py."""
    recorded = recorded_code(finished)
    found = {module: {rule for rule, code in recorded.items() if module in code} for module in CODE_OF_RULES}
    assert found == CODE_OF_RULES


def test_every_rule_records_the_code_that_it_runs(finished: Finished) -> None:
    found = recorded_code(finished)
    scripts = {"download": "", **dict.fromkeys(FIGURES, "draw_figure.py"), "table": "write_table.py"}
    scripts |= {"trace": "trace_image.py"}
    rules = {"prepare_dataset", "train", "convert", "evaluate"}
    assert found.keys() == rules | scripts.keys()
    for rule, recorded in found.items():
        script = scripts.get(rule, f"{rule}.py")
        others = [f"figures/{other}" for other in KINDS if rule in FIGURES and other != rule]
        assert recorded == (code_of(ROOT / "workflow/scripts" / script, without=others) if script else {}), rule


def test_a_change_in_training_trains_again(finished: Finished) -> None:
    with finished.appended("src/negspike/training/phase.py"):
        assert finished.planned() == both(trained) | both(simulated) | traced() | ALL


def test_a_change_in_the_conversion_trains_nothing(finished: Finished) -> None:
    with finished.appended("src/negspike/conversion/arrays.py"):
        assert finished.planned() == both(simulated) | traced() | DRAWN


def test_a_change_in_an_engine_only_evaluates_again(finished: Finished) -> None:
    with finished.appended("src/negspike/spiking/event/layer.py"):
        assert finished.planned() == both(simulated, "evaluate") | EVALUATED


def test_a_change_in_one_figure_or_the_table_redraws_that_one(finished: Finished) -> None:
    with finished.appended("src/negspike/figures/sops.py", "workflow/scripts/write_table.py"):
        assert finished.planned() == {"sops", "table"}


def test_code_that_decides_no_result_runs_nothing(finished: Finished) -> None:
    modules = [f"src/negspike/{name}.py" for name in ("console", "devices", "data/download", "__main__")]
    with finished.appended(*modules, "workflow/rules/common.smk"):
        assert finished.planned("all", "data/fashion_mnist.npz") == set()


def clone_of(finished: Finished, target: Path) -> Finished:
    """A fresh clone, with sources newer than every result."""
    target.mkdir()
    copy_repository(target)
    shutil.copytree(finished.folder / "archives", target / "archives")
    return Finished(target, finished.config)


def test_a_fresh_clone_with_old_results_runs_nothing(finished: Finished, tmp_path: Path) -> None:
    clone = clone_of(finished, tmp_path / "clone")
    for name in ("results", "data"):
        shutil.copytree(finished.folder / name, clone.folder / name)  # with their times: older than the sources
    assert clone.planned() == set(), "without Snakemake's records"
    shutil.copytree(finished.folder / ".snakemake/metadata", clone.folder / ".snakemake/metadata", dirs_exist_ok=True)
    assert clone.planned() == set(), "with Snakemake's records"
    # copied in the worst order: the images last, weights before what was made of them
    now = time.time()
    files = sorted(path for name in ("data", "results") for path in (clone.folder / name).rglob("*") if path.is_file())
    for age, path in enumerate(files):
        os.utime(path, (now - age, now - age))
    assert clone.planned() == set(), "with times in the order of the copy"
    with clone.appended("src/negspike/figures/sops.py"):
        assert clone.planned() == {"sops"}, "but the clone knows what its code makes different"


def test_results_in_another_folder_belong_to_any_clone(finished: Finished, tmp_path: Path) -> None:
    """The records hold no path of the repository: --directory may stay where it is while the clone moves."""
    clone = clone_of(finished, tmp_path / "clone")
    assert clone.planned("--directory", str(finished.folder)) == set()


# ---- configuration


def definition(net: str, **changes: object) -> Callable[[Config], object]:
    return lambda config: config["definitions"].__setitem__(net, config["definitions"][net] | changes)


def test_one_more_level_runs_that_level(finished: Finished) -> None:
    config = finished.changed(lambda config: config.update(quantization_levels=[0, 1, 3]))
    new = {job for net in NETS for job in trained(net, levels=(3,)) if "fp32" not in job}
    new |= set().union(*(simulated(net, levels=(3,)) for net in NETS)) | traced(k=3)
    assert finished.planned(config=config) == new | ALL


def test_one_more_seed_runs_that_seed(finished: Finished) -> None:
    new = set().union(*(trained(net, seed=1) | simulated(net, seed=1) for net in NETS))
    assert finished.planned("--config", "seeds=[0, 1]") == new | (ALL - TRACED)


def test_a_schedule_touches_its_net(finished: Finished) -> None:
    first, second = finished.config["definitions"]["tiny"]["phases"]
    config = finished.changed(definition("tiny", phases=[first | {"epochs": 3}, second]))
    assert finished.planned(config=config) == trained("tiny") | simulated("tiny") | traced("tiny") | ALL


def test_a_second_phase_is_trained_from_the_first_that_is_there(finished: Finished, tmp_path: Path) -> None:
    """The checkpoints that trainings leave; and the way back gives the same weights."""
    clone = Finished(tmp_path / "clone", finished.config)
    shutil.copytree(finished.folder, clone.folder)
    target = "results/tiny/tiny/seed0/k1/weights.pt"
    before, log = (clone.folder / target).read_bytes(), clone.folder / "results/tiny/logs/tiny/seed0/k1/train.log"
    first, second = finished.config["definitions"]["tiny"]["phases"]
    clone.snakemake("--", target, config=finished.changed(definition("tiny", phases=[first, second | {"epochs": 2}])))
    assert "phase 1: going on after epoch 2 of 2" in log.read_text() and "phase 1 epoch" not in log.read_text()
    assert "phase 2 epoch 2/2 done" in log.read_text() and (clone.folder / target).read_bytes() != before
    clone.snakemake("--", target)
    assert (clone.folder / target).read_bytes() == before


def test_time_steps_evaluate_their_net_again(finished: Finished) -> None:
    config = finished.changed(definition("tiny", timesteps=31))
    assert finished.planned(config=config) == simulated("tiny", "evaluate") | traced("tiny") | DRAWN


def test_the_batch_size_of_the_logs_only_evaluates_again(finished: Finished) -> None:
    assert finished.planned("--config", "evaluation={batch_size: 40}") == both(simulated, "evaluate") | EVALUATED


def test_another_style_only_redraws(finished: Finished) -> None:
    assert finished.planned("--config", "style=talk") == FIGURES


def test_what_is_published_only_redraws(finished: Finished, tmp_path: Path) -> None:
    table = tmp_path / "theirs.csv"
    table.write_text("net,k,timestep,accuracy\ntiny,0,1,0.5\n")
    assert finished.planned("--config", f"published={table}") == CURVES | {"table", "tradeoff"}


def test_the_width_of_the_weights_leaves_full_precision_alone(finished: Finished) -> None:
    quantised = {job for job in both(trained) if "fp32" not in job}
    assert finished.planned("--config", "weight_bits=12") == quantised | both(simulated) | traced() | ALL


def test_the_width_of_thresholds_converts_again(finished: Finished) -> None:
    assert finished.planned("--config", "threshold_bits=24") == both(simulated) | traced() | DRAWN


def test_one_k_runs_that_k(finished: Finished, tmp_path: Path) -> None:
    clone = clone_of(finished, tmp_path / "clone")
    assert clone.planned("results/tiny/tiny/seed0/k1/accuracy.txt") == {
        "prepare_dataset digits",
        "train tiny/seed0/k1",
        *simulated("tiny", levels=(1,)),
    }


def test_a_net_less_only_redraws(finished: Finished) -> None:
    assert finished.planned(config=finished.changed(lambda config: config.update(nets=["tiny"]))) == ALL


def test_a_model_in_a_module_of_the_folder(finished: Finished) -> None:
    """Named with a dot it is found as well, and what is in it counts as much."""
    code = "from torch import nn\n\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    (finished.folder / "flat.py").write_text(code)
    mine = {"dataset": "digits", "model": "flat.build", "timesteps": 9, "batch_size": 50}
    mine |= {"phases": [{"epochs": 1, "learning_rate": 1e-3}], "quantization": [{"levels": 3}]}
    config = finished.changed(lambda config: config.update(nets=["mine"], definitions={"mine": mine}))
    target = "results/tiny/mine/seed0/fp32/weights.pt"
    finished.snakemake("--", target, config=config)
    assert finished.planned("--", target, config=config) == set()
    with finished.appended("flat.py"):
        assert finished.planned("--", target, config=config) == {"train mine/seed0/fp32"}


def test_what_makes_no_difference_runs_nothing(finished: Finished, tmp_path: Path) -> None:
    """All of it at once: Snakemake gives its reason where one of them would count."""
    # comments, the order of keys, another address of the same archive
    moved = finished.changed(
        lambda config: config["datasets"]["fashion_mnist"]["test_labels"].update(url="https://example.org/labels.gz")
    )
    turned = {key: moved[key] for key in reversed(moved)}
    turned["definitions"] = {net: dict(reversed(entry.items())) for net, entry in turned["definitions"].items()}
    text = "# a comment\n" + yaml.safe_dump(turned, sort_keys=False).replace("\n", "  # another\n")
    assert yaml.safe_load(text) == moved
    (tmp_path / "config.yaml").write_text("set-threads: [convert=2]\ndefault-resources: [runtime=100]\n")
    arguments = [
        *("--profile", str(tmp_path)),
        *("--set-threads", "train=2", "evaluate=2"),
        *("--set-resources", "train:mem_mb=8000"),
        *("--resources", "gpu=4"),
        # lists in another order, what a machine decides
        *(
            "--config",
            "device=cpu",
            "evaluation={engine: reference}",
            "nets=[small, tiny]",
            "quantization_levels=[1, 0]",
        ),
    ]
    # the times of sources, a commit
    later = time.time() + 3600
    for folder in ("src", "workflow", "envs"):
        for path in (finished.folder / folder).rglob("*"):
            os.utime(path, (later, later))
    git = shutil.which("git")
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "src", "workflow"], [*who, "commit", "-q", "-m", "first"]) if git else ():
        subprocess.run(["git", *command], cwd=finished.folder, check=True)
    try:
        with finished.appended("config.yaml", text="\n# a comment\n"):
            assert finished.planned("all", "data/fashion_mnist.npz", *arguments, config=text) == set()
    finally:
        shutil.rmtree(finished.folder / ".git", ignore_errors=True)


def test_another_archive_is_another_dataset(finished: Finished) -> None:
    other = finished.changed(lambda config: config["datasets"]["fashion_mnist"]["test_labels"].update(sha256="0" * 64))
    assert finished.planned("data/fashion_mnist.npz", config=other) == {
        "download fashion_mnist/test_labels",
        "prepare_dataset fashion_mnist",
    }


# ---- the documented ways around Snakemake's decision


def test_forcing_and_accepting(finished: Finished, tmp_path: Path) -> None:
    target = "results/tiny/tiny/seed0/k1/evaluation.json"
    assert finished.planned("-f", target) == {"evaluate tiny/seed0/k1"}
    assert finished.planned("-F", target) >= {"prepare_dataset digits", "train tiny/seed0/k1"}
    clone = Finished(tmp_path / "clone", finished.config)
    shutil.copytree(finished.folder, clone.folder)
    with clone.appended("src/negspike/training/phase.py"):
        assert clone.planned("--rerun-triggers", "mtime") == set()
        assert clone.planned()
        clone.snakemake("--touch")
        assert clone.planned() == set()
