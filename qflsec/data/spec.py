"""What data an experiment uses, as a frozen value that can be written down as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

from qflsec.base import ConfigError, finite

__all__ = ["PUBLIC", "DataSpec", "Missing", "Preprocessing", "Reduction"]

Preprocessing = Literal["fixed-range", "auxiliary", "training"]
Reduction = Literal["pca", "pool", "first", "none"]
Missing = Literal["error", "drop", "median"]
Canary = Literal["mislabelled", "offset"]

PUBLIC = frozenset(
    {"breast-cancer", "digits", "iris", "mnist-5k", "synthetic-flows", "synthetic-radar", "wine"}
)
"""The data sets that come with the package or its extras: published or generated records, not the user's."""
_TABLE = frozenset({"path", "label_column", "person_column", "columns", "drop", "missing"})
_USED_BY: dict[str, frozenset[str]] = {
    **dict.fromkeys(PUBLIC, frozenset[str]()),
    "synthetic-radar": frozenset({"snr_db"}),
    "csv": _TABLE | {"separator", "encoding", "decimal"},
    "parquet": _TABLE,
    "numpy": _TABLE,
    "function": frozenset({"path", "missing"}),
    "folder": frozenset({"path", "size", "channels"}),
}
_OPTIONS = frozenset().union(*_USED_BY.values())
_PATHS = {
    "csv": "records.csv",
    "parquet": "records.parquet",
    "numpy": "records.npz",
    "function": "data.py:load",
    "folder": "images/",
}
_TUPLES = ("classes", "class_shares", "feature_range", "ranges", "columns", "drop", "size", "blocks")


_UNSET = frozenset({"blocks", "class_shares", "held_blocks", "snr_db"})


def _tuples(value: object) -> object:
    """Lists (as JSON and TOML give them) turned into tuples, so that the specification hashes."""
    return tuple(_tuples(part) for part in value) if isinstance(value, (list, tuple)) else value


