"""Maps from the states of one run to those of another: arrays in, a map out, and how much it explains.

A map takes rows x of one space to rows of another, y = (x - m) W s + n, with the means m and n of the rows that it was
fitted on. Four kinds, from what knows nothing of the other space to what knows most::

    none       y = x
    random     W a random rotation, s that of the sizes of the two spaces
    rotation   W = U V' of the singular value decomposition X'Y = U D V', s = tr(D) / |X|^2
    affine     W = (X'X + lambda n I)^-1 X'Y, s = 1, with lambda by what it explains on rows held out

X and Y are centred. Fit on some rows, and read what is explained on others: `explained_variance`.

References
----------
Schönemann (1966), A generalized solution of the orthogonal Procrustes problem, Psychometrika 31, 1-10. Schönemann and
Carroll (1970), Fitting one matrix to another under choice of a central dilation and a rigid motion, Psychometrika 35,
245-255. Hoerl and Kennard (1970), Ridge regression, Technometrics 12, 55-67.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from addends.errors import InputError

PENALTIES = tuple(10.0**exponent for exponent in range(-8, 1))


@dataclass(frozen=True)
class StateMap:
    """y = (x - read_mean) weight + written_mean.

    Attributes
    ----------
    kind : str
        "none", "random", "rotation" or "affine".
    weight : float64 ndarray of shape (dim read, dim written)
        W s.
    read_mean, written_mean : float64 ndarray of shape (dim,)
        m and n.
    penalty : float, optional
        lambda, in units of the mean variance of a dimension that is read; of an affine map alone.

    Examples
    --------
    >>> moved = StateMap("none", np.eye(2), np.zeros(2), np.ones(2))
    >>> moved(np.array([[1.0, 2.0]])).tolist()
    [[2.0, 3.0]]
    """

    kind: str
    weight: np.ndarray
    read_mean: np.ndarray
    written_mean: np.ndarray
    penalty: float | None = None

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """The rows' images, of shape (row, dim written)."""
        return (np.asarray(rows, dtype="float64") - self.read_mean) @ self.weight + self.written_mean


def no_map(dim: int) -> StateMap:
    """y = x, in ``dim`` dimensions."""
    return StateMap("none", np.eye(dim), np.zeros(dim), np.zeros(dim))


def random_rotation(read: np.ndarray, written: np.ndarray, seed: int = 0) -> StateMap:
    """A rotation drawn uniformly, with the means and the sizes of both spaces and nothing else of them.

    Parameters, Raises
    ------------------
    As `fit_rotation`; ``seed`` is of ``numpy.random.default_rng``.
    """
    x, y, read_mean, written_mean = _centred(read, written, "random_rotation")
    _same_dim(x, y, "random_rotation")
    turn, triangle = np.linalg.qr(np.random.default_rng(seed).normal(size=(x.shape[1],) * 2))
    turn *= np.sign(np.diag(triangle))  # without it QR's own signs would make some rotations likelier
    scale = np.linalg.norm(y) / np.linalg.norm(x)
    return StateMap("random", turn * scale, read_mean, written_mean)


def fit_rotation(read: np.ndarray, written: np.ndarray) -> StateMap:
    """The rotation or reflection, with one scale, that leaves least of ``written``.

    Parameters
    ----------
    read, written : ndarray of shape (row, dim)
        Row k of both is the same token, in the two runs.

    Raises
    ------
    InputError
        If the shapes do not fit, values are NaN or infinite, a space does not vary, the dimensions differ, or there are
        no more rows than dimensions, so that the best rotation is not one.
    """
    x, y, read_mean, written_mean = _centred(read, written, "fit_rotation")
    _same_dim(x, y, "fit_rotation")
    _enough_rows(x, "fit_rotation", "Give more rows; a rotation has no penalty that could decide.")
    left, sizes, right = np.linalg.svd(x.T @ y)
    scale = sizes.sum() / np.square(x).sum()
    return StateMap("rotation", left @ right * scale, read_mean, written_mean)


