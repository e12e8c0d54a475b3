import formulae
import numpy as np
import pandas as pd
import pytest

from crossed.errors import InputError
from crossed.formulas import parse
from crossed.matrices import matrix


@pytest.fixture(scope="module")
def table():
    generator = np.random.default_rng(0)
    data = pd.DataFrame(generator.normal(size=(120, 3)), columns=["y", "x", "w"])
    return data.assign(g=np.tile(list("abc"), 40), h=np.tile(list("uuvv"), 30), k=np.tile([1, 2, 3, 4, 5], 24))


def columns(text, table):
    return matrix(parse(f"y ~ {text} + (1 | run)").fixed, table, "here")


def rank(values):
    return np.linalg.matrix_rank(values)


@pytest.mark.parametrize(
    ("text", "written_out"),
    [
        ("g/x", "g + g:x"),
        ("g/h", "g + g:h"),
        ("(g + h)/x", "g + h + g:h:x"),
        ("0 + (x + w)*g", "0 + g + g:x + g:w"),
        ("C(k):g", "C(k)*g"),
        ("g:h + g", "g*h"),
        ("x + g:x", "g:x + x"),
        ("0 + x:g + g", "0 + g + x:g"),
        ("S(g)*h", "g*h"),
        ("T(g, 'c')*x", "g*x"),
        ("g:h:x + x", "x + g:x + h:x + g:h:x"),
    ],
)
def test_two_ways_of_writing_span_one_space_and_no_column_is_too_many(table, text, written_out):
    one, two = (columns(each, table).columns for each in (text, written_out))
    assert rank(one) == one.shape[1]
    assert rank(two) == two.shape[1] == one.shape[1]
    assert rank(np.hstack([one, two])) == one.shape[1]


def test_an_interaction_without_its_main_effects_spans_all_cells(table):
    cells = pd.get_dummies(table["g"] + table["h"]).to_numpy(dtype=float)
    for text in ("g:h", "0 + g:h", "g*h", "g + g:h", "h/g"):
        found = columns(text, table).columns
        assert rank(found) == found.shape[1] == rank(np.hstack([found, cells])) == 6


@pytest.mark.parametrize(
    "text",
    [
        "g*h", "x*g + w", "g:h + x", "0 + g + h", "0 + g:h", "C(k):x", "g + g:x", "S(g)", "T(g, 'b')", "0 + S(g)",
        "poly(x, 2)", "bs(x, df=4)", "x*w*g", "(x + w + g)**2", "scale(x):g", "h:g", "x + h:g", "g:x + x + g",
        "0 + x*g", "I(x**2) + {w**2}",
    ],
)  # fmt: skip
def test_names_and_columns_are_those_of_the_library_formulae(table, text):
    theirs = formulae.design_matrices(text, table).common
    names = [label for name, term in theirs.terms.items() for label in ([name] if term.labels is None else term.labels)]
    ours = columns(text, table)
    assert list(ours.names) == names
    np.testing.assert_allclose(ours.columns, np.asarray(theirs.design_matrix, dtype=float), atol=1e-12)
    np.testing.assert_allclose(ours.again(table.iloc[7:20]), ours.columns[7:20], atol=1e-12)


def test_a_column_named_like_a_function_is_not_taken_for_it(table):
    both = table.assign(**{"abs(x)": table["w"]})
    np.testing.assert_array_equal(columns("`abs(x)`", both).columns[:, 1], table["w"])
    np.testing.assert_array_equal(columns("abs(x)", both).columns[:, 1], table["x"].abs())
    with pytest.raises(InputError, match=r"a column is named 'abs\(x\)', as a function"):
        columns("`abs(x)` + abs(x)", both)
