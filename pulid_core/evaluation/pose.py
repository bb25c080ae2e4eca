"""How a head is turned, from five key points."""

from __future__ import annotations

import numpy as np

HEAD = np.array(
    [[-32, -34, 0], [32, -34, 0], [0, 0, 28], [-26, 34, 4], [26, 34, 4]], dtype=np.float64
)
"""Eyes, nose and corners of the mouth of an average head, in about millimetres: x to the right, y
downwards, z towards the viewer. Only differences between two heads are used, so it need be nobody's."""


def rotation(key_points: np.ndarray) -> np.ndarray:
    """Fit the average head as seen from far away.

    Args:
        key_points: As `Face.key_points`, (5, 2).

    Returns:
        (3, 3): turns the average head into this one's pose.
    """
    head = HEAD - HEAD.mean(axis=0)
    points = np.asarray(key_points, np.float64)
    rows = np.linalg.lstsq(head, points - points.mean(axis=0), rcond=None)[0].T  # (2, 3)
    left, _, right = np.linalg.svd(rows, full_matrices=False)
    x, y = left @ right
    return np.stack((x, y, np.cross(x, y)))


def degrees_between(one: np.ndarray, other: np.ndarray) -> float:
    """The angle of the one turn that leads from one pose to another, 0 to 180."""
    cosine = (np.trace(one @ other.T) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
