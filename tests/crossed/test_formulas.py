import warnings

import pytest

from crossed.errors import InputError
from crossed.formulas import parse


def terms(text):
    """The fixed terms by their texts; the intercept is "1"."""
    return [":".join(factor.text for factor in term) or "1" for term in parse(f"y ~ {text} + (1 | run)").fixed]


def random(text):
    return [(term.slopes, term.group) for term in parse(f"y ~ x + {text}").random]


def test_the_parts_of_a_formula():
    read = parse("chrf ~ tokens*C( checkpoint ) - 1 + (1|run)+(1 | sentence)")
    assert (read.outcome.text, [term.group for term in read.random]) == ("chrf", ["run", "sentence"])
    assert terms("tokens*C( checkpoint ) - 1") == ["tokens", "C(checkpoint)", "tokens:C(checkpoint)"]
    assert parse("y ~ (1 | run)").fixed == ((),)
    assert parse("log(y) ~ 0 + x + (1 | run)").outcome.text == "log(y)"
    assert parse("y - x ~ 1 + (1 | run)").outcome.columns == ("y", "x")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a*b", "a + b + a:b"),
        ("a/b", "a + a:b"),
        ("a/(b + c)", "a + a:b + a:c"),
        ("(a + b)/c", "a + b + a:b:c"),
        ("a %in% b", "a:b"),
        ("a %in% b*c", "a:b + c + a:b:c"),
        ("(a + b + c)^2", "a + b + c + a:b + a:c + b:c"),
        ("(a + b + c)**3 - a:b:c", "(a + b + c)^2"),
        ("a*b*c", "a + b + a:b + c + a:c + b:c + a:b:c"),
        ("(a + b):c", "a:c + b:c"),
        ("a*b - a", "b + a:b"),
        ("a:a + a", "a"),
        ("((a)) + (((b)))", "a + b"),
        ("a + b - 1", "0 + a + b"),
        ("(0 + a)", "a - 1"),
        ("-1 + 1 + a", "a"),
        ("1:a", "a"),
        ("{a**2}", "I(a ** 2)"),
        ("I(a^2)", "I(a**2)"),
        ("`a`:`b c`", "a:`b c`"),
        ("np.log( a )", "np.log(a)"),
    ],
)
def test_operators_are_sums_of_products(one, other):
    assert terms(one) == terms(other)


