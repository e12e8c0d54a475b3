"""The claims: the file as it stands, the rule in every case, and what is refused, by file, line and key."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pandas as pd
import pytest
import yaml

from addends import tables
from addends.errors import DataError, InputError
from addends.statistics import cell, read_claims, verdict

ROOT = Path(__file__).parents[2]
FILE = ROOT / "book" / "claims.yaml"


@pytest.fixture(scope="module")
def claims():
    return read_claims(FILE)


# The rule


def test_exactly_one_verdict_holds_in_every_case():
    """All orders of the interval's ends, the estimate, 0 and the smallest effect, ties included, by the words."""
    values = [-0.2, -0.1, 0.0, 0.05, 0.1, 0.15, math.inf, -math.inf]
    seen = set()
    for lower, estimate, upper in itertools.product(values, repeat=3):
        if lower > upper:
            continue
        smallest = 0.1
        above = lower > 0
        said = {
            "supported": above and estimate >= smallest,
            "weakened": above and estimate < smallest,
            "contradicted": not above and upper < smallest,
            "cannot be said": lower <= 0 and upper >= smallest,  # the interval holds both
        }
        (only,) = [name for name, holds in said.items() if holds]
        assert verdict(lower, estimate, upper, smallest) == only
        seen.add(only)
    assert seen == set(said)


@pytest.mark.parametrize(
    ("numbers", "found"),
    [
        ((0.01, 0.10, 0.30), "supported"),
        ((0.01, 0.09, 0.30), "weakened"),
        ((0.01, 0.02, 0.03), "weakened"),
        ((0.00, 0.05, 0.09), "contradicted"),
        ((-0.3, -0.2, -0.1), "contradicted"),
        ((-0.1, 0.05, 0.10), "cannot be said"),
    ],
)
def test_verdicts_of_plain_cases(numbers, found):
    assert verdict(*numbers, smallest_effect=0.1) == found


@pytest.mark.parametrize(
    "numbers", [(0.2, 0.1, 0.1, 0.1), (math.nan, 0.1, 0.2, 0.1), (0, math.nan, 1, 0.1), (None, 0, 1, 0.1)]
)
def test_what_is_no_interval_has_no_verdict(numbers):
    with pytest.raises(InputError, match="no estimate and its interval"):
        verdict(*numbers)


@pytest.mark.parametrize("smallest", [0, -0.1, math.inf])
def test_a_smallest_effect_is_above_zero(smallest):
    with pytest.raises(InputError, match=r"smallest_effect=.* above 0"):
        verdict(0.1, 0.2, 0.3, smallest)


# The file


def test_the_books_claims_are_read_as_they_were_written(claims):
    written = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    assert claims.model_dump(mode="json") == written
    assert list(claims.claims) == ["A", "B", "C", "D"]


def test_claims_cannot_be_changed(claims):
    with pytest.raises(ValueError, match="frozen"):
        claims.claims["A"].smallest_effect = 0.0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    smallest_effect: 0.1\n", "    smallest_efect: 0.1\n", r"line \d+, claims\.A\.smallest_efect: Extra"),
        ("    smallest_effect: 0.1\n", "", r"line \d+, claims\.A\.smallest_effect: Field required"),
        (
            "    smallest_effect: 0.1\n",
            "    smallest_effect: -1\n",
            r"A\.smallest_effect: .*greater than 0.*-1",
        ),
        ("    smallest_effect: 0.1\n", "    smallest_effect: '0.1'\n", r"A\.smallest_effect: .*valid number.*'0.1'"),
        ("    correction: holm\n", "    correction: none\n", r"A\.correction: .*'holm' or 'fdr_bh'.*'none'"),
        ("layer: 3, term: S", "layer: 3.0, term: S", r"A\.primary\.layer: .*integer.*'3.0'"),
        ("term: S", "term: X", r"A\.primary\.term: .*'I', 'S'.*'X'"),
        ("method: sublayer", "method: null", r"A\.primary: .*do not belong together"),
        ("{method: sublayer, layer: 3, term: S", "{method: token, layer: 3, term: F", r"'F' is none of .*S, T, C"),
        ('unit: "share of variance"', 'unit: "  "', r"line \d+, claims\.B\.unit: "),
        ("level: 0.95\n", "level: 95\n", r"line 10, level: .*less than 1"),
        ("  weakened: ", "  weaker: ", r"rule\.weaker"),
        ("  - runs: 3\n", "  - runs: no\n", r"line \d+, known\.0\.runs: .*integer"),
        ("  B:\n", "  A:\n", r"line \d+: the key 'A' is given twice, first on line \d+"),
    ],
)
def test_what_is_wrong_is_named_by_file_line_and_key(tmp_path, old, new, said):
    text = FILE.read_text(encoding="utf-8")
    assert old in text
    altered = tmp_path / "claims.yaml"
    altered.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(DataError, match=rf"(?s)claims\.yaml does not hold valid claims:.*{said}"):
        read_claims(altered)


