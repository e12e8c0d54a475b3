import numpy as np
import pandas as pd
import pytest

from crossed.errors import InputError
from crossed.expressions import expression
from crossed.factors import Categories, Factor


@pytest.fixture(scope="module")
def table():
    generator = np.random.default_rng(0)
    data = pd.DataFrame(generator.normal(size=(30, 2)), columns=["x", "w"])
    return data.assign(n=np.arange(30) % 5, g=np.tile(list("abc"), 10), **{"BLEU-4": generator.normal(size=30)})


def factor(text):
    return Factor(expression(text, "here"), "here")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("x", lambda d: d["x"]),
        ("`BLEU-4`", lambda d: d["BLEU-4"]),
        ("x - `BLEU-4`/2", lambda d: d["x"] - d["BLEU-4"] / 2),
        ("I(x^2 + 1e-7*w)", lambda d: d["x"] ** 2 + 1e-7 * d["w"]),
        ("-x", lambda d: -d["x"]),
        ("sin(x)", lambda d: np.sin(d["x"])),
        ("log(abs(x) + 1)", lambda d: np.log(d["x"].abs() + 1)),
        ("np.where(x > 0, x, 0)", lambda d: d["x"].clip(lower=0)),
        ("I(np.pi*x)", lambda d: np.pi * d["x"]),
        ("I((x > 0) - (w > 0))", lambda d: (d["x"] > 0) * 1.0 - (d["w"] > 0)),
        ("I(g == 'b')", lambda d: d["g"] == "b"),
        ("I(g > 'a')", lambda d: d["g"].isin(["b", "c"])),
        ("I(x > 1/2 & w > 0)", lambda d: (d["x"] > 0.5) & (d["w"] > 0)),  # as in R; Python takes (1/2 & w) together
        ("I(x > 0 | w > 0 & n > 2)", lambda d: (d["x"] > 0) | ((d["w"] > 0) & (d["n"] > 2))),
        ("I((x > 0) & (w > 0))", lambda d: (d["x"] > 0) & (d["w"] > 0)),
        ("I(x * 2**3)", lambda d: 8 * d["x"]),
        ("scale(x)", lambda d: (d["x"] - d["x"].mean()) / d["x"].std(ddof=0)),
        ("binary(g, 'c')", lambda d: d["g"] == "c"),
    ],
)
def test_an_expression_is_the_column_made_beforehand(table, text, values):
    found = factor(text).learn(table)
    assert found.dtype == "float64"
    np.testing.assert_allclose(found, values(table).to_numpy(dtype=float), rtol=1e-15)


@pytest.mark.parametrize(
    "text",
    ["scale(x)", "center(x)", "bs(x, df=4)", "poly(x, 2)", "I(x - np.mean(x))", "C(n)", "C(x > 0)", "C(n % 2)", "S(g)"],
)
def test_other_rows_are_seen_with_what_the_fit_has_learnt(table, text):
    learnt, few = factor(text), table.iloc[[3, 11, 4]]
    first, again = learnt.learn(table), learnt.again(few)
    if isinstance(first, Categories):
        assert again.levels == first.levels
        first, again = first.codes, again.codes
    np.testing.assert_allclose(again, first[[3, 11, 4]], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "Int8", "bool", "float16", "int8[pyarrow]"])
@pytest.mark.parametrize("text", ["I(n**9)", "n*100", "-n - 1", "I(300*n)"])
def test_small_types_count_as_float64(table, kind, text):
    small = table.assign(n=table["n"] % 2 if kind == "bool" else table["n"]).astype({"n": kind})
    np.testing.assert_array_equal(factor(text).learn(small), factor(text).learn(small.astype({"n": "float64"})))


@pytest.mark.parametrize("ordered", [True, False])
def test_the_first_category_is_the_base(table, ordered):
    kinds = pd.Categorical(table["g"], categories=["c", "a", "b"], ordered=ordered)
    for text in ("g", "C(g)"):
        assert factor(text).learn(table.assign(g=kinds)).levels == ("c", "a", "b")
        assert factor(text).learn(table).levels == ("a", "b", "c")
    assert factor("C(g, levels=['b', 'a', 'c'])").learn(table).levels == ("b", "a", "c")


@pytest.mark.parametrize("name", ["np", "S", "T", "C", "I", "log", "Sum", "class", "x.y", "µ", "_column_0"])
def test_names_with_a_meaning_are_columns_where_columns_stand(table, name):
    data = table.rename(columns={"x": name})
    np.testing.assert_array_equal(factor(name).learn(data), table["x"])
    np.testing.assert_array_equal(factor(f"I(2*{name})").learn(data), 2 * table["x"])
    assert factor(f"I(2*{name})").read.columns == (name,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("I(g + 1)", "'g' holds .*, not numbers"),
        ("scale(g)", "'g' holds .*, not numbers"),
        ("I()", "holds not one expression"),
        ("C()", "holds no column"),
        ("log(x, w, n, g)", "here"),
        ("np.mean(x)", "not one number a row"),
        ("I(3)", "not one number a row"),
        ("T(g, 'q')", "'q' is none of the levels"),
        ("C(g, levels=['a', 'b'])", "leaves out levels"),
        ("C(g, 3)", "a category is written"),
        ("C(g, colour='red')", "a category is written"),
        ("bs(x)", "cannot be computed"),
    ],
)
def test_what_cannot_be_computed(table, text, message):
    with pytest.raises(InputError, match=message):
        factor(text).learn(table)


def test_a_level_that_the_fit_has_not_seen(table):
    learnt = factor("g")
    learnt.learn(table)
    with pytest.raises(InputError, match="cannot be computed from the new data"):
        learnt.again(table.assign(g="z"))


@pytest.mark.parametrize(("text", "levels"), [("I(o > 'a')", "b"), ("I(o <= 'a')", "ca"), ("I('c' < o)", "ab")])
def test_ordered_categories_are_compared_in_their_order(table, text, levels):
    data = table.assign(o=pd.Categorical(table["g"], list("cab"), ordered=True))
    learnt = factor(text)
    wanted = table["g"].isin(list(levels)).to_numpy(dtype=float)
    assert learnt.learn(data).tolist() == wanted.tolist()
    plain = data.assign(o=table["g"])  # the order is the fit's, whatever the new rows say of it
    assert learnt.again(plain).tolist() == wanted.tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("I(o > 'a')", "the categories of 'o' have no order to compare by"),
        ("I(p > 'z')", r"a level that is none of \['c', 'a', 'b'\]"),
        ("where(n == '1', x, w)", "\"n == '1'\" compares a text with numbers"),
        ("C(g, levels='bac')", r"the levels are a list"),
        ("I(x, w)", r"'I\(x, w\)' holds not one expression"),
        ("(x, w)", "is not one number a row"),
        ("I('x')", "is not one number a row"),
        ("I(9**9**9*x)", "cannot be computed from the data"),
    ],
)
def test_what_reads_like_something_else_is_refused(table, text, message):
    data = table.assign(
        o=pd.Categorical(table["g"], list("cab")), p=pd.Categorical(table["g"], list("cab"), ordered=True)
    )
    with pytest.raises(InputError, match=message):
        factor(text).learn(data)
