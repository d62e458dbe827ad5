"""The configuration: what ships is right, what is wrong is answered with one line that names the key and the cure."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, OneLine

from negspike.config import resolve_config
from negspike.config_reference import BEGIN, DOCUMENTATION, END, json_schema, key_table, with_key_table
from negspike.config_reference import SCHEMA as JSON_SCHEMA
from negspike.data.registry import dataset_spec
from negspike.errors import InputError
from negspike.precision import Precision

PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
ABSENT = object()


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


@pytest.fixture
def config() -> dict[str, Any]:
    return load(ROOT / "config.yaml")


def change(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with another value at a dotted path; numbers are positions in lists, ABSENT takes the key away."""
    changed = copy.deepcopy(config)
    *folders, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    place: Any = changed
    for part in folders:
        place = place[part]
    if value is ABSENT:
        del place[last]
    else:
        place[last] = value
    return changed


def test_the_default_is_the_published_experiment(config: dict[str, Any]) -> None:
    experiment = resolve_config(config)
    assert experiment.nets == ("cnn1", "cnn2", "lenet", "mlp")
    assert (experiment.k, experiment.seeds, experiment.weight_bits, experiment.evaluation.batch_size) == (
        (0, 1, 2),
        (0,),
        16,
        50,
    )
    published = {
        "cnn1": ("cifar10", "96C3-256C3-P2-384C3-P2-384C3-256C3-P2-1024-1024", "same", 100),
        "cnn2": ("cifar10", "128C3-256C3-P2-512C3-P2-1024C3-512C3-P2-1024-512", "same", 100),
        "lenet": ("fashion_mnist", "32C5-P2-64C5-P2-1024", "valid", 20),
        "mlp": ("fashion_mnist", "400-400", "same", 40),
    }
    schedules = {
        "cnn1": [(100, 1e-3), (100, 1e-4)],
        "cnn2": [(100, 1e-3), (100, 1e-4)],
        "lenet": [(100, 1e-4)],
        "mlp": [(150, 1e-4)],
    }
    assert set(experiment.definitions) == set(published)
    for name, (dataset, topology, padding, timesteps) in published.items():
        definition = experiment.definitions[name]
        assert definition.topology.text == topology
        assert (definition.dataset, definition.topology.padding, definition.timesteps) == (dataset, padding, timesteps)
        assert definition.topology.width == 1.0
        assert [one.name for one in definition.quantization] == ["k0", "k1", "k2"]
        for precision in (Precision("fp32"), *definition.quantization):
            phases = definition.phases(precision)
            assert [(phase.epochs, phase.learning_rate) for phase in phases] == schedules[name]
            assert [phase.number for phase in phases] == list(range(1, len(schedules[name]) + 1))
            assert {phase.batch_size for phase in phases} == {200} and not definition.starts(precision)
    archive = experiment.sources["cifar10"]["archive"]
    assert archive.sha256 == "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
    assert archive.size == 170_052_171
    assert archive.url.endswith("cifar-10-binary.tar.gz")


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_every_preset_is_valid_as_snakemake_merges_it(preset: Path, config: dict[str, Any]) -> None:
    utils = pytest.importorskip("snakemake.utils", reason="Snakemake, which merges configurations, is not installed")
    utils.update_config(config, load(preset))
    experiment = resolve_config(config)
    assert set(experiment.nets) <= set(experiment.definitions)
    assert experiment.results != "results", "a preset's results must not lie in those of the published experiment"


def test_every_preset_has_its_own_folder() -> None:
    folders = [load(preset)["results"] for preset in PRESETS]
    assert len(set(folders)) == len(folders)


def schema_keys(schema: Any) -> Iterator[tuple[str, Any]]:
    """All properties, at any depth, each with its schema."""
    for section in (schema, *schema["$defs"].values()):
        for name, entry in section.get("properties", {}).items():
            yield name, schema["$defs"][entry["$ref"].rpartition("/")[2]] if "$ref" in entry else entry


