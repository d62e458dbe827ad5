"""Faults: what is killed, cut off, full or in the way loses nothing that was finished (docs/reliability.md).

Real Snakemake, real signals, real full disks. One undisturbed run is shared; each test copies its folder, removes the
result of one rule and makes that rule fail. How a job is hit at a chosen moment: Python imports ``sitecustomize`` when
it starts, and the one on the path of these tests acts when a file of a given name is about to take its place.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, write_cifar10
from workflow_runs import command, environment, run

NET = "results/tiny/seed0"
K1 = f"{NET}/k1"
SETTINGS = {
    "nets": ["tiny"],
    "quantization_levels": [1],
    "evaluation": {"batch_size": 8},
    "definitions": {
        "tiny": {
            "dataset": "cifar10",
            "topology": "2C3-P2-4",
            "padding": "same",
            "width": 1.0,
            "timesteps": 12,
            "batch_size": 20,
            "phases": [{"epochs": 4, "learning_rate": 1.0e-3}],
        }
    },
}
FAULT = """
import atexit, json, os, pathlib, signal
fault = json.loads(os.environ["FAULT"])
real = pathlib.Path.replace

def replace(self, target):
    mine = pathlib.Path(target).name == fault["file"]
    fault["call"] -= mine
    now = mine and fault["call"] == 0
    if now and fault["when"] == "before":
        exec(fault["action"])
    result = real(self, target)
    if now and fault["when"] == "after":
        exec(fault["action"])
    return result

