import pytest

from addends.errors import InputError
from addends.statistics.linear_mixed.formulas import parse


def random(text):
    return [(term.slopes, term.group) for term in parse(f"y ~ x + {text}").random]


def test_the_parts_of_a_formula():
    read = parse("chrf ~ tokens*C( checkpoint ) - 1 + (1|run)+(1 | sentence)")
    assert (read.outcome, read.fixed, read.groups) == ("chrf", "tokens*C( checkpoint ) - 1", ("run", "sentence"))
    assert parse("y ~ (1 | run)").fixed == "1"
    assert parse("log(y) ~ 0 + x + (1 | run)").outcome == "log(y)"


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
        ("y ~ (x - 1 || run)", "before a double bar"),
    ],
)
def test_what_cannot_be_read(formula, message):
    with pytest.raises(InputError, match=message):
        parse(formula)