def fit_affine(
    read: np.ndarray,
    written: np.ndarray,
    held_out: tuple[np.ndarray, np.ndarray] | None = None,
    penalties: Sequence[float] = PENALTIES,
) -> StateMap:
    """The affine map that leaves least of ``written``, with the penalty that explains most of rows held out.

    Parameters
    ----------
    read, written : ndarray of shape (row, dim)
        As in `fit_rotation`; the dimensions may differ.
    held_out : two ndarrays of shape (row, dim), optional
        Rows of other sentences, by which the penalty is chosen. Without them there is to be one penalty.
    penalties : sequence of float
        lambda's that are tried, in units of the mean variance of a dimension that is read. 0 is least squares.

    Raises
    ------
    InputError
        As `fit_rotation`; or if there are several penalties and no rows held out, or a penalty is negative. With the
        penalty 0, rows as few as the dimensions are refused; with another one they are regularised.
    """
    where = "fit_affine"
    x, y, read_mean, written_mean = _centred(read, written, where)
    penalties = [float(penalty) for penalty in penalties]
    if not penalties or not all(0 <= penalty < np.inf for penalty in penalties):
        raise InputError(f"{where}: penalties={penalties}: one or more numbers of 0 or more are wanted.")
    if len(penalties) > 1 and held_out is None:
        raise InputError(
            f"{where}: {len(penalties)} penalties and no rows held out to choose by. Give held_out, or one penalty."
        )
    if 0 in penalties:
        _enough_rows(x, where, "Give more rows, or penalties above 0.")
    variances, axes = linalg.eigh(x.T @ x / len(x))  # one decomposition serves all penalties
    crossed = axes.T @ (x.T @ y / len(x))
    maps = [
        StateMap(
            "affine",
            axes @ (crossed / (np.maximum(variances, 0) + penalty * variances.mean())[:, None]),
            read_mean,
            written_mean,
            penalty,
        )
        for penalty in penalties
    ]
    if held_out is None:
        return maps[0]
    return max(maps, key=lambda each: explained_variance(each, *held_out))


def explained_variance(of: StateMap, read: np.ndarray, written: np.ndarray) -> float:
    """1 - |y - map(x)|^2 / |y - mean(y)|^2 over rows that the map was not fitted on; below 0 is worse than the mean.

    Raises
    ------
    InputError
        As `fit_rotation`, whatever the number of rows.
    """
    _centred(read, written, "explained_variance")
    written = np.asarray(written, dtype="float64")
    left = np.square(written - of(read)).sum()
    return float(1 - left / np.square(written - written.mean(axis=0)).sum())


def _centred(
    read: np.ndarray, written: np.ndarray, where: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Both in float64 and less their means, and the means."""
    found = []
    for name, rows in (("read", read), ("written", written)):
        rows = np.asarray(rows)
        if rows.ndim != 2 or rows.dtype.kind not in "fiu":
            raise InputError(f"{where}: {name} is of shape {rows.shape}, {rows.dtype}: numbers (row, dim) are wanted.")
        rows = rows.astype("float64")
        if not np.isfinite(rows).all():
            bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
            raise InputError(f"{where}: NaN or infinite values in {len(bad)} row(s) of {name}, the first {bad[0]}.")
        if len(rows) < 2 or not np.ptp(rows, axis=0).any():
            raise InputError(f"{where}: the {len(rows)} row(s) of {name} do not vary: nothing can be fitted to them.")
        found.append(rows)
    if len(found[0]) != len(found[1]):
        raise InputError(
            f"{where}: {len(found[0])} and {len(found[1])} rows: row k of both is to be the same token. Runs with "
            "different vocabularies have different tokens, and cannot be mapped."
        )
    means = [rows.mean(axis=0) for rows in found]
    return found[0] - means[0], found[1] - means[1], means[0], means[1]


def _same_dim(x: np.ndarray, y: np.ndarray, where: str) -> None:
    if x.shape[1] != y.shape[1]:
        raise InputError(
            f"{where}: {x.shape[1]} and {y.shape[1]} dimensions: a rotation needs as many in both. fit_affine does not."
        )


def _enough_rows(x: np.ndarray, where: str, remedy: str) -> None:
    if len(x) <= x.shape[1]:
        raise InputError(f"{where}: {len(x)} rows in {x.shape[1]} dimensions: the map is not determined. {remedy}")