@finite
@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Which records, how they are split, and how they become features.

    Attributes:
        name: A registered data set, for example ``"breast-cancer"``, or your own data as ``"csv"``, ``"parquet"``,
            ``"numpy"``, ``"folder"`` (images) or ``"function"``; no default.
        n_features: Features of a record after the reduction (a count, 4 by default); with ``reduction="none"`` it
            must be the number of columns.
        classes: Classes to keep, by name or by number, in the order that gives the new labels 0, 1, ...; all by
            default. The classes of your own data are numbered in the order of their values.
        preprocessing: What medians, the reduction and the scaler are fitted on: ``"fixed-range"`` uses public
            constants and no record, ``"auxiliary"`` (the default) the adversary's own split, ``"training"`` the
            members, which no epsilon covers.
        reduction: ``"pca"`` (the default), ``"pool"`` (block means of an image), ``"first"`` columns, or ``"none"``.
        feature_range: Where the features end up (radians where they are rotation angles, 0 to pi by default);
            values outside are clipped and counted.
        path: The file of your own data; a pattern such as ``"clients/*.csv"`` makes each file a client's; a folder
            of images, or ``"file.py:function"``. No default.
        label_column: The column, or NumPy array, that holds the class; no default.
        person_column: The column that says whose record it is, such as a patient's number, and is no feature; none
            by default: then only equal records are known to be one person's.
        columns: The columns that are features, in this order; by default all but class and person.
        drop: Columns that are no features; none by default.
        separator: The character between the cells of a CSV file (``","`` by default).
        encoding: The encoding of a CSV file (``"utf-8"`` by default); a byte order mark is taken off.
        decimal: The decimal mark of a CSV file, ``"."`` (the default) or ``","``.
        missing: What becomes of missing values: ``"error"`` (the default) refuses them, ``"drop"`` leaves out the
            records, ``"median"`` fills in the column's median in the records that ``preprocessing`` may be fitted on.
        size: Height and width that the images of a folder are scaled to (pixels); by default they must have one size.
        channels: Channels of the images of a folder, 1 (grey) or 3 (colour); by default 3 where any image is in
            colour, and 1 otherwise.
        ranges: Public (lowest, highest) value of each column, in the column's unit, for ``"fixed-range"``; one pair
            does for all pixels of images. By default those that the data set publishes.
        balanced: Whether every split holds every class equally often, to within one record (false by default).
        class_shares: The share of each class in every split, to within a record, such as ``(0.1, 0.9)`` for a rare first one; it
            goes without ``balanced``, and by default the classes are as frequent as they come.
        members: Records that are trained on (a count, 160 by default).
        nonmembers: Records that are not trained on, for membership games (a count, 160 by default).
        auxiliary: Records that the adversary owns (a count, 120 by default).
        test: Records that utility is measured on (a count, 120 by default).
        canaries: Of the members, and of the non-members, so many become canaries, records unlike the others, for an audit
            (a count, 0 by default); membership attacks are then asked of them alone.
        canary: What a canary is: ``"mislabelled"`` (the default), or ``"offset"``, a record whose features are all moved.
        canary_offset: How far the features of an offset canary are moved, within their range (a quarter of a turn by default).
        blocks: Sizes of consecutive blocks of columns, such as modalities (counts of columns, which add up to all of them);
            each is reduced for itself to an equal share of ``n_features``. One block by default.
        held_blocks: So many of the blocks a client holds (a count, all by default); in the place of the others stands
            the mean of the records that ``preprocessing`` may be fitted on. The adversary's own records are whole.
        snr_db: The signal-to-noise ratio of ``"synthetic-radar"`` (dB; 10 by default).

    Units:
        feature_range, canary_offset: radians, where the features are rotation angles.
    """

    name: str
    n_features: int = 4
    classes: tuple[int | str, ...] | None = None
    preprocessing: Preprocessing = "auxiliary"
    reduction: Reduction = "pca"
    feature_range: tuple[float, float] = (0.0, math.pi)
    path: str | None = None
    label_column: str | None = None
    person_column: str | None = None
    columns: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()
    separator: str = ","
    encoding: str = "utf-8"
    decimal: Literal[".", ","] = "."
    missing: Missing = "error"
    size: tuple[int, int] | None = None
    channels: Literal[1, 3] | None = None
    ranges: tuple[tuple[float, float], ...] | None = None
    balanced: bool = False
    class_shares: tuple[float, ...] | None = None
    members: int = 160
    nonmembers: int = 160
    auxiliary: int = 120
    test: int = 120
    canaries: int = 0
    canary: Canary = "mislabelled"
    canary_offset: float = math.pi / 2
    blocks: tuple[int, ...] | None = None
    held_blocks: int | None = None
    snr_db: float | None = None

    def __post_init__(self) -> None:
        for name in _TUPLES:
            object.__setattr__(self, name, _tuples(getattr(self, name)))
        _check_choice("preprocessing", self.preprocessing, get_args(Preprocessing))
        _check_choice("reduction", self.reduction, get_args(Reduction))
        _check_choice("missing", self.missing, get_args(Missing))
        _check_choice("canary", self.canary, get_args(Canary))
        _check_count("n_features", self.n_features, 1)
        self._check_ranges()
        self._check_sizes()
        self._check_canaries()
        self._check_source()
        self._check_table()
        self._check_blocks()
        self._check_shares()

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

    def _check_canaries(self) -> None:
        _check_count("canaries", self.canaries, 0)
        if self.canaries > min(self.members, self.nonmembers):
            raise ConfigError(
                "there are more canaries than records to make them of",
                got=f"canaries={self.canaries} of {self.members} members and {self.nonmembers} non-members",
                fix="raise 'members' and 'nonmembers', or lower 'canaries'",
            )
        widest = (self.feature_range[1] - self.feature_range[0]) / 2
        if self.canaries and self.canary == "offset" and not 0 < self.canary_offset <= widest * (1 + 1e-12):
            raise ConfigError(
                "'canary_offset' does not leave every canary in the range of the features",
                got=self.canary_offset,
                expected=f"above 0, at most {widest:g}",
            )

    def _check_source(self) -> None:
        """Refuse what the source does not read, rather than leave it unused."""
        used = _USED_BY.get(self.name)
        if used is None:
            return  # a plugin gets the whole specification
        for field in fields(self):
            if field.name in _OPTIONS - used and getattr(self, field.name) != field.default:
                readers = [name for name, options in _USED_BY.items() if field.name in options]
                raise ConfigError(
                    f"data of name {self.name!r} have no use for {field.name}",
                    got=repr(getattr(self, field.name)),
                    fix=f"leave it out; it belongs to {', '.join(readers)}",
                )
        if self.path is None and "path" in used:
            raise ConfigError(
                f"data of name {self.name!r} need a place", fix=f'set path = "{_PATHS[self.name]}"'
            )
        if "label_column" in used and self.label_column is None:
            raise ConfigError(
                f"data of name {self.name!r} need the column of their classes", fix='set label_column = "..."'
            )

    def _check_table(self) -> None:
        if self.missing == "median" and self.preprocessing == "fixed-range":
            raise ConfigError(
                "a median has to be fitted on records",
                got="missing='median' with preprocessing='fixed-range'",
                fix="use missing 'drop', or preprocessing 'auxiliary'",
            )
        if self.person_column is not None and self.person_column == self.label_column:
            raise ConfigError(
                "the column of people is that of the classes",
                got=f"person_column={self.person_column!r}",
                fix="leave out person_column, or name the column of another meaning",
            )
        if self.columns is not None and (self.drop or not self.columns):
            raise ConfigError(
                "columns names every feature, and nothing is left to drop",
                got=f"columns={list(self.columns)}, drop={list(self.drop)}",
                fix="set one of columns and drop",
            )
        named = (*(self.columns or ()), *self.drop, self.label_column, self.person_column)
        twice = sorted({name for name in named if name is not None and named.count(name) > 1})
        if twice:
            raise ConfigError("a column is named twice", got=", ".join(map(repr, twice)), fix="name it once")
        if len(self.separator) != 1 or self.separator in {"\n", "\r", '"', self.decimal}:
            raise ConfigError(
                "a separator is one character, and neither a quote nor the decimal mark",
                got=f"separator={self.separator!r}, decimal={self.decimal!r}",
                fix='set separator, for example to ";"',
            )
        _check_choice("decimal", self.decimal, (".", ","))
        try:
            "".encode(self.encoding)
        except LookupError:
            raise ConfigError(
                "unknown encoding", got=repr(self.encoding), expected="a codec of Python, such as 'cp1252'"
            ) from None
        if self.channels not in {None, 1, 3}:
            raise ConfigError("channels of images are no such number", got=self.channels, expected="1 or 3")
        if self.size is not None and len(self.size) != 2:
            raise ConfigError(
                "size is not a height and a width", got=list(self.size), expected="[height, width]"
            )
        for pixels in self.size or ():
            _check_count("size", pixels, 1)

    def _check_shares(self) -> None:
        shares = self.class_shares
        if shares is None:
            return
        sound = all(isinstance(one, (int, float)) and one > 0 for one in shares)
        if not sound or len(shares) < 2 or abs(sum(shares) - 1) > 1e-9:
            raise ConfigError(
                "class_shares are not shares of classes",
                got=shares,
                expected="a positive number for each class; together 1",
            )
        if self.balanced:
            raise ConfigError("class_shares and balanced exclude each other", fix="leave out one of them")

    def _check_blocks(self) -> None:
        sizes = self.blocks if self.blocks is not None else (1,)
        for size in sizes:
            _check_count("a block of columns", size, 1)
        if not sizes or (self.reduction != "none" and self.n_features % len(sizes)):
            raise ConfigError(
                "the blocks cannot share the features evenly",
                got=f"{len(sizes)} blocks, n_features={self.n_features}",
                expected="a multiple of the number of blocks",
            )
        if self.blocks is not None and self.reduction == "pool":
            raise ConfigError(
                "images are pooled as a whole, not by blocks of columns",
                got="blocks with reduction='pool'",
                fix="use reduction 'pca', 'first' or 'none'",
            )
        if self.held_blocks is not None:
            _check_count("held_blocks", self.held_blocks, 1)
            if self.blocks is None or self.held_blocks > len(self.blocks):
                raise ConfigError(
                    "held_blocks exceeds the blocks there are",
                    got=self.held_blocks,
                    expected="at most the number of blocks",
                    fix="name the sizes of more blocks",
                )

    @property
    def hides_blocks(self) -> bool:
        """Whether clients lack blocks of columns."""
        return self.blocks is not None and self.held_blocks not in (None, len(self.blocks))

    def to_config(self) -> dict[str, Any]:
        """The specification as JSON types, with every default written out but those of later options."""
        # what is not there is no part of an id
        return {
            key: _lists(value)
            for key, value in asdict(self).items()
            if value is not None or key not in _UNSET
        }

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