def test_every_key_of_the_model_stands_in_the_default_file() -> None:
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    keys = {name for name, _ in schema_keys(json_schema())}
    assert {"quantization_levels", "weight_bits", "learning_rate", "sha256", "timesteps"} <= keys
    assert [key for key in sorted(keys) if not re.search(rf"\b{key}\b", text)] == []


def test_every_key_of_the_model_says_what_it_means() -> None:
    assert [name for name, entry in schema_keys(json_schema()) if not entry.get("description")] == []


def test_documentation_and_schema_are_those_of_the_model() -> None:
    """If not: python -m negspike.config_reference."""
    text = (ROOT / DOCUMENTATION).read_text(encoding="utf-8")
    assert key_table() in text and with_key_table(text) == text
    assert json.loads((ROOT / JSON_SCHEMA).read_text(encoding="utf-8")) == json_schema()
    for path in (ROOT / "config.yaml", *PRESETS):
        named = re.match(r"# yaml-language-server: \$schema=(.*)\n", path.read_text(encoding="utf-8"))
        assert named and (path.parent / named[1]).resolve() == ROOT / JSON_SCHEMA


def test_a_table_that_has_drifted_is_written_anew() -> None:
    text = f"before\n{BEGIN}\nof yesterday\n{END}\nbehind\n"
    assert with_key_table(text) == f"before\n{BEGIN}\n\n{key_table()}\n\n{END}\nbehind\n"


