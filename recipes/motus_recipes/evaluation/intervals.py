"""How sure a success rate is, and a difference of two."""

from math import comb, sqrt

Z = 1.959964  # two-sided 95 %


def wilson(successes: int, count: int, z: float = Z) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson 1927)."""
    share = successes / count
    center = share + z * z / (2 * count)
    half = z * sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (center - half) / scale), min(1.0, (center + half) / scale)


def newcombe(a: int, a_count: int, b: int, b_count: int) -> tuple[float, float]:
    """The 95 % interval of b's share less a's, of independent episodes.

    The hybrid score interval: Newcombe, Statistics in Medicine 17 (1998) 873-890, method 10.
    """
    return _hybrid(a, a_count, b, b_count, 0.0)


def newcombe_paired(both: int, only_a: int, only_b: int, neither: int) -> tuple[float, float]:
    """The 95 % interval of b's share less a's, of the same episodes.

    The score interval with the continuity-corrected correlation of the pairs: Newcombe,
    Statistics in Medicine 17 (1998) 2635-2650, method 10.

    Args:
        both: Episodes that both solved.
        only_a: Those that a alone solved.
        only_b: Those that b alone solved.
        neither: Those that none solved.
    """
    count = both + only_a + only_b + neither
    a, b = both + only_a, both + only_b
    spread = a * (count - a) * b * (count - b)
    product = both * neither - only_a * only_b
    if product > 0:
        product = max(product - count / 2, 0)  # type: ignore[assignment]
    return _hybrid(a, count, b, count, product / sqrt(spread) if spread else 0.0)


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided exact p-value that a and b solve episodes equally often (McNemar 1947).

    The episodes that one alone solved are tosses of a fair coin: a binomial test at one half.
    """
    tosses = only_a + only_b
    tail = sum(comb(tosses, k) for k in range(min(only_a, only_b) + 1))
    return float(min(1.0, 2 * tail / 2**tosses))


def _hybrid(a: int, a_count: int, b: int, b_count: int, phi: float) -> tuple[float, float]:
    """Newcombe's limits: the distances of both Wilson limits, joined with correlation phi."""
    p, q = a / a_count, b / b_count
    a_low, a_high = wilson(a, a_count)
    b_low, b_high = wilson(b, b_count)
    below, above = (q - b_low, a_high - p), (b_high - q, p - a_low)
    low, high = (sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0)) for x, y in (below, above))
    return max(-1.0, q - p - low), min(1.0, q - p + high)
