r"""How often does an interval of the run's variance, or of its share, hold the truth? A simulation at few runs.

The design is the balanced crossing of R runs and S sentences, one value a cell::

    y_rs = mu + a_r + b_s + e_rs,    a ~ N(0, A),  b ~ N(0, B),  e ~ N(0, E),    A + B + E = 1

No tables are simulated, only what the methods look at, with its exact distribution. Sentences turned by an orthogonal
matrix whose first row is constant leave the means of the runs, m, and independent of them W = sum of w_k w_k' over the
S - 1 other directions::

    m ~ N(mu, (A + E / S) I + (B / S) 1 1'),    W ~ Wishart(S - 1, E I + B 1 1')

    M_a = S var(m),    M_b = 1'W 1 / (R (S - 1)),    M_c = (trace W - 1'W 1 / R) / ((R - 1)(S - 1))

Three intervals are compared: the profile of the restricted likelihood, the generalised one
(:func:`crossed.balanced.crossed_shares`), and, as a warning, the percentile bootstrap that draws whole runs with
replacement.

The restricted likelihood depends on the three mean squares only, whose expectations L are the distinct eigenvalues of
the covariance of y, so that one value held (the run's SD, or its share) leaves a minimum over one number::

    -2 log L_R = sum_j df_j (log L_j + M_j / L_j) + constant,    L = (E + S A, E + R B, E),    A, B >= 0

The limits found so are those of `MixedFit.profile_intervals` of the same table, without its fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import elementwise
from tqdm.auto import tqdm

from crossed.checks import check_choice, check_level
from crossed.errors import InputError
from crossed.pivots import pivotal_quantities

METHODS = ("REML profile", "generalised", "percentile bootstrap over runs")
QUANTITIES = ("sd", "share")
GRID_POINTS = 16


@dataclass(frozen=True)
class Crossing:
    """A balanced crossing and its true shares of variance: ``Crossing(runs=6, sentences=300, share=0.05)``.

    Attributes
    ----------
    runs, sentences : int
        Two runs or more, and more sentences than runs.
    share, sentence : float
        True shares of the run and of the sentence; the rest is residual.
    """

    runs: int
    sentences: int
    share: float
    sentence: float = 0.3

    def __post_init__(self) -> None:
        if self.runs < 2 or self.sentences <= self.runs:
            raise InputError(
                f"Crossing: runs={self.runs!r}, sentences={self.sentences!r}: two runs or more, and more sentences "
                "than runs, are needed."
            )
        if min(self.share, self.sentence) < 0 or self.share + self.sentence >= 1:
            raise InputError(
                f"Crossing: share={self.share!r}, sentence={self.sentence!r}: shares are 0 or more and leave some of "
                "the variance, 1, to the residual."
            )

    @property
    def df(self) -> np.ndarray:
        """Degrees of freedom of the mean squares of run, sentence, and interaction + residual."""
        return np.array([self.runs - 1, self.sentences - 1, (self.runs - 1) * (self.sentences - 1)])

    @property
    def weights(self) -> np.ndarray:
        """(component, mean square): the moment estimates are ``weights @ mean squares``."""
        rows = np.array([[1.0, 0, -1], [0, 1, -1], [0, 0, 1]])
        return rows / np.array([[self.sentences], [self.runs], [1]])

    def draw(self, simulations: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The sufficient statistics of ``simulations`` tables: m (simulation, run) and W (simulation, run, run)."""
        residual = 1 - self.share - self.sentence
        shared = np.ones((self.runs, self.runs))
        spread = (self.share + residual / self.sentences) * np.eye(self.runs) + self.sentence / self.sentences * shared
        means = generator.multivariate_normal(np.zeros(self.runs), spread, size=simulations, method="cholesky")
        scale = residual * np.eye(self.runs) + self.sentence * shared
        return means, stats.wishart(self.sentences - 1, scale).rvs(simulations, random_state=generator)

    def mean_squares(self, means: np.ndarray, products: np.ndarray, draws: np.ndarray | None = None) -> np.ndarray:
        """Mean squares (..., 3) of each simulation or, of one, with run r taken ``draws[i, r]`` times."""
        if draws is None:
            draws = np.ones(self.runs)
        mean = (draws * means).sum(axis=-1, keepdims=True) / self.runs
        between = self.sentences * (draws * (means - mean) ** 2).sum(axis=-1)
        columns = np.einsum("...r,...rq,...q->...", draws, products, draws, optimize=True) / self.runs
        whole = (draws * np.diagonal(products, axis1=-2, axis2=-1)).sum(axis=-1)
        return np.stack([between, columns, whole - columns], axis=-1) / self.df


