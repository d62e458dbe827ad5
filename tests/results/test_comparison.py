"""Tables of documents are what their files say; no number in docs/results is typed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import ROOT, OneLine

from negspike.commands import main
from negspike.errors import InputError
from negspike.results.comparison import ZOU_2023, compare, read_numbers, update_document
from negspike.results.statistics import Statistics, read_statistics, write_statistics

THREE = [0.875, 0.9, 0.8875]
SMALL = {
    ("mlp", "k0", "accuracy"): Statistics.of(THREE),
    ("mlp", "k0", "settled_step"): Statistics.of([5.0, 4.0, 4.0]),
    ("mlp", "k0", "sops_per_image"): Statistics.of([70000.0, 69000.0, 68500.0]),
    ("mlp", "k0", "images"): Statistics.of([10000.0] * 3),
    ("mlp", "k0", "silent_images"): Statistics.of([10000.0, 9999.0, 10000.0]),
    ("mlp", "k0", "lossless_images"): Statistics.of([10000.0, 9999.0, 9999.0]),
    ("mlp", "k0", "neurons"): Statistics.of([8e6] * 3),
    ("mlp", "k0", "neurons_equal"): Statistics.of([8e6, 8e6, 8e6 - 1]),
    ("mlp", "k0", "predictions_of_float32_and_integer_ann_differ"): Statistics.of([0.0, 1.0, 1.0]),
    ("mlp", "k0", "predictions_of_integer_ann_and_spiking_network_differ"): Statistics.of([0.0] * 3),
    ("mine", "levels3", "accuracy"): Statistics.of([0.5]),
}
BLOCK = "before\n\n<!-- negspike compare run.csv -->\nof yesterday\n<!-- end -->\nbehind\n"


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def test_a_block_is_what_its_file_says(tmp_path: Path) -> None:
    write_statistics(tmp_path / "run.csv", SMALL)
    document = tmp_path / "page.md"
    document.write_text(BLOCK)
    assert main(["compare", "--update", str(document)]) == 0
    text = document.read_text()
    assert text.startswith("before\n\n<!-- negspike compare run.csv -->\n") and text.endswith("<!-- end -->\nbehind\n")
    assert "yesterday" not in text
    rows = cells(text)
    deviation = 0.0125  # of 0.875, 0.8875 and 0.9
    assert rows[2:5] == [
        [
            "mlp",
            "k0",
            "accuracy",
            "3",
            "88.75%",
            f"{deviation:.2%}",
            "87.50%",
            "90.00%",
            "88.90%",
            "-0.15 points",
            "yes",
        ],
        ["mlp", "k0", "settled step", "3", "4.3", "0.6", "4.0", "5.0", "5.0", "-0.7 steps", "yes"],
        ["mlp", "k0", "SOPs per image", "3", "69,167", "764", "68,500", "70,000", "68,266", "+1.3%", "no"],
    ]
    assert rows[7:] == [
        ["mlp", "k0", "3", "30,000", "29,999", "29,998", "24,000,000", "23,999,999", "2", "0"],
    ]
    assert update_document(document) == 1 and document.read_text() == text


@pytest.mark.parametrize("document", [ROOT / "docs/results/README.md"], ids=["results"])
def test_the_tables_of_the_documentation_are_those_of_the_files_beside_it(document: Path, tmp_path: Path) -> None:
    """If not: negspike compare --update docs/results/README.md."""
    for path in document.parent.glob("*.csv"):
        shutil.copy(path, tmp_path)
    text = document.read_text(encoding="utf-8")
    copy = tmp_path / "page.md"
    copy.write_text(text.replace("88.90%", "88.91%"), encoding="utf-8")
    update_document(copy)
    assert copy.read_text(encoding="utf-8") == text
    outside = "".join(part.partition("<!-- end -->")[2] for part in text.split("<!-- negspike compare ")[1:])
    assert cells(outside) == [], "a table outside of the blocks is typed"


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_statistics(tmp_path / "summary.csv", SMALL)
    assert read_statistics(tmp_path / "summary.csv") == SMALL


def test_levels_are_in_their_order() -> None:
    names = [("a", name, "accuracy") for name in ("levels15", "k1", "levels3", "fp32")]
    table = {key: Statistics.of([0.5]) for key in names}
    assert [row[1] for row in compare(table, table, "ours", "theirs")[1:]] == ["fp32", "k1", "levels3", "levels15"]


def test_curves_are_compared_by_what_they_end_at(tmp_path: Path) -> None:
    """Not by the mean over their steps."""
    rows = ["mlp,k0,1,0.5,9", "mlp,k0,2,0.75,12", "mlp,k0,3,0.75,12", "mlp,k1,5,0.5,3", "mlp,fp32,,0.8,"]
    (tmp_path / "curves.csv").write_text("\n".join(["net,precision,timestep,accuracy,sops_per_image", *rows]))
    found = {key[1:]: one.mean for key, one in read_numbers(tmp_path / "curves.csv").items()}
    assert found == {
        **{("k0", "accuracy"): 0.75, ("k0", "settled_step"): 2.0, ("k0", "sops_per_image"): 12.0},
        **{("k1", "accuracy"): 0.5, ("k1", "sops_per_image"): 3.0, ("fp32", "accuracy"): 0.8},
    }, "of k1 not every step is known, so neither is where it settles"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no block\n", ("page.md", "negspike compare RUN", "end")),
        (BLOCK.replace("<!-- end -->", ""), ("page.md", "<!-- end -->")),
        (BLOCK.replace("run.csv", "gone.csv"), ("gone.csv", "no such table")),
        (BLOCK.replace("run.csv", "run.csv a b"), ("page.md", "run.csv a b", "expected a run")),
        (BLOCK.replace("run.csv", "'run.csv"), ("page.md", "quotation")),
        (BLOCK.replace("run.csv", "run.csv theirs.csv"), ("no net in common",)),
    ],
)
def test_a_document_that_is_wrong_stays_as_it_is(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    write_statistics(tmp_path / "run.csv", SMALL)
    (tmp_path / "theirs.csv").write_text("net,k,accuracy\nlenet,0,0.9\n")
    (tmp_path / "page.md").write_text(text)
    with OneLine(InputError, *words):
        update_document(tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text() == text


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("mlp,k0,speed,1,1,,1,1", ("line 2", "speed", "unknown")),
        ("mlp,k0,accuracy,1,high,,1,1", ("summary.csv", "high")),
        ("mlp,half,accuracy,1,1,,1,1", ("half", "unknown")),
        ("mlp,k0,accuracy,1,1,,1,1\nmlp,k0,accuracy,1,1,,1,1", ("line 3", "twice")),
    ],
)
def test_a_summary_that_is_wrong_is_refused(tmp_path: Path, row: str, words: tuple[str, ...]) -> None:
    header = "net,precision,number,seeds,mean,standard_deviation,least,largest"
    (tmp_path / "summary.csv").write_text(f"{header}\n{row}\n")
    with OneLine(InputError, *words):
        read_numbers(tmp_path / "summary.csv")


def test_the_published_table_is_there() -> None:
    assert read_numbers(ZOU_2023)["cnn1", "k2", "settled_step"].mean == 94
