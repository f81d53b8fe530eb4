"""Published value ranges of the bundled data sets.

They are constants of the data sets' own descriptions (scikit-learn's ``DESCR``, section "Summary
Statistics", rounded as printed there; pixel depths for images). Using them costs no epsilon, because a run
reads nothing from its records to get them. They were computed from the same records by those who published
the data, before and outside any run.
"""

from __future__ import annotations

__all__ = ["BREAST_CANCER", "DIGITS", "IRIS", "MNIST", "WINE"]

# scikit-learn's load_breast_cancer().DESCR.
BREAST_CANCER: tuple[tuple[float, float], ...] = (
    (6.981, 28.11),  # radius (mean)
    (9.71, 39.28),  # texture (mean)
    (43.79, 188.5),  # perimeter (mean)
    (143.5, 2501.0),  # area (mean)
    (0.053, 0.163),  # smoothness (mean)
    (0.019, 0.345),  # compactness (mean)
    (0.0, 0.427),  # concavity (mean)
    (0.0, 0.201),  # concave points (mean)
    (0.106, 0.304),  # symmetry (mean)
    (0.05, 0.097),  # fractal dimension (mean)
    (0.112, 2.873),  # radius (standard error)
    (0.36, 4.885),  # texture (standard error)
    (0.757, 21.98),  # perimeter (standard error)
    (6.802, 542.2),  # area (standard error)
    (0.002, 0.031),  # smoothness (standard error)
    (0.002, 0.135),  # compactness (standard error)
    (0.0, 0.396),  # concavity (standard error)
    (0.0, 0.053),  # concave points (standard error)
    (0.008, 0.079),  # symmetry (standard error)
    (0.001, 0.03),  # fractal dimension (standard error)
    (7.93, 36.04),  # radius (worst)
    (12.02, 49.54),  # texture (worst)
    (50.41, 251.2),  # perimeter (worst)
    (185.2, 4254.0),  # area (worst)
    (0.071, 0.223),  # smoothness (worst)
    (0.027, 1.058),  # compactness (worst)
    (0.0, 1.252),  # concavity (worst)
    (0.0, 0.291),  # concave points (worst)
    (0.156, 0.664),  # symmetry (worst)
    (0.055, 0.208),  # fractal dimension (worst)
)

# scikit-learn's load_wine().DESCR.
WINE: tuple[tuple[float, float], ...] = (
    (11.0, 14.8),  # Alcohol
    (0.74, 5.8),  # Malic Acid
    (1.36, 3.23),  # Ash
    (10.6, 30.0),  # Alcalinity of Ash
    (70.0, 162.0),  # Magnesium
    (0.98, 3.88),  # Total Phenols
    (0.34, 5.08),  # Flavanoids
    (0.13, 0.66),  # Nonflavanoid Phenols
    (0.41, 3.58),  # Proanthocyanins
    (1.3, 13.0),  # Colour Intensity
    (0.48, 1.71),  # Hue
    (1.27, 4.0),  # OD280/OD315 of diluted wines
    (278.0, 1680.0),  # Proline
)

# scikit-learn's load_iris().DESCR.
IRIS: tuple[tuple[float, float], ...] = (
    (4.3, 7.9),  # sepal length
    (2.0, 4.4),  # sepal width
    (1.0, 6.9),  # petal length
    (0.1, 2.5),  # petal width
)

# Pixel depths: 4x4 blocks of a binary image are counted (digits), one byte (MNIST).
DIGITS: tuple[float, float] = (0.0, 16.0)
MNIST: tuple[float, float] = (0.0, 255.0)
