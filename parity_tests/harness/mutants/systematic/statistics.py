"""Shares with their confidence."""

import math

Z = 1.959964  # of 95 %


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share by Wilson's score; (0, 1) where nothing was counted."""
    if not count:
        return 0.0, 1.0
    share, square = hits / count, Z * Z
    centre = (share + square / (2 * count)) / (1 + square / count)
    spread = Z / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    return max(0.0, centre - spread), min(1.0, centre + spread)


def share(hits: int, count: int) -> str:
    """Return a share in words: "97.8 % (90 of 92; 95 % interval 92.4 to 99.4 %)"."""
    low, high = wilson(hits, count)
    percent = f"{100 * hits / count:.1f} %" if count else "–"
    return f"{percent} ({hits} of {count}; 95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
