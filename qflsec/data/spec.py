"""What data an experiment uses, as a frozen value that can be written down as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

from qflsec.base import ConfigError, finite

__all__ = ["DataSpec", "Preprocessing", "Reduction"]

Preprocessing = Literal["fixed-range", "auxiliary", "training"]
Reduction = Literal["pca", "pool", "first", "none"]


def _tuples(value: object) -> object:
    """Lists (as JSON and TOML give them) turned into tuples, so that the specification hashes."""
    return tuple(_tuples(part) for part in value) if isinstance(value, (list, tuple)) else value


@finite
@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Which records, how they are split, and how they become features.

    Attributes:
        name: A registered data set, for example ``"breast-cancer"``, or ``"csv"``.
        n_features: Features per record after the reduction; with ``reduction="none"`` it must be the
            number of columns.
        classes: Original classes to keep, in the order that gives the new labels 0, 1, ...; None keeps all.
            The classes of a CSV file are numbered in the order of their values.
        preprocessing: What the scaler and the reduction are fitted on. ``"fixed-range"`` uses published
            constants and no record; ``"auxiliary"`` the adversary's own split; ``"training"`` the members,
            which no epsilon covers.
        reduction: ``"pca"``, ``"pool"`` (block means of a square image), ``"first"`` columns, or ``"none"``.
        feature_range: Where the features end up; values outside are clipped and counted.
        path: The file of ``name="csv"``.
        label_column: The column of ``name="csv"`` that holds the class.
        person_column: The column of ``name="csv"`` that says whose record it is, such as a patient's number; it is
            no feature. Without one, only equal records are known to be one person's.
        ranges: Public (lowest, highest) value of each column, for ``"fixed-range"`` where the data set
            publishes none.
        balanced: Whether every split holds every class equally often (to within one record).
        members: Records that are trained on.
        nonmembers: Records that are not trained on, for membership games.
        auxiliary: Records that the adversary owns.
        test: Records that utility is measured on.

    Units:
        feature_range: radians, where the features are rotation angles.
    """

    name: str
    n_features: int = 4
    classes: tuple[int, ...] | None = None
    preprocessing: Preprocessing = "auxiliary"
    reduction: Reduction = "pca"
    feature_range: tuple[float, float] = (0.0, math.pi)
    path: str | None = None
    label_column: str | None = None
    person_column: str | None = None
    ranges: tuple[tuple[float, float], ...] | None = None
    balanced: bool = False
    members: int = 160
    nonmembers: int = 160
    auxiliary: int = 120
    test: int = 120

    def __post_init__(self) -> None:
        for name in ("classes", "feature_range", "ranges"):
            object.__setattr__(self, name, _tuples(getattr(self, name)))
        _check_choice("preprocessing", self.preprocessing, get_args(Preprocessing))
        _check_choice("reduction", self.reduction, get_args(Reduction))
        _check_count("n_features", self.n_features, 1)
        self._check_ranges()
        self._check_sizes()
        self._check_source()

    def _check_ranges(self) -> None:
        for interval in (self.feature_range, *(self.ranges or ())):
            if not _is_interval(interval):
                raise ConfigError(
                    "a range is not an interval", got=interval, expected="(low, high), low < high"
                )
        if self.preprocessing == "fixed-range" and self.reduction == "pca":
            raise ConfigError(
                "a principal component analysis has to be fitted on records",
                got="reduction='pca' with preprocessing='fixed-range'",
                fix="use reduction 'first', 'pool' or 'none', or preprocessing 'auxiliary'",
            )

    def _check_sizes(self) -> None:
        _check_count("members", self.members, 1)
        for split in ("nonmembers", "auxiliary", "test"):
            _check_count(split, getattr(self, split), 0)
        if self.preprocessing == "auxiliary" and self.auxiliary < 2:
            raise ConfigError(
                "preprocessing 'auxiliary' has too few records to be fitted on",
                got=f"auxiliary={self.auxiliary}",
                expected="at least 2",
                fix="raise auxiliary or use preprocessing 'fixed-range'",
            )
        if self.classes is not None and (
            len(set(self.classes)) != len(self.classes) or len(self.classes) < 2
        ):
            raise ConfigError("classes must be two or more different classes", got=self.classes)

    def _check_source(self) -> None:
        if self.name == "csv" and (self.path is None or self.label_column is None):
            raise ConfigError(
                "a CSV data set needs its file and the column of its classes",
                got=f"path={self.path!r}, label_column={self.label_column!r}",
                fix="set path and label_column",
            )
        if self.person_column is not None and (self.name != "csv" or self.person_column == self.label_column):
            raise ConfigError(
                "only a CSV data set has a column of people, and it is not the column of classes",
                got=f"name={self.name!r}, person_column={self.person_column!r}",
                fix="leave out person_column, or name the column of another meaning",
            )

    def to_config(self) -> dict[str, Any]:
        """The specification with every default written out, as JSON types."""
        return {key: _lists(value) for key, value in asdict(self).items()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The specification that :meth:`to_config` wrote; defaults may be left out.

        Raises:
            ConfigError: A key is unknown, or a value cannot be used.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(config) - set(known))
        if unknown:
            raise ConfigError(
                "unknown key of a data specification",
                got=", ".join(unknown),
                expected=f"some of {', '.join(known)}",
            )
        return cls(**config)


def _lists(value: object) -> object:
    return [_lists(part) for part in value] if isinstance(value, tuple) else value


def _is_interval(value: object) -> bool:
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    numbers = all(isinstance(end, (int, float)) and math.isfinite(end) for end in value)
    return numbers and value[0] < value[1]


def _check_count(what: str, got: object, least: int) -> None:
    if not isinstance(got, int) or isinstance(got, bool) or got < least:
        raise ConfigError(f"{what} is not a count", got=repr(got), expected=f"a whole number from {least}")


def _check_choice(what: str, got: str, choices: tuple[str, ...]) -> None:
    if got not in choices:
        raise ConfigError(f"unknown {what}", got=repr(got), expected=f"one of {', '.join(choices)}")