@pytest.mark.parametrize("path", [ROOT / "config.yaml", *PRESETS], ids=lambda path: path.stem)
def test_editors_find_nothing_wrong_in_what_ships(path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema, which comes with Snakemake, is not installed")
    validator = jsonschema.Draft202012Validator(json_schema())
    assert list(validator.iter_errors(load(path))) == []
    assert list(validator.iter_errors({"definitions": {"tiny": {"width": 0, "batch_size": 1}}, "seed": [1]}))[2:]


def test_every_value_is_explained_where_it_stands_first() -> None:
    explained: dict[str, bool] = {}
    for line in (ROOT / "config.yaml").read_text(encoding="utf-8").splitlines():
        match = re.match(r" *([a-z_0-9]+):", line)
        if match:
            explained.setdefault(match[1], "#" in line)
    # sections and nets' names explain themselves by what they hold; a file's three keys stand under 'datasets'
    spoken_for = {"evaluation", "cnn1", "cnn2", "lenet", "mlp", "cifar10", "fashion_mnist", "archive", "url", "sha256"}
    spoken_for |= {"size", "train_images", "train_labels", "test_images", "test_labels"}
    assert [key for key, has_comment in explained.items() if not has_comment and key not in spoken_for] == []


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        # misspelt
        ("weight_bit", 16, ["config key 'weight_bit' is unknown", "did you mean 'weight_bits'"]),
        ("evaluation.batchsize", 50, ["'evaluation.batchsize' is unknown", "did you mean 'batch_size'"]),
        ("definitions.cnn1.topolgy", "10", ["'definitions.cnn1.topolgy' is unknown", "did you mean 'topology'"]),
        ("definitions.cnn1.phases.1.epoch", 3, ["'definitions.cnn1.phases[1].epoch' is unknown", "'epochs'"]),
        ("datasets.cifar10.archive.sha", "00", ["'datasets.cifar10.archive.sha' is unknown", "'sha256'"]),
        ("datasets.cifar", {}, ["'datasets.cifar' is unknown", "'cifar10'"]),
        ("datasets.digits.url", "https://a", ["'datasets.digits.url' is unknown", "no key belongs here"]),
        ("xyzzy", 1, ["'xyzzy' is unknown", "there are results, data"]),
        # wrong type
        ("quantization_levels", 1, ["'quantization_levels' is 1", "a list"]),
        ("nets", "cnn1", ["'nets' is 'cnn1'", "a list"]),
        ("nets.0", 1, ["'nets[0]' is 1", "text"]),
        ("weight_bits", "16", ["'weight_bits' is '16'", "a whole number", "without quotes"]),
        ("weight_bits", 16.0, ["'weight_bits' is 16.0", "a whole number"]),
        ("weight_bits", True, ["'weight_bits' is True", "a whole number"]),
        ("quantization_levels", [1.0], ["'quantization_levels[0]' is 1.0", "a whole number"]),
        ("seeds.0", None, ["'seeds[0]' is None", "a whole number"]),
        ("evaluation", None, ["'evaluation' is None", "a mapping"]),
        ("definitions", [], ["'definitions' is []", "a mapping"]),
        ("definitions.cnn1", "96C3", ["'definitions.cnn1' is '96C3'", "a mapping"]),
        ("definitions.cnn1.phases.0.epochs", 100.0, ["'definitions.cnn1.phases[0].epochs' is 100.0", "a whole number"]),
        ("definitions.cnn1.phases.0.epochs", "1e2", ["'1e2'", "in plain digits"]),
        ("definitions.cnn1.width", float("inf"), ["'definitions.cnn1.width' is inf", "a finite number"]),
        ("definitions.cnn1.phases.0.learning_rate", float("nan"), ["learning_rate' is nan", "a finite number"]),
        ("definitions.cnn1.phases.0.learning_rate", "1e-3", ["learning_rate' is '1e-3'", "as text", "1.0e-3"]),
        ("results", "", ["'results' is ''", "not empty"]),
        # wrong value
        ("quantization_levels", [-1], ["'quantization_levels[0]' is -1", "at least 0"]),
        ("quantization_levels", [9], ["'quantization_levels[0]' is 9", "at most 8"]),
        ("quantization_levels", [], ["'quantization_levels' is []", "at least 1 entry"]),
        ("quantization_levels", [1, 1], ["'quantization_levels' is [1, 1]", "each entry once"]),
        ("nets", ["cnn1", "cnn1"], ["'nets' is", "each entry once"]),
        ("weight_bits", 25, ["'weight_bits' is 25", "at most 24"]),
        ("weight_bits", 1, ["'weight_bits' is 1", "at least 2"]),
        ("definitions.cnn1.width", 1e300, ["'definitions.cnn1.width' is 1e+300", "at most 1,000,000"]),
        ("definitions.cnn1.width", 1e5, ["'definitions.cnn1'", "layer '256C3'", "2.2e+15 weights", "10,000,000,000"]),
        ("definitions.mlp.topology", "9999999C1-9", ["layer '9' of topology '9999999C1-9'", "7.1e+10 weights"]),
        ("definitions.mlp.topology", 10**7, ["topology' is 10000000", "text or at most 9,999,999"]),
        ("definitions.mlp.timesteps", 10**10, ["timesteps' is 10000000000", "at most 1,000,000 or until_silent"]),
        ("definitions.mlp.batch_size", 10**7, ["'definitions.mlp.batch_size' is 10000000", "at most 1,000,000"]),
        ("definitions.mlp.batch_size", 1, ["'definitions.mlp.batch_size' is 1", "at least 2"]),
        ("definitions.mlp.phases.0.epochs", 10**7, ["phases[0].epochs' is 10000000", "at most 1,000,000"]),
        ("evaluation.batch_size", 10**7, ["'evaluation.batch_size' is 10000000", "at most 1,000,000"]),
        ("seeds", [2**32], ["'seeds[0]' is 4294967296", "at most 4,294,967,295"]),
        ("datasets.cifar10.archive.size", 10**16, ["archive.size'", "at most 1,000,000,000,000,000"]),
        ("datasets.cifar10.archive.size", "12", ["archive.size' is '12'", "a whole number or null", "plain digits"]),
        ("definitions.cnn1.phases", [], ["'definitions.cnn1.phases' is []", "at least 1 entry"]),
        ("definitions.cnn1.phases.0.learning_rate", 0, ["learning_rate' is 0", "more than 0"]),
        ("definitions.cnn1.width", -1, ["'definitions.cnn1.width' is -1", "more than 0"]),
        ("definitions.cnn1.padding", "smae", ["'definitions.cnn1.padding' is 'smae'", "did you mean 'same'"]),
        ("definitions.cnn1.dataset", "cifar", ["'definitions.cnn1.dataset' is 'cifar'", "did you mean 'cifar10'"]),
        ("device", "gpu", ["'device' is 'gpu'", "auto, cpu, cuda"]),
        ("evaluation.engine", "densee", ["'evaluation.engine' is 'densee'", "did you mean 'dense'"]),
        ("definitions.mlp.timesteps", "until_silence", ["timesteps' is 'until_silence'", "number or until_silent"]),
        ("definitions.mlp.timesteps", "100", ["timesteps' is '100'", "or until_silent; YAML reads 100 as text"]),
        ("definitions.mlp.timesteps", 0, ["timesteps' is 0", "at least 1"]),
        ("evaluation.timesteps_cap", 0, ["timesteps_cap' is 0", "at least 1"]),
        ("nets", ["cnn3"], ["'nets'", "net 'cnn3' has no definition", "did you mean"]),
        ("definitions.cnn1.topology", "96C3-P2-12X4", ["'definitions.cnn1'", "'12X4' at character 9"]),
        ("definitions.cnn1.topology", "P2-P2-P2-P2-P2-P2", ["'definitions.cnn1'", "too deep"]),
        ("definitions.my-net", {}, ["'definitions' has an entry 'my-net'", "letters, digits and _"]),
        ("datasets.cifar10.archive.url", "/data/cifar.tar.gz", ["archive.url' is '/data/cifar.tar.gz'", "file"]),
        ("datasets.cifar10.archive.sha256", "abc", ["archive.sha256' is 'abc'", "[0-9a-f]{64}"]),
        # missing
        ("weight_bits", ABSENT, ["config key 'weight_bits' is missing"]),
        ("definitions.mlp.padding", ABSENT, ["'definitions.mlp.padding' is missing"]),
        ("datasets.cifar10.archive.sha256", ABSENT, ["'datasets.cifar10.archive.sha256' is missing"]),
        ("definitions.cnn_1", {"width": 0.5}, ["'definitions.cnn_1.dataset' is missing", "did you mean 'cnn1'"]),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_key(
    path: str, value: Any, words: list[str], config: dict[str, Any]
) -> None:
    with OneLine(InputError, *words):
        resolve_config(change(config, path, value))


def test_a_misspelt_key_is_named_rather_than_the_one_missing_for_it(config: dict[str, Any]) -> None:
    changed = change(change(config, "definitions.mlp.timesteps", ABSENT), "definitions.mlp.timestep", 40)
    with OneLine(InputError, "'definitions.mlp.timestep' is unknown", "did you mean 'timesteps'"):
        resolve_config(changed)


@pytest.mark.parametrize("name", [1, True, None, 1.5])
def test_a_name_that_yaml_does_not_read_as_text(name: Any, config: dict[str, Any]) -> None:
    config["definitions"][name] = config["definitions"]["mlp"]
    with OneLine(InputError, f"'definitions.{name}'", "in quotes"):
        resolve_config(config)


def test_a_name_inside_a_list_that_yaml_does_not_read_as_text(config: dict[str, Any]) -> None:
    with OneLine(InputError, "'definitions.mlp.phases[0].False'", "in quotes"):
        resolve_config(change(config, "definitions.mlp.phases.0", {False: 1}))


@pytest.mark.parametrize("number", [10**400, -(10**400), 16**5000], ids=["large", "small", "too large for text"])
@pytest.mark.parametrize(
    "path",
    [
        *("results", "weight_bits", "seeds", "seeds.0", "device", "evaluation.batch_size", "evaluation.engine"),
        *("definitions.cnn1.width", "definitions.cnn1.topology", "definitions.cnn1.timesteps", "nets.0", "data"),
        *(
            "definitions.cnn1.phases.0.learning_rate",
            "definitions.cnn1.phases.0.epochs",
            "datasets.cifar10.archive.size",
        ),
    ],
)
def test_a_number_of_thousands_of_digits(path: str, number: int, config: dict[str, Any]) -> None:
    name = re.sub(r"\.(\d)", r"[\1]", path)
    with OneLine(InputError, f"config key '{name}' is ", "..." if abs(number) < 16**5000 else "thousands of digits"):
        resolve_config(change(config, path, number))


def test_a_name_that_is_a_number_of_thousands_of_digits(config: dict[str, Any]) -> None:
    with OneLine(InputError, "'a number of thousands of digits' is not text (int)"):
        resolve_config({**config, 16**5000: 1})  # type: ignore[dict-item]


def test_a_name_of_many_lines_is_answered_with_one(config: dict[str, Any]) -> None:
    with OneLine(InputError, r"config key 'a\nb' is unknown"):
        resolve_config({**config, "a\nb": 1})


@pytest.mark.parametrize("empty", [None, [], "cnn1"])
def test_a_config_that_is_no_mapping(empty: Any) -> None:
    with OneLine(InputError, "the config is", "a mapping"):
        resolve_config(empty)


def test_a_long_value_is_cut_short(config: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        resolve_config(change(config, "quantization_levels", dict.fromkeys(map(str, range(10_000)))))
    assert len(str(caught.value)) < 200


def test_whole_numbers_are_as_good_as_decimal_ones(config: dict[str, Any]) -> None:
    changed = change(change(config, "definitions.mlp.width", 2), "definitions.mlp.phases.0.learning_rate", 1)
    definition = resolve_config(changed).definitions["mlp"]
    assert definition.science()["width"].__class__ is float
    assert definition.topology.width.__class__ is float
    assert definition.phases(Precision("fp32"))[0].learning_rate.__class__ is float


def test_a_topology_of_one_dense_layer_is_a_number_to_yaml(config: dict[str, Any]) -> None:
    experiment = resolve_config(change(config, "definitions.mlp.topology", 400))
    assert experiment.definitions["mlp"].science()["topology"] == "400"


def test_the_size_of_a_file_may_be_unknown(config: dict[str, Any]) -> None:
    for value in (None, ABSENT):
        experiment = resolve_config(change(config, "datasets.cifar10.archive.size", value))
        assert experiment.sources["cifar10"]["archive"].size is None


def test_a_slash_behind_a_folder_makes_no_difference(config: dict[str, Any]) -> None:
    experiment = resolve_config({**config, "results": "out/", "data": "/"})
    assert (experiment.results, experiment.data) == ("out", "/")


@pytest.mark.parametrize("key", ["results", "data"])
@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("~/neg", "/people/me/neg"),
        ("$HOME/neg", "/people/me/neg"),
        ("${SCRATCH}/neg/", "/scratch/me/neg"),
        ("../my results/größe", "../my results/größe"),
        ("$UNSET/neg", None),
        ("~nobody-of-that-name/neg", None),
        ("res/{net}", None),
        ("<res>", None),
        ("a\0b", None),
        ("res/\ud800", None),
        ("two\nlines", None),
    ],
)
def test_folders_are_what_a_shell_means(
    key: str, text: str, meant: str | None, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/people/me")
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    monkeypatch.delenv("UNSET", raising=False)
    if meant is None:
        with OneLine(InputError, f"config key '{key}' is"):
            resolve_config(config | {key: text})
    else:
        assert getattr(resolve_config(config | {key: text}), key) == meant


def test_resolving_does_not_depend_on_the_order_of_keys(config: dict[str, Any]) -> None:
    turned = {key: dict(reversed(value.items())) if key == "datasets" else value for key, value in config.items()}
    first, second = resolve_config(config), resolve_config(turned)
    assert [list(files) for _, files in sorted(first.sources.items())] == [
        list(files) for _, files in sorted(second.sources.items())
    ]


def test_precisions() -> None:
    parsed = [Precision.parse(name) for name in ("fp32", "k0", "k2", "levels3", "levels15")]
    assert [(one.k, one.levels) for one in parsed] == [(None, None), (0, None), (2, None), (None, 3), (None, 15)]
    assert [one.name for one in sorted(parsed, reverse=True)] == ["levels15", "levels3", "k2", "k0", "fp32"]
    assert [str(one) for one in parsed] == ["FP32", "k = 0", "k = 2", "3 levels", "15 levels"]
    for name in ("fp16", "k", "k-1", "k1\n", "k١", "2", "levels", "levels0"):
        with OneLine(InputError, repr(name), "fp32, k0"):
            Precision.parse(name)


def own(**changes: Any) -> dict[str, Any]:
    """A data set of one's own; None leaves a key out."""
    file = {"url": "file:///images.zip", "sha256": "0" * 64}
    entry = {"format": "image_folder", "archive": file, "image_shape": [3, 24, 40], "classes": 5} | changes
    return {key: value for key, value in entry.items() if value is not None}


def test_k_from_scratch_needs_a_phase(config: dict[str, Any]) -> None:
    """Weights are the FP32 net's, and a topology's quantised ones begin anew."""
    config["definitions"]["cnn1"] |= {"phases": [], "weights": "w.safetensors"}
    with OneLine(InputError, "'definitions.cnn1.phases' is []", "k from scratch", "'init: fp32'"):
        resolve_config(config)
    config["definitions"]["cnn1"]["init"] = "fp32"
    assert resolve_config(config).definitions["cnn1"].phases(Precision("k", 1)) == ()


def test_a_model_on_data_of_ones_own(config: dict[str, Any]) -> None:
    config["datasets"]["leaves"] = own(resize=True, crop=[20, 32], mean=[0.5] * 3, std=[0.2] * 3)
    config["definitions"]["mine"] = {
        **{"dataset": "leaves", "model": "my_nets.py:build", "arguments": {"num_classes": 5}, "timesteps": 9},
        **{
            "batch_size": 20,
            "phases": [],
            "weights": "w.safetensors",
            "quantization": [{"levels": 3}, 1, {"levels": 15}],
        },
        "finetuning": [{"epochs": 2, "learning_rate": 1e-4}],
    }
    mine = resolve_config(config).definitions["mine"]
    assert mine.spec.input_shape == (3, 20, 32) and mine.spec.classes == 5
    assert [one.name for one in mine.quantization] == ["k1", "levels3", "levels15"]
    assert mine.phases(Precision("fp32")) == () and mine.starts(Precision("fp32"))
    assert [phase.epochs for phase in mine.phases(Precision("levels", 3))] == [2] and mine.starts(Precision("k", 1))
    science = mine.science()
    assert science["model"] == "my_nets.py:build" and "topology" not in science
    assert dataset_spec(json.loads(json.dumps(science))["dataset"]) == mine.spec


def test_a_topology_from_its_fp32_weights(config: dict[str, Any]) -> None:
    config["definitions"]["mlp"] |= {"init": "fp32", "finetuning": [{"epochs": 2, "learning_rate": 1e-4}]}
    mlp = resolve_config(config).definitions["mlp"]
    assert [phase.plain() for phase in mlp.phases(Precision("k", 1))] == [
        {"number": 1, "epochs": 2, "learning_rate": 1e-4, "batch_size": 200, "recipe": "published"}
    ]
    asked = {"distillation": 0.5, "temperature": 2.0, "spike_penalty": 0.1}
    config["definitions"]["mlp"]["finetuning"][0] |= asked
    mlp = resolve_config(config).definitions["mlp"]
    assert asked.items() <= mlp.phases(Precision("k", 1))[0].plain().items()
    assert [phase.epochs for phase in mlp.phases(Precision("k", 1))] == [2] and mlp.starts(Precision("k", 1))
    assert [phase.epochs for phase in mlp.phases(Precision("fp32"))] == [150] and not mlp.starts(Precision("fp32"))


FINETUNING = {"epochs": 2, "learning_rate": 1e-4}
MINE = {
    "dataset": "digits",
    "model": "a.b",
    "timesteps": 9,
    "batch_size": 2,
    "phases": [{"epochs": 1, "learning_rate": 1}],
}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("definitions.cnn1.model", "a.b", ["'definitions.cnn1.topology' does not go with 'model'"]),
        ("definitions.cnn1.model", "resnet18", ["'definitions.cnn1.model' is 'resnet18'", "text that matches"]),
        ("definitions.cnn1.arguments", {"a": 1}, ["'definitions.cnn1.arguments' belongs to 'model'"]),
        ("definitions.cnn1.topology", ABSENT, ["'definitions.cnn1.topology' is missing", "'model'"]),
        ("definitions.cnn1.quantization", [{"levels": 0}], ["quantization[0].levels' is 0", "at least 1"]),
        ("definitions.cnn1.quantization", [{"level": 3}], ["quantization[0].level' is unknown", "'levels'"]),
        ("definitions.cnn1.quantization", [9], ["quantization[0]' is 9", "at most 8"]),
        ("definitions.cnn1.quantization", [1, {"levels": 3}, {"levels": 3}], ["each entry once"]),
        ("definitions.cnn1.init", "fp16", ["'definitions.cnn1.init' is 'fp16'", "scratch, fp32"]),
        ("definitions.cnn1.finetuning", [{"epochs": 0}], ["finetuning[0]"]),
        ("definitions.cnn1.finetuning", [FINETUNING | {"distillation": 2}], ["finetuning[0].distillation' is 2"]),
        ("definitions.cnn1.finetuning", [FINETUNING | {"spike_penalty": -1}], ["[0].spike_penalty' is -1"]),
        ("definitions.cnn1.finetuning", [FINETUNING | {"temperature": 4}], ["temperature' belongs to 'distillation'"]),
        ("definitions.cnn1.finetuning", [FINETUNING], ["'definitions.cnn1.finetuning' belongs to 'init: fp32'"]),
        (
            "definitions.cnn1.reconstruction",
            9,
            ["'definitions.cnn1.reconstruction' is 9", "levels, of which there are"],
        ),
        ("definitions.cnn1.phases", [FINETUNING | {"spike_penalty": 1}], ["phases[0].spike_penalty' is unknown"]),
        ("definitions.cnn1.finetuning", [FINETUNING | {"translation": -1}], ["[0].translation' is -1"]),
        (
            "definitions.cnn1.phases",
            [FINETUNING | {"initial_resolution": 0}],
            ["initial_resolution' is 0", "more than 0"],
        ),
        ("definitions.cnn1.finetuning", [FINETUNING | {"initial_resolution": 0.5}], ["resolution' is unknown"]),
        ("definitions.mlp.phases", [FINETUNING | {"translation": 2}], ["phases[0].translation' is 2", "fashion_mnist"]),
        ("definitions.mine", MINE | {"width": 1.0}, ["'definitions.mine.width' does not go with 'model'"]),
        ("definitions.mine", MINE | {"arguments": [3]}, ["'definitions.mine.arguments' is [3]", "a mapping"]),
        ("definitions.mine", MINE | {"dataset": "digit"}, ["'definitions.mine.dataset' is 'digit'", "'digits'"]),
        ("datasets.leaves", own(format="folder"), ["'datasets.leaves.format' is 'folder'", "image_folder"]),
        ("datasets.leaves", own(classes=None), ["'datasets.leaves.classes' is missing"]),
        ("datasets.leaves", own(image_shape=[24, 40]), ["'datasets.leaves.image_shape"]),
        ("datasets.leaves", own(archive=None), ["'datasets.leaves' has no file", "archive or folder"]),
        ("datasets.leaves", own(folder="images"), ["'datasets.leaves' has archive, folder"]),
        ("datasets.leaves", own(mean=[0.5], std=[0.2]), ["config key 'datasets.leaves': ", "1 mean", "3"]),
        ("datasets.leaves", own(crop=[50, 50]), ["config key 'datasets.leaves': ", "crop"]),
        ("datasets.leaves", own(standardize=True, pixel_levels=16), ["'datasets.leaves.pixel_levels' has no effect"]),
        ("datasets.leaves", own(augmentation="flip"), ["augmentation' is 'flip'", "crop_mirror"]),
        ("datasets.leaves", own(colour=3), ["'datasets.leaves.colour' is unknown"]),
        ("datasets.my-leaves", own(), ["'datasets.my-leaves' is unknown"]),
    ],
)
def test_what_is_wrong_with_models_levels_and_own_data(
    path: str, value: Any, words: list[str], config: dict[str, Any]
) -> None:
    with OneLine(InputError, *words):
        resolve_config(change(config, path, value))
