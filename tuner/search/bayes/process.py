"""A Gaussian process on few and noisy trials: what is expected at a point nobody tried, and how sure that is.
Arrays in, arrays out (Rasmussen and Williams, 2006, algorithm 2.1); no trial and no space is known here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tuner.search.bayes.pieces import Pieces, whole
from tuner.search.bayes.places.axis import Array

GUESSES = 24
"""Settings of the kernel that are tried at random, before the best is refined in as many smaller steps."""

FITTED = 80
"""Values that the settings are judged by, evenly taken where there are more: time grows with their cube."""

SCATTER = 0.02
"""Share of a value by which one differs from another, before any two are known; that belief is worth one value."""

PIECE = 12
"""Settings that are judged at a time: 5 ms."""

_JITTER = 1e-6


@dataclass(frozen=True)
class Kernel:
    """Matern 5/2 with a length a column; ``noise`` is the variance of one value, where the values' own is 1."""

    lengths: Array
    noise: float

    def between(self, one: Array, other: Array) -> Array:
        """(n, d) and (m, d) -> (n, m) covariances."""
        a, b = one / self.lengths, other / self.lengths
        squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T
        r = np.sqrt(5 * np.maximum(squares, 0.0))
        return np.asarray((1 + r + r**2 / 3) * np.exp(-r))

    def among(self, rows: Array, doubt: Array) -> Array:
        """(n, d) rows, and the variance that each value has beyond the noise -> (n, n) covariances of the values."""
        covariance = self.between(rows, rows)
        covariance[np.diag_indices_from(covariance)] += self.noise + doubt + _JITTER
        return covariance


class Process:
    """Fitted to ``values`` (n,) at ``rows`` (n, d); ``doubt`` (n,) is a variance that a value has beyond the noise.

    Kernels are compared by the likelihood of the values times a prior: lengths near one half of the space, noise near
    a twentieth of the deviation. ``seed`` draws the kernels that are tried, so equal values give an equal process.
    """

    def __init__(self, rows: Array, values: Array, doubt: Array, seed: int) -> None:
        whole(self._fit(rows, values, doubt, seed))

    @classmethod
    def fitting(cls, rows: Array, values: Array, doubt: Array, seed: int) -> Pieces[Process]:
        """A process, fitted in pieces."""
        process = object.__new__(cls)
        yield from process._fit(rows, values, doubt, seed)
        return process

    def _fit(self, rows: Array, values: Array, doubt: Array, seed: int) -> Pieces[None]:
        self.rows = rows
        self.mean = float(values.mean())
        thought = (SCATTER * self.mean) ** 2
        self.scale = float(np.sqrt((len(values) * values.var() + thought) / (len(values) + 1))) or 1.0
        self._targets = (values - self.mean) / self.scale
        self._doubt = doubt / self.scale**2
        self.kernel = yield from self._fitted(np.random.default_rng(seed))
        self._solve()

    def _fitted(self, rng: np.random.Generator) -> Pieces[Kernel]:
        columns = self.rows.shape[1]
        some = np.unique(np.linspace(0, len(self.rows) - 1, min(FITTED, len(self.rows))).astype(int))
        rows, targets, doubt = self.rows[some], self._targets[some], self._doubt[some]
        centre = np.r_[np.full(columns, np.log(0.5)), np.log(0.01)]
        width = np.r_[np.full(columns, 0.8), 1.2]

        def score(setting: Array) -> float:
            kernel = Kernel(np.exp(setting[:-1]), float(np.exp(setting[-1])))
            try:
                factor = np.linalg.cholesky(kernel.among(rows, doubt))
            except np.linalg.LinAlgError:  # values on top of each other, and too little noise to tell them apart
                return -np.inf
            half = np.linalg.solve(factor, targets)
            likelihood = -0.5 * float(half @ half) - float(np.log(np.diag(factor)).sum())
            return likelihood - 0.5 * float((((setting - centre) / width) ** 2).sum())

        best, highest = centre, score(centre)
        for turn in range(2 * GUESSES):
            broad = turn < GUESSES
            guess = (centre if broad else best) + (1.0 if broad else 0.35) * width * rng.standard_normal(columns + 1)
            if (found := score(guess)) > highest:
                best, highest = guess, found
            if turn % PIECE == 0:
                yield
        return Kernel(np.exp(best[:-1]), float(np.exp(best[-1])))

    def _solve(self) -> None:
        covariance = self.kernel.among(self.rows, self._doubt)
        self._inverse = np.linalg.inv(covariance)
        self._weights = np.linalg.solve(covariance, self._targets)

    def at(self, rows: Array) -> tuple[Array, Array]:
        """(m, d) -> means and deviations (m,) of the noiseless value, in the units of ``values``."""
        covariance = self.kernel.between(rows, self.rows)
        variance = np.maximum(1.0 - ((covariance @ self._inverse) * covariance).sum(1), 1e-9)
        return self.mean + self.scale * (covariance @ self._weights), self.scale * np.sqrt(variance)

    def joined(self, rows: Array) -> Process:
        """The same process, as sure at ``rows`` (m, d) as if its own expectation had come true there."""
        means, _ = self.at(rows)
        wider = object.__new__(Process)
        wider.mean, wider.scale, wider.kernel = self.mean, self.scale, self.kernel
        wider.rows = np.vstack([self.rows, rows])
        wider._targets = np.r_[self._targets, (means - self.mean) / self.scale]
        wider._doubt = np.r_[self._doubt, np.zeros(len(rows))]
        wider._solve()
        return wider