def test_a_power_of_one_column_is_the_column_and_says_so_once():
    with pytest.warns(UserWarning, match=r"written I\(x\*\*2\)") as caught:
        assert terms("x**2") == ["1", "x"]
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert terms("(x + w)**2 + I(x**2)") == ["1", "x", "w", "x:w", "I(x ** 2)"]


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("(1 | run)", [("1", "run")]),
        ("(x | run)", [("x", "run")]),
        ("(0 + x | run)", [("0 + x", "run")]),
        ("(1 + x + z | run)", [("1 + x + z", "run")]),
        ("(x || run)", [("1", "run"), ("0 + x", "run")]),
        ("(1 + x + z || run)", [("1", "run"), ("0 + x", "run"), ("0 + z", "run")]),
        ("(0 + x || run)", [("0 + x", "run")]),
        ("(1 || run)", [("1", "run")]),
        ("(1 | run:sentence)", [("1", "run:sentence")]),
        ("(1 | run/sentence)", [("1", "run"), ("1", "run:sentence")]),
        ("(1 | a/b/c)", [("1", "a"), ("1", "a:b"), ("1", "a:b:c")]),
        ("(x || a/b)", [("1", "a"), ("0 + x", "a"), ("1", "a:b"), ("0 + x", "a:b")]),
        ("(x*w || run)", [("1", "run"), ("0 + x", "run"), ("0 + w", "run"), ("0 + x:w", "run")]),
        ("(-1 + x || run)", [("0 + x", "run")]),
        ("(x - 1 || run)", [("0 + x", "run")]),
        ("((1 | run))", [("1", "run")]),
        ("(1 | (run:sentence))", [("1", "run:sentence")]),
        ("(1 | `run id`/`a+b`)", [("1", "run id"), ("1", "run id:a+b")]),
        ("(scale(x) | run) + (1 | sentence)", [("scale(x)", "run"), ("1", "sentence")]),
    ],
)
def test_random_terms(text, terms):
    assert random(text) == terms


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y + (1 | run)", "exactly one '~'"),
        ("y ~ x ~ (1 | run)", "exactly one '~'"),
        (None, "exactly one '~'"),
        ("~ x + (1 | run)", "the outcome is missing"),
        ("y ~ x", "no random term"),
        ("y ~ (1 | run) + (1 | run)", r"\(1 \| run\) stands twice"),
        ("y ~ 1 + (1 | y)", "cannot be a grouping factor"),
        ("y ~ 1 + + (1 | run)", "a term is missing"),
        ("y ~ 1 + (1 | run) +", "a term is missing"),
        ("y ~ 1 + (1 | run", "brackets do not match"),
        ("y ~ 1) + (1 | run", "brackets do not match"),
        ("y ~ 1 + 1 | run", "stands in brackets"),
        ("y ~ x * (1 | run)", "stands in brackets"),
        ("y ~ x - (1 | run)", "must be added"),
        ("y ~ ((1 | run) + x)", "must be added, on its own"),
        ("y ~ (x | run | sentence)", "one bar"),
        ("y ~ ( | run)", "needs slopes"),
        ("y ~ (1 | )", "is not the name of a column"),
        ("y ~ (1 | run + sentence)", "is not the name of a column"),
        ("y ~ (1 | factor(run))", "is not the name of a column"),
        ("y ~ (1 | run:run)", "stands twice in the group"),
        ("y ~ x w + (1 | run)", r"reading stops at 'w' \(character 7\): an operator is missing"),
        ("y x ~ w + (1 | run)", r"'x' \(character 3\)"),
        ("y ~ x, w + (1 | run)", r"',' \(character 6\)"),
        ("y ~ (x w)*g + (1 | run)", r"'w' \(character 8\)"),
        ("y ~ x + (x w | run)", r"'w' \(character 12\)"),
        ("y ~ x + (1 | run s)", r"'s' \(character 18\)"),
        ("y ~ x (1 | run)", r"x\(\) .* is not known"),
        ("y ~ x:(1 | run)", "stands in brackets"),
        ("y ~ 1 x + (1 | run)", "operator is missing"),
        ("y ~ 1x + (1 | run)", "operator is missing"),
        ("y ~ x + 2 + (1 | run)", r"'2' \(character 9\): a number is no term"),
        ("y ~ 2*x + (1 | run)", "a number is no term"),
        ("y ~ 1e-7*w + (1 | run)", r"'1e-7' \(character 5\)"),
        ("y ~ np.pi*x + (1 | run)", r"'np.pi' \(character 5\): .*I\(np.pi\*x\)"),
        ("y ~ x == 1 + (1 | run)", r"comparisons stand in I\(\)"),
        ("y ~ x[1] + (1 | run)", r"'\[' \(character 6\)"),
        ("y ~ x $ w + (1 | run)", r"'\$' \(character 7\)"),
        ("y ~ `x + (1 | run)", "not closed"),
        ("y ~ x - w + (1 | run)", "taken out by '-', but no term"),
        ("y ~ (0 + x)*g + (1 | run)", "the intercept cannot be taken out"),
        ("y ~ x^w + (1 | run)", "a whole number"),
        ("y ~ x^0 + (1 | run)", "a whole number"),
        ("y ~ x.mean() + (1 | run)", r"x.mean\(\) .* is not known"),
        ("y ~ np.cumsum(x) + (1 | run)", r"np.cumsum\(\) .* is not known"),
        ("y ~ I(x if w else z) + (1 | run)", "operator is missing"),
        ("y ~ I(x := 2) + (1 | run)", "no arithmetic"),
        ("y + ~ x + (1 | run)", "no arithmetic"),
        ("y ~ () + (1 | run)", "a term is missing"),
        ("y ~ x + (1 | run*s)", "not the name of a column"),
    ],
)
def test_what_cannot_be_read(formula, message):
    with pytest.raises(InputError, match=message):
        parse(formula)