def generalised(
    crossing: Crossing, squares: np.ndarray, level: float, draws: int, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """Generalised limits of one table's run SD and share, from its mean squares (3,): each (2,)."""
    pivots, shares = pivotal_quantities(crossing.df, squares, crossing.weights, draws, generator)
    return {"sd": np.sqrt(_tails(pivots[:, 0], level)), "share": _tails(shares[:, 0], level)}


def bootstrap(
    crossing: Crossing,
    means: np.ndarray,
    products: np.ndarray,
    level: float,
    draws: int,
    generator: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Percentile limits of one table's run SD and share, its runs drawn with replacement: each (2,)."""
    counts = generator.multinomial(crossing.runs, np.full(crossing.runs, 1 / crossing.runs), size=draws)
    variances = (crossing.mean_squares(means, products, counts.astype(float)) @ crossing.weights.T).clip(min=0)
    shares = variances[:, 0] / variances.sum(axis=1)
    return {"sd": np.sqrt(_tails(variances[:, 0], level)), "share": _tails(shares, level)}


def _tails(values: np.ndarray, level: float) -> np.ndarray:
    return np.quantile(values, [(1 - level) / 2, (1 + level) / 2])


def limits(
    crossing: Crossing,
    simulations: int,
    draws: int,
    level: float,
    generator: np.random.Generator,
    progress: tqdm | None = None,
) -> dict[tuple[str, str], np.ndarray]:
    """Limits (simulation, 2) of each method and quantity, for the same simulated tables."""
    means, products = crossing.draw(simulations, generator)
    squares = crossing.mean_squares(means, products)  # (simulation, 3)
    shape = (crossing.runs, crossing.sentences)
    found = {("REML profile", quantity): profile_limits(squares, *shape, quantity, level) for quantity in QUANTITIES}
    rows = []
    for mean, product, square in zip(means, products, squares, strict=True):
        rows.append(
            (
                generalised(crossing, square, level, draws, generator),
                bootstrap(crossing, mean, product, level, draws, generator),
            )
        )
        if progress is not None:
            progress.update()
    for place, method in enumerate(METHODS[1:]):
        for quantity in QUANTITIES:
            found[method, quantity] = np.array([row[place][quantity] for row in rows])
    return found


def coverage(
    runs: Sequence[int] = (3, 6, 20),
    shares: Sequence[float] = (0.0, 0.05, 0.3),
    sentences: int = 300,
    simulations: int = 4_000,
    draws: int = 2_000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """The share of simulated tables whose interval holds the true run SD, or the true share of the run.

    Parameters
    ----------
    runs : sequence of int
    shares : sequence of float
        The run's true share of the variance; the sentence's is .3, the rest is residual.
    sentences : int
    simulations : int
        Tables for each combination; the standard error of a coverage of .95 is .0034 with 4,000.
    draws : int
        Pivotal draws, and bootstrap samples, for each table.
    level : float
        Nominal.
    seed : int
        Each combination has a generator of its own, spawned from it in the order of ``runs``, then ``shares``.

    Returns
    -------
    DataFrame
        runs, sentences, true_share, quantity ("sd" or "share"), method, level, simulations, coverage,
        standard_error (of the coverage, over simulations), below and above (how often the truth lay below the lower
        limit or above the upper one), lower and upper (medians of the limits; SDs in units of the total SD).

    Raises
    ------
    InputError
        If a number is outside what it may be.

    References
    ----------
    Weerahandi (1993), Journal of the American Statistical Association 88, 899-905 (generalised intervals).
    """
    check_level(level, "coverage")
    for name, value, least in (("simulations", simulations, 1), ("draws", draws, 100)):
        if value < least:
            raise InputError(f"coverage: {name}={value!r} must be {least} or more.")
    crossings = [Crossing(count, sentences, share) for count in runs for share in shares]
    generators = [np.random.default_rng(each) for each in np.random.SeedSequence(seed).spawn(len(crossings))]
    rows = []
    with tqdm(total=len(crossings) * simulations, desc="simulated tables", unit="table") as progress:
        for crossing, generator in zip(crossings, generators, strict=True):
            found = limits(crossing, simulations, draws, level, generator, progress)
            for (method, quantity), interval in found.items():
                truth = crossing.share if quantity == "share" else np.sqrt(crossing.share)
                rows.append(_row(crossing, method, quantity, interval, truth, level))
    return pd.DataFrame(rows)


def _row(crossing: Crossing, method: str, quantity: str, interval: np.ndarray, truth: float, level: float) -> dict:
    below, above = truth < interval[:, 0], truth > interval[:, 1]
    held = np.mean(~below & ~above)
    lower, upper = np.median(interval, axis=0)
    return {
        "runs": crossing.runs,
        "sentences": crossing.sentences,
        "true_share": crossing.share,
        "quantity": quantity,
        "method": method,
        "level": level,
        "simulations": len(interval),
        "coverage": held,
        "standard_error": np.sqrt(held * (1 - held) / len(interval)),
        "below": below.mean(),
        "above": above.mean(),
        "lower": lower,
        "upper": upper,
    }


def estimates(squares: np.ndarray, runs: int, sentences: int) -> np.ndarray:
    """The expectations L (table, 3) of the restricted likelihood's maximum, given mean squares (table, 3).

    Where M_a or M_b lies below M_c its variance is at zero: the two are pooled, the smaller one first (isotonic
    regression on the order L_c <= L_a, L_c <= L_b).
    """
    df = _degrees(runs, sentences)
    found = squares.astype(float).copy()
    order = np.argsort(squares[:, :2], axis=1)
    tables = np.arange(len(squares))
    weight, pooled = np.full(len(squares), df[2], dtype=float), found[:, 2].copy()
    for place in order.T:
        value, count = squares[tables, place], df[place]
        joins = value < pooled
        pooled = np.where(joins, (weight * pooled + count * value) / (weight + count), pooled)
        weight = weight + joins * count
    found[:, 2] = pooled
    found[:, :2] = np.maximum(squares[:, :2], pooled[:, None])
    return found


def deviance(expectations: np.ndarray, squares: np.ndarray, df: np.ndarray) -> np.ndarray:
    """-2 log of the restricted likelihood but for a constant; the last axis holds the three mean squares."""
    return (df * (np.log(expectations) + squares / expectations)).sum(axis=-1)


def sd_held(sd: np.ndarray, squares: np.ndarray, runs: int, sentences: int) -> np.ndarray:
    """The deviance (table,) with the run's SD held at ``sd`` (table,), minimised over the two other variances."""
    df = _degrees(runs, sentences)

    def objective(log_residual: np.ndarray, added: np.ndarray, *squares: np.ndarray) -> np.ndarray:
        residual = np.exp(log_residual)
        columns = np.maximum(squares[1], residual)  # E + R B at its best, given E
        expectations = np.stack([residual + added, columns, residual], axis=-1)  # (..., mean square)
        return deviance(expectations, np.stack(squares, axis=-1), df)

    # Below the first every direction gains by a larger E, above the second by a smaller one.
    low, high = np.log(squares[:, 2] * df[2] / df.sum()), np.log(squares.max(axis=1))
    return _minimum(objective, low, high, [sentences * np.asarray(sd) ** 2, *squares.T])


def share_held(share: np.ndarray, squares: np.ndarray, runs: int, sentences: int) -> np.ndarray:
    """The deviance (table,) with the run's share held at ``share`` (table,), minimised over the other variances."""
    df = _degrees(runs, sentences)

    def objective(log_ratio: np.ndarray, odds: np.ndarray, *squares: np.ndarray) -> np.ndarray:
        ratio = np.exp(log_ratio)  # 1 + R B / E
        between = 1 + sentences * odds * (1 + (ratio - 1) / runs)
        relative = np.stack([between, ratio, np.ones_like(ratio)], axis=-1)  # (..., mean square)
        observed = np.stack(squares, axis=-1)
        residual = (df * observed / relative).sum(axis=-1) / df.sum()  # E at its best, given the ratios
        return deviance(residual[..., None] * relative, observed, df)

    low, high = np.zeros(len(squares)), np.log(squares.max(axis=1) / squares.min(axis=1)) + 3
    return _minimum(objective, low, high, [np.asarray(share) / (1 - np.asarray(share)), *squares.T])


def profile_limits(
    squares: np.ndarray, runs: int, sentences: int, quantity: str = "share", level: float = 0.95
) -> np.ndarray:
    """Profile limits (table, 2) of the run's SD or share, given mean squares (table, 3) of run, sentence, residual.

    Raises
    ------
    InputError
        If ``quantity`` is neither "sd" nor "share", or a mean square is not above zero.
    """
    squares = np.asarray(squares, dtype=float)
    check_choice("quantity", quantity, QUANTITIES, "profile_limits")
    if squares.ndim != 2 or squares.shape[1] != 3 or not (np.isfinite(squares) & (squares > 0)).all():
        raise InputError(
            "profile_limits: squares must be an array (table, 3) of finite mean squares above zero, of run, sentence "
            "and residual."
        )
    best = estimates(squares, runs, sentences)
    run, sentence = (best[:, 0] - best[:, 2]) / sentences, (best[:, 1] - best[:, 2]) / runs
    target = deviance(best, squares, _degrees(runs, sentences)) + stats.chi2.ppf(level, 1)
    # Searched on a scale without ends: log SD, or the logit of the share.
    held: Callable
    value: Callable
    if quantity == "sd":
        held, value = sd_held, np.exp
        unit = np.log(squares.max(axis=1) / sentences) / 2
        inner, low, high = np.log(run.clip(min=1e-300)) / 2, unit - 14, unit + 14
    else:
        held, value = share_held, lambda x: 1 / (1 + np.exp(-x))
        share = (run / (run + sentence + best[:, 2])).clip(1e-300, 1 - 1e-12)
        inner, low, high = np.log(share) - np.log1p(-share), np.full(len(squares), -20.0), np.full(len(squares), 25.0)

    def excess(x: np.ndarray, target: np.ndarray, *squares: np.ndarray) -> np.ndarray:
        return held(value(x), np.stack(squares, axis=-1), runs, sentences) - target

    inner, arguments = inner.clip(low, high), [target, *squares.T]
    lower = value(_crossing(excess, inner, low, arguments))
    upper = value(_crossing(excess, inner, high, arguments))
    lower = np.where(held(np.zeros(len(squares)), squares, runs, sentences) <= target, 0.0, lower)
    return np.stack([lower, upper], axis=1)


def _degrees(runs: int, sentences: int) -> np.ndarray:
    return np.array([runs - 1, sentences - 1, (runs - 1) * (sentences - 1)], dtype=float)


def _crossing(excess: Callable, inside: np.ndarray, outside: np.ndarray, arguments: list[np.ndarray]) -> np.ndarray:
    """Where between ``inside`` and ``outside`` the excess (table,) passes zero; ``outside`` where it stays below."""
    within = excess(outside, *arguments) <= 0
    ends = np.minimum(inside, outside), np.maximum(inside, outside)
    found = elementwise.find_root(excess, ends, args=tuple(arguments), tolerances={"xatol": 1e-9})
    return np.where(within, outside, found.x)


def _minimum(objective: Callable, low: np.ndarray, high: np.ndarray, arguments: list[np.ndarray]) -> np.ndarray:
    """The least value (table,) of ``objective(x, *arguments)`` for x between ``low`` and ``high``.

    The best point of a grid and its neighbours hold a minimum. The function is folded over at both ends, so that a
    minimum at an end has two neighbours as well.
    """

    def folded(x: np.ndarray, low: np.ndarray, high: np.ndarray, *arguments: np.ndarray) -> np.ndarray:
        return objective(high - np.abs(high - low - np.abs(x - low)), *arguments)

    step = (high - low) / (GRID_POINTS - 1)
    grid = low + step * np.arange(-1, GRID_POINTS + 1)[:, None]  # (point, table)
    everything = [low, high, *arguments]
    values = folded(grid, *(np.broadcast_to(each, grid.shape) for each in everything))
    place = 1 + values[1:-1].argmin(axis=0)
    bracket = tuple(np.take_along_axis(grid, (place + move)[None], axis=0)[0] for move in (-1, 0, 1))
    found = elementwise.find_minimum(folded, bracket, args=tuple(everything), tolerances={"xatol": 1e-9})
    return np.fmin(found.f_x, values.min(axis=0))
