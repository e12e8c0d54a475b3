r"""How often does an interval of the run's variance, or of its share, hold the truth? A simulation at few runs.

The design is the balanced crossing of R runs and S sentences, one value a cell::

    y_rs = mu + a_r + b_s + e_rs,    a ~ N(0, A),  b ~ N(0, B),  e ~ N(0, E),    A + B + E = 1

No tables are simulated, only what the methods look at, with its exact distribution. Sentences turned by an orthogonal
matrix whose first row is constant leave the means of the runs, m, and independent of them W = sum of w_k w_k' over the
S - 1 other directions::

    m ~ N(mu, (A + E / S) I + (B / S) 1 1'),    W ~ Wishart(S - 1, E I + B 1 1')

    M_a = S var(m),    M_b = 1'W 1 / (R (S - 1)),    M_c = (trace W - 1'W 1 / R) / ((R - 1)(S - 1))

Three intervals are compared: the profile of the restricted likelihood (:mod:`crossed.profiled_squares`),
the generalised one (:func:`crossed.balanced.crossed_shares`), and, as a warning, the percentile bootstrap
that draws whole runs with replacement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from tqdm.auto import tqdm

from crossed.balanced import pivotal_quantities
from crossed.checks import check_level
from crossed.errors import InputError
from crossed.profiled_squares import profile_limits

METHODS = ("REML profile", "generalised", "percentile bootstrap over runs")
QUANTITIES = ("sd", "share")


@dataclass(frozen=True)
class Crossing:
    """A balanced crossing and its true shares of variance: ``share`` of the run, ``sentence`` of the sentence."""

    runs: int
    sentences: int
    share: float
    sentence: float = 0.3

    def __post_init__(self):
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


def generalised(crossing, squares: np.ndarray, level: float, draws: int, generator) -> dict[str, np.ndarray]:
    """Generalised limits of one table's run SD and share, from its mean squares (3,): each (2,)."""
    pivots, shares = pivotal_quantities(crossing.df, squares, crossing.weights, draws, generator)
    return {"sd": np.sqrt(_tails(pivots[:, 0], level)), "share": _tails(shares[:, 0], level)}


def bootstrap(crossing, means: np.ndarray, products: np.ndarray, level: float, draws: int, generator) -> dict:
    """Percentile limits of one table's run SD and share, its runs drawn with replacement: each (2,)."""
    counts = generator.multinomial(crossing.runs, np.full(crossing.runs, 1 / crossing.runs), size=draws)
    variances = (crossing.mean_squares(means, products, counts.astype(float)) @ crossing.weights.T).clip(min=0)
    shares = variances[:, 0] / variances.sum(axis=1)
    return {"sd": np.sqrt(_tails(variances[:, 0], level)), "share": _tails(shares, level)}


def _tails(values: np.ndarray, level: float) -> np.ndarray:
    return np.quantile(values, [(1 - level) / 2, (1 + level) / 2])


def limits(crossing: Crossing, simulations: int, draws: int, level: float, generator, progress=None) -> dict:
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
    runs=(3, 6, 20),
    shares=(0.0, 0.05, 0.3),
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
