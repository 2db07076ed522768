"""A threshold with a guarantee, from the scores of normal images that were not trained on (conformal prediction).

Of n such scores the threshold is the ceil((n + 1)(1 - alpha))-th smallest; an image above it is called anomalous. Of
normal images that are exchangeable with these n, at most a share alpha is, on average over the draw of all n + 1
(Vovk et al., Algorithmic Learning in a Random World, 2005; Angelopoulos & Bates, arXiv 2107.07511). alpha is taken as
the decimal that was written.
"""

import math
from fractions import Fraction

import numpy as np

from adtr.errors import UserError

LEVEL = 0.95  # of the intervals


def images_needed(false_alarms: float) -> int:
    """The smallest n with a threshold for a rate of false alarms, 1 / alpha - 1 rounded up."""
    return math.ceil(1 / Fraction(str(false_alarms))) - 1


def threshold(scores: np.ndarray, false_alarms: float) -> float:
    """The threshold of calibration scores (n,) for a rate of false alarms in (0, 1).

    Raises:
        UserError: there are too few scores for that rate.
    """
    if not 0 < false_alarms < 1:
        raise UserError(f"a rate of false alarms lies between 0 and 1, not {false_alarms}")
    beyond = math.floor((len(scores) + 1) * Fraction(str(false_alarms)))  # of n + 1 ranks, those above the threshold
    if not beyond:
        least = math.ceil(1000 / (len(scores) + 1)) / 1000
        raise UserError(
            f"{len(scores)} calibration images are too few for a rate of false alarms of {false_alarms:g}, which needs "
            f"{images_needed(false_alarms)}: ask for {least:g} or more (--false-alarms {least:g}), or train with more "
            "images or a larger threshold.calibration"
        )
    return float(np.sort(scores)[len(scores) - beyond])


def interval(count: int, of: int) -> tuple[float, float]:
    """The exact 95 % interval of a share, `count` of `of` (Clopper & Pearson, Biometrika 1934)."""
    from scipy.stats import binomtest  # takes a second to import, which prediction spares

    found = binomtest(count, of).proportion_ci(LEVEL, method="exact")
    return float(found.low), float(found.high)