def test_the_line_is_the_one_where_the_key_stands(tmp_path):
    lines = FILE.read_text(encoding="utf-8").splitlines()
    number = next(place for place, line in enumerate(lines) if line.startswith("    family:"))
    lines[number] = "    family: 7"
    (tmp_path / "claims.yaml").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match=rf"line {number + 1}, claims\.A\.family: .*\(given: '7'\)"):
        read_claims(tmp_path / "claims.yaml")


def test_a_rule_that_lacks_a_verdict_is_refused(tmp_path):
    lines = [line for line in FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("  weakened")]
    (tmp_path / "claims.yaml").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match="does not say when the verdict is weakened"):
        read_claims(tmp_path / "claims.yaml")


@pytest.mark.parametrize("content", [b"a: [1", b"\xff\xfe\x00", b"- a\n- b\n", b""])
def test_what_is_no_yaml_mapping_is_refused_by_name(tmp_path, content):
    (tmp_path / "claims.yaml").write_bytes(content)
    with pytest.raises(DataError, match=r"claims\.yaml"):
        read_claims(tmp_path / "claims.yaml")
    with pytest.raises(DataError, match=r"absent\.yaml cannot be read"):
        read_claims(tmp_path / "absent.yaml")


# The primary cell


@pytest.fixture(scope="module")
def measured():
    return tables.read_suite(ROOT / "data" / "toy", "trajectories")


def test_a_cell_is_its_rows_and_no_others(claims, measured):
    primary = claims.claims["A"].primary.model_copy(update={"layer": 2})
    rows = cell(measured, primary)
    assert set(zip(rows["by"], rows["layer"], rows["term"], rows["target"], strict=True)) == {
        ("sublayer", 2, "S", "reference")
    }
    assert len(rows) == measured[["run", "checkpoint"]].drop_duplicates().shape[0]
    pd.testing.assert_frame_equal(
        tables.read_suite(ROOT / "data" / "toy", "trajectories", filters=primary.filters), rows.reset_index(drop=True)
    )


def test_the_block_counts_where_there_is_one(claims, measured):
    primary = claims.claims["A"].primary.model_copy(update={"layer": 2})
    first = measured["run"].iloc[0]
    blocks = measured.assign(block=measured["run"].where(measured["run"] != first, "independent"))
    assert set(cell(blocks, primary)["run"]) == {first}
    with pytest.raises(InputError, match=r"no row with .*block='independent'; block is"):
        cell(measured.assign(block="sizes"), primary)


def test_a_cell_that_is_not_there_is_refused_with_what_is(claims, measured):
    with pytest.raises(InputError, match=r"layer=3.*; layer is: 0, 1, 2"):
        cell(measured, claims.claims["A"].primary)
    with pytest.raises(InputError, match="table of pairs of runs"):
        cell(measured, claims.claims["C"].primary)