pathlib.Path.replace = replace
"""
KILL_ALL = "os.killpg(0, signal.SIGKILL)"  # Snakemake, its shell and the job
KILL_ALL_AT_THE_END = f"atexit.register(lambda: {KILL_ALL})"  # the job is done, and Snakemake does not know it
KILL_JOB = "os.kill(os.getpid(), signal.SIGKILL)"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the signals are those of POSIX")


class Folder:
    """A folder in which the tiny experiment runs."""

    def __init__(self, path: Path, config: Path) -> None:
        self.path, self.config = path, config

    def arguments(self, *more: str) -> list[str]:
        where = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(self.path)]
        return [*where, "--configfile", str(self.config), *more]

    def fault(self, *, file: str = "", call: int = 1, when: str = "before", action: str = "") -> dict[str, str]:
        """The environment in which ``action`` is done at the ``call``-th time ``file`` is published."""
        if not action:
            return {}
        fault = {"file": file, "call": call, "when": when, "action": action}
        return {"PYTHONPATH": str(self.config.parent), "FAULT": json.dumps(fault)}

    def start(self, *arguments: str, **fault: Any) -> subprocess.Popen[str]:
        """Snakemake in a process group of its own, and what is done to it."""
        return subprocess.Popen(
            command(*self.arguments(*arguments), cores=1),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=environment(self.fault(**fault)),
            start_new_session=True,
            # a shell that starts the tests in the background has their children ignore Ctrl-C
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *arguments: str, **fault: Any) -> tuple[int, str]:
        """Exit code and what the user saw, of what :meth:`start` starts."""
        ended = run(ROOT, *self.arguments(*arguments), cores=1, new_session=True, changes=self.fault(**fault))
        return ended.returncode, ended.stdout

    def finish(self, *arguments: str) -> str:
        """Run to the end; what the user saw."""
        code, output = self.run(*arguments)
        assert code == 0, output
        return output

    def remove_locks(self) -> None:
        """What ``snakemake --unlock`` does, without the seconds it takes to start."""
        shutil.rmtree(self.path / ".snakemake" / "locks")
        (self.path / ".snakemake" / "locks").mkdir()

    def results(self) -> dict[str, bytes]:
        """Every file that is a result, without the times that a clock measured."""
        found = {}
        for top in ("data", "results"):
            for path in sorted((self.path / top).rglob("*")):
                name = path.relative_to(self.path).as_posix()
                hidden = path.name.startswith(".")
                if path.is_file() and not hidden and "/logs/" not in name and "/benchmarks/" not in name:
                    found[name] = _without_times(path)
        return found


def _without_times(path: Path) -> bytes:
    if path.suffix == ".json":
        value = json.loads(path.read_text())
        assert value.pop("wall_seconds") >= 0
        return json.dumps(value).encode()
    if path.name == "history.csv":
        rows = list(csv.DictReader(path.open()))
        assert all(float(row.pop("seconds")) >= 0 for row in rows)
        return json.dumps(rows).encode()
    return path.read_bytes()


SNAKEMAKE_STOPS = "Terminating processes on user request, this might take some time."


def line_with(output: str, words: str) -> str:
    """The only line with these words, perhaps said again at the end; there is no traceback of ours.

    Snakemake ends the line of its own message later than it writes it, so a job's may stand behind it.
    """
    output = output.replace(SNAKEMAKE_STOPS, f"{SNAKEMAKE_STOPS}\n")
    lines = list(dict.fromkeys(line for line in output.splitlines() if words in line))
    assert len(lines) == 1, f"{len(lines)} lines with {words!r}:\n{output}"
    assert "Traceback" not in output, output
    return lines[0]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    place = tmp_path_factory.mktemp("faults")
    archive = place / "cifar-10-binary.tar.gz"
    write_cifar10(archive, (12, 12, 12, 12, 12, 20))
    source = {"url": archive.as_uri(), "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(), "size": None}
    (place / "config.yaml").write_text(yaml.safe_dump(SETTINGS | {"datasets": {"cifar10": {"archive": source}}}))
    (place / "sitecustomize.py").write_text(FAULT)
    folder = Folder(place / "undisturbed", place / "config.yaml")
    folder.finish()
    assert len(folder.results()) > 20
    return folder


@pytest.fixture
def folder(undisturbed: Folder, tmp_path: Path) -> Folder:
    """A copy of the finished run."""
    shutil.copytree(undisturbed.path, tmp_path / "run", symlinks=True)
    return Folder(tmp_path / "run", undisturbed.config)


def without(folder: Folder, *names: str) -> None:
    for name in names:
        (folder.path / name).unlink()


RULES = {
    "download": ["data/cifar10/archive.gz"],
    "prepare_dataset": ["data/cifar10.npz"],
    "train": [f"{K1}/weights.pt", f"{K1}/ann.json", f"{K1}/history.csv"],
    "convert": [f"{K1}/spiking.npz"],
    "evaluate": [
        *(f"{K1}/{name}.txt" for name in ("accuracy", "spike_num", "spike_collect", "sop_num")),
        *(f"{K1}/{name}.csv" for name in ("layers", "layer_steps")),
        f"{K1}/evaluation.npz",
        f"{K1}/evaluation.json",
    ],
    "sops": [f"results/figs/sops.{suffix}" for suffix in ("pdf", "svg", "png", "csv")],
    "table": ["results/table.csv", "results/summary.md", "results/summary.csv"],
}
# what a training goes on from, unless it is to begin anew
CHECKPOINT = f"{K1}/.phase1.checkpoint"
HALF = "os.truncate(self, self.stat().st_size // 2); "


@pytest.mark.parametrize(
    ("rule", "file", "call", "when", "line"),
    [
        ("download", "archive.gz", 1, "before", ""),
        ("prepare_dataset", "cifar10.npz", 1, "before", ""),
        ("train", ".phase1.checkpoint", 3, "before", "going on after epoch 2 of 4"),
        ("train", "ann.json", 1, "before", "going on after epoch 4 of 4"),
        ("train", "weights.pt", 1, "after", "going on after epoch 4 of 4"),
        ("convert", "spiking.npz", 1, "before", ""),
        ("evaluate", "spike_num.txt", 1, "before", ""),
        ("evaluate", "evaluation.json", 1, "after", ""),
        ("sops", "sops.svg", 1, "before", ""),  # one loop makes the rules of all figures
        ("table", "table.csv", 1, "before", ""),
    ],
)
def test_sigkill_in_every_rule(
    rule: str, file: str, call: int, when: str, line: str, folder: Folder, undisturbed: Folder
) -> None:
    """Snakemake and its job are killed while a file is half written, or between two; the same command goes on."""
    without(folder, *RULES[rule], *([CHECKPOINT] if rule == "train" else []))
    target = RULES[rule][0]
    action = HALF + KILL_ALL if when == "before" else KILL_ALL_AT_THE_END
    code, output = folder.run("--", target, file=file, call=call, when=when, action=action)
    assert code == -signal.SIGKILL and f"rule {rule}:" in output, output
    published = {name for name in RULES[rule] if (folder.path / name).exists()}
    assert (when == "after") == (published == set(RULES[rule]))
    folder.remove_locks()
    output = folder.finish("--", target)
    assert f"rule {rule}:" in output and line in output
    assert folder.results() == undisturbed.results()


def test_a_killed_snakemake_leaves_a_lock_and_says_how_to_remove_it(folder: Folder, undisturbed: Folder) -> None:
    without(folder, *RULES["sops"])
    target = RULES["sops"][0]
    folder.run("--", target, file="sops.png", action=KILL_ALL)
    code, output = folder.run("--", target)
    assert code == 1
    assert "Directory cannot be locked" in output and "--unlock" in output and "Traceback" not in output
    folder.finish("--unlock")
    # without the workflow's profile Snakemake asks for an option first
    code, output = folder.run("--workflow-profile", "none", "--", target)
    assert code == 1 and "--rerun-incomplete" in output, output
    folder.finish("--", target)
    assert folder.results() == undisturbed.results()


def test_two_runs_in_one_folder(folder: Folder, undisturbed: Folder) -> None:
    without(folder, *RULES["table"])
    target = RULES["table"][0]
    stopped = folder.path / "stopped"
    action = f"pathlib.Path({str(stopped)!r}).write_text(str(os.getpid())); os.kill(os.getpid(), signal.SIGSTOP)"
    first = folder.start("--", target, file="table.csv", action=action)
    wait_for(lambda: stopped.exists() and bool(stopped.read_text()))
    code, output = folder.run("--", target)
    assert code == 1 and "Directory cannot be locked" in output
    os.kill(int(stopped.read_text()), signal.SIGCONT)
    output, _ = first.communicate(timeout=120)
    assert first.returncode == 0, output
    assert folder.results() == undisturbed.results()


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (KILL_JOB, ""),
        ("os.kill(os.getpid(), signal.SIGTERM)", "stopped by SIGTERM"),
        ("os.killpg(0, signal.SIGINT)", "stopped by SIGINT"),
    ],
    ids=["SIGKILL of the job", "SIGTERM", "Ctrl-C"],
)
def test_a_training_is_stopped_and_goes_on(action: str, words: str, folder: Folder, undisturbed: Folder) -> None:
    """Snakemake outlives its job here, and so leaves no lock."""
    without(folder, *RULES["train"], CHECKPOINT)
    code, output = folder.run("--", f"{K1}/weights.pt", file=".phase1.checkpoint", call=2, when="after", action=action)
    assert code == 1, output
    if words:
        assert "the same command goes on" in line_with(output, words)
        assert words in (folder.path / "results/logs/tiny/seed0/k1/train.log").read_text()
    left = {
        path.name
        for path in (folder.path / K1).iterdir()
        if path.name in (".phase1.checkpoint", *(Path(name).name for name in RULES["train"]))
    }
    assert left == {".phase1.checkpoint"}
    assert "going on after epoch 2 of 4" in folder.finish("--", f"{K1}/weights.pt")
    assert folder.results() == undisturbed.results()


LONG_EPOCHS = 250
KILLS = 3


def test_a_training_killed_at_random_moments(undisturbed: Folder, tmp_path: Path) -> None:
    """Whatever the moment is, and however often: the same weights, to the bit."""
    settings = yaml.safe_load(undisturbed.config.read_text())
    settings["definitions"]["tiny"]["phases"] = [{"epochs": LONG_EPOCHS, "learning_rate": 1.0e-3}]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    folders = {name: Folder(tmp_path / name, tmp_path / "config.yaml") for name in ("whole", "killed")}
    for folder in folders.values():
        shutil.copytree(undisturbed.path / "data", folder.path / "data")
    target = f"{K1}/weights.pt"
    folders["whole"].finish("--", target)
    killed, moments = folders["killed"], random.Random(0)
    checkpoint = killed.path / CHECKPOINT
    for _ in range(KILLS):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = killed.start("--", target)
        wait_for(lambda before=before: checkpoint.exists() and checkpoint.stat().st_mtime_ns != before)  # type: ignore[misc]
        time.sleep(moments.uniform(0, 0.5))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        killed.remove_locks()
        assert not (killed.path / target).exists(), "it was faster than the kill: raise LONG_EPOCHS"
    output = killed.finish("--", target)
    assert "going on after epoch" in output
    assert killed.results() == folders["whole"].results()


# ---- disks


def namespace(script: str, folder: Folder, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script that may mount: what it mounts is gone with it."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return subprocess.run(
        ["unshare", "--mount", *user, "sh", "-ec", script, "sh", *command(*folder.arguments(*arguments), cores=1)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder.path,
        env=environment(),
        check=False,
    )


@pytest.fixture(scope="module")
def mounts(undisturbed: Folder) -> None:
    if shutil.which("unshare") is None or namespace("mount -t tmpfs tmpfs results", undisturbed).returncode:
        pytest.skip("nothing can be mounted here")


FULL = """
cp -a results saved
mount -t tmpfs -o size=2m tmpfs results
cp -a saved/. results
head -c 4000000 /dev/zero > results/filler 2>/dev/null || true
truncate -s -$FREE results/filler
"$@" && exit 9 || true
echo STOPPED
rm results/filler
rm -rf full && cp -a results full
"$@"
rm -rf saved && cp -a results saved
"""


@pytest.mark.parametrize(("rule", "free"), [("train", 8192), ("evaluate", 0), ("sops", 4096)])
@pytest.mark.usefixtures("mounts")
def test_a_full_disk(rule: str, free: int, folder: Folder, undisturbed: Folder) -> None:
    without(folder, *RULES[rule])
    run = namespace(FULL.replace("$FREE", str(free)), folder, "--", RULES[rule][0])
    failed, _, succeeded = run.stdout.partition("STOPPED")
    assert run.returncode == 0 and f"rule {rule}:" in succeeded, run.stdout
    assert "No space left on device: 'results/" in line_with(failed, ": error: ")
    full = folder.path / "full"
    left = [path.relative_to(full) for path in full.rglob("*") if path.is_file() and path.name != "filler"]
    assert {path.name for path in left if path.name.startswith(".")} <= {".phase1.checkpoint"}, "half a file"
    kept = {Path(name).relative_to("results") for name in undisturbed.results() if name.startswith("results/")}
    rule_files = {Path(name).relative_to("results") for name in RULES[rule] if name.startswith("results/")}
    assert kept - rule_files <= set(left) and not rule_files & set(left)
    shutil.rmtree(folder.path / "results")
    (folder.path / "saved").rename(folder.path / "results")
    assert folder.results() == undisturbed.results()


READ_ONLY = """
mount --bind results results
mount -o remount,bind,ro results
"$@"
"""


@pytest.mark.usefixtures("mounts")
def test_a_read_only_results_folder(folder: Folder, undisturbed: Folder) -> None:
    run = namespace(READ_ONLY, folder, "--force", "--", RULES["table"][0])
    assert run.returncode == 1 and "Write-protected output files for rule table" in run.stdout, run.stdout
    assert folder.results() == undisturbed.results()
    without(folder, *RULES["table"])
    run = namespace(READ_ONLY, folder, "--", RULES["table"][0])
    assert run.returncode == 1 and "Read-only file system" in run.stdout, run.stdout
    folder.finish("--", RULES["table"][0])
    assert folder.results() == undisturbed.results()


# ---- damaged files


def test_a_log_cut_off_in_mid_line(folder: Folder) -> None:
    path = folder.path / K1 / "accuracy.txt"
    os.truncate(path, path.stat().st_size - 1)
    without(folder, *RULES["sops"])
    code, output = folder.run("--", *RULES["sops"])
    assert code == 1 and f"{K1}/accuracy.txt: its last line has no end" in line_with(output, "error: ")
    assert not (folder.path / RULES["sops"][0]).exists()


DAMAGED = [
    ("train", "data/cifar10.npz", 1000, "data/cifar10.npz: not a dataset written by this workflow"),
    ("convert", f"{K1}/weights.pt", 0, f"{K1}/weights.pt: not a weights file of this workflow"),
    ("evaluate", f"{K1}/spiking.npz", 0, f"{K1}/spiking.npz: not a spiking network written by this package"),
    ("table", f"{K1}/evaluation.json", 100, f"{K1}/evaluation.json: not JSON"),
]


def test_a_damaged_input_is_named(folder: Folder, undisturbed: Folder) -> None:
    """Empty or cut off, as a disk may leave a file after a power cut. Its time stays, so that Snakemake trusts it."""
    for number, (rule, file, size, words) in enumerate(DAMAGED):
        one = Folder(folder.path.with_name(f"damaged{number}"), folder.config)
        shutil.copytree(folder.path, one.path)
        times = (one.path / file).stat()
        os.truncate(one.path / file, size)
        os.utime(one.path / file, ns=(times.st_atime_ns, times.st_mtime_ns))
        without(one, *RULES[rule])
        code, output = one.run("--rerun-triggers", "mtime", "--", RULES[rule][0])
        assert code == 1 and words in line_with(output, ": error: ")
        assert not (one.path / RULES[rule][0]).exists()


def test_what_was_deleted_is_made_again(folder: Folder, undisturbed: Folder) -> None:
    """What the lines about damaged inputs advise."""
    without(folder, *(file for _, file, _, _ in DAMAGED))
    folder.finish("--", *(file for _, file, _, _ in DAMAGED))
    assert folder.results() == undisturbed.results()


def test_a_truncated_checkpoint_is_not_used(folder: Folder, undisturbed: Folder) -> None:
    without(folder, *RULES["train"], CHECKPOINT)
    target = f"{K1}/weights.pt"
    action = f"os.truncate(target, 2000); {KILL_JOB}"
    folder.run("--", target, file=".phase1.checkpoint", call=2, when="after", action=action)
    assert (folder.path / CHECKPOINT).stat().st_size == 2000
    assert "its epochs are trained again" in line_with(folder.finish("--", target), ".phase1.checkpoint: damaged")
    assert folder.results() == undisturbed.results()


def test_snakemakes_own_records_lost(folder: Folder, undisturbed: Folder) -> None:
    """What a power cut may leave of files that are not ours."""
    for record in (folder.path / ".snakemake" / "metadata").rglob("*"):
        if record.is_file():
            os.truncate(record, 0)
    output = folder.finish()
    assert "Nothing to be done" in output, output
    assert folder.results() == undisturbed.results()


def test_an_input_deleted_while_it_runs(folder: Folder, undisturbed: Folder) -> None:
    without(folder, *RULES["convert"], *RULES["evaluate"])
    target = f"{K1}/accuracy.txt"
    action = "os.unlink('data/cifar10.npz')"
    code, output = folder.run("--", target, file="spiking.npz", action=action)
    assert code == 1 and "data/cifar10.npz" in output and "Traceback" not in output, output
    assert (folder.path / K1 / "spiking.npz").exists() and not (folder.path / target).exists()
    folder.finish("--", "data/cifar10.npz", target)
    assert folder.results() == undisturbed.results()


# ---- folders and clocks


def set_times(folder: Folder, when: float) -> None:
    for top in ("data", "results"):
        for path in (folder.path / top).rglob("*"):
            os.utime(path, (when, when))


def test_old_modification_times(folder: Folder, undisturbed: Folder) -> None:
    """A copy or a clock set back: code counts by its contents, not by the times of its files."""
    set_times(folder, 1.0e8)
    output = folder.finish()
    assert "Nothing to be done" in output, output
    assert folder.results() == undisturbed.results()


def test_modification_times_in_the_future(folder: Folder, undisturbed: Folder) -> None:
    set_times(folder, 4.0e9)
    without(folder, *RULES["sops"])
    target = RULES["sops"][0]
    code, output = folder.run("--", target)
    assert code == 1 and "clock skew" in line_with(output, "older modification time")
    subprocess.run(["find", "data", "results", "-exec", "touch", "{}", "+"], cwd=folder.path, check=True)
    folder.finish("--", target)
    assert folder.results() == undisturbed.results()


def test_a_symlinked_results_folder(folder: Folder, undisturbed: Folder) -> None:
    (folder.path / "results").rename(folder.path / "elsewhere")
    (folder.path / "results").symlink_to("elsewhere")
    without(folder, *RULES["table"], *RULES["train"], CHECKPOINT)
    target = f"{K1}/weights.pt"
    folder.run("--", target, file=".phase1.checkpoint", call=2, when="after", action=KILL_JOB)
    assert "going on after epoch 2 of 4" in folder.finish("--", target, *RULES["table"])
    assert (folder.path / "results").is_symlink()
    assert folder.results() == undisturbed.results()


def test_another_config_in_the_same_folder(folder: Folder, undisturbed: Folder, tmp_path: Path) -> None:
    """Nothing of the other net is taken for this one's, and the way back gives the first results again."""
    target = f"{K1}/sop_num.txt"
    other = yaml.safe_load(folder.config.read_text())
    other["definitions"]["tiny"]["topology"] = "3C3-P2-5"
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
    without(folder, *RULES["train"], CHECKPOINT)
    folder.run("--", f"{K1}/weights.pt", file=".phase1.checkpoint", call=2, when="after", action=KILL_JOB)
    output = Folder(folder.path, tmp_path / "other.yaml").finish("--", target)
    assert "not used" in line_with(output, ".phase1.checkpoint: of another net")
    assert all(f"rule {rule}:" in output for rule in ("train", "convert", "evaluate"))
    assert folder.results()[target] != undisturbed.results()[target]
    folder.finish("--", target)
    assert folder.results() == undisturbed.results()


# ---- configurations


# ten of ten of ten ...: 10^9 entries in nine lines
BOMB = "nets:\n- &a0 [x]\n" + "".join(f"- &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "100,000 entries"),
        ("nets: &a [*a]\n", "an alias holds itself"),
    ],
    ids=["bomb", "cycle"],
)
def test_a_yaml_bomb_of_lists(text: str, words: str, folder: Folder, undisturbed: Folder, tmp_path: Path) -> None:
    (tmp_path / "bomb.yaml").write_text(text)
    code, output = Folder(folder.path, tmp_path / "bomb.yaml").run("--dry-run")
    assert code == 1 and line_with(output, words)
    assert folder.results() == undisturbed.results()
