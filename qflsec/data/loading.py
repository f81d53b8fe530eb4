"""Data as an experiment uses it: features, labels and who plays which part."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import LongTensor, Tensor

from qflsec.base import DataError
from qflsec.base.places import files_at
from qflsec.base.sources import trace
from qflsec.data.blocks import draw_holdings, hidden
from qflsec.data.canaries import drawn_canaries, placed
from qflsec.data.preprocessing import preprocess, reduce_columns
from qflsec.data.raw import RawData
from qflsec.data.remarks import source_remarks, split_remarks
from qflsec.data.sources import Source, find_source, read_source
from qflsec.data.spec import PUBLIC, DataSpec
from qflsec.data.splits import Splits, first_of_equals, split

__all__ = ["Dataset", "as_long", "load"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Records, scaled and split.

    No two records have equal columns: of equal ones the first in the source was kept (before pca, and after
    the reductions that need no fitting), so that no record is a member and a non-member at once.

    Attributes:
        spec: What was asked for.
        seed: The seed of the split.
        features: float32 ``[N, F]``, inside ``spec.feature_range``.
        labels: int64 ``[N]``.
        n_classes: K.
        member_idx: Rows that are trained on, in the order drawn.
        nonmember_idx: Rows that are not trained on, for membership games.
        auxiliary_idx: Rows that the adversary owns.
        test_idx: Rows that utility is measured on.
        canary_idx: Members and non-members that were made into canaries.
        source_rows: int64 ``[N]``: each record's row number in the source.
        feature_names: F names.
        class_names: K names.
        fitted_on: What the scaler and the reduction were fitted on, for the ledger.
        clipped: Values of the usable records that lay outside the range the scaler knew.
        filled: Missing values of the usable records that were filled in with a median.
        duplicates: Records dropped because an equal one came before.
        collisions: Records of one split whose features equal those of a record of another, after clipping.
        content_digest: sha256 of the source's records.
        persons: int64 ``[N]``: a number for the person of each record; None where the source names nobody.
        clients: int64 ``[N]``: who holds each record, numbering ``client_names``; None where the source does not say.
        client_names: One name for each client that the source tells apart.
        holdings: int64 ``[N]``: at which kind of hospital, of those that :func:`draw_holdings` counts, a record was taken;
            None where every client holds all blocks of columns. The auxiliary records are whole all the same.
        remarks: What is odd about the user's own data, a sentence each; nothing is said of bundled data.

    Shapes:
        N usable records, F features, K classes. The four index sets are disjoint; some rows may be in none.

    Units:
        features: radians, where they are rotation angles.
    """

    spec: DataSpec
    seed: int
    features: Tensor
    labels: LongTensor
    n_classes: int
    member_idx: LongTensor
    nonmember_idx: LongTensor
    auxiliary_idx: LongTensor
    test_idx: LongTensor
    source_rows: LongTensor
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    fitted_on: str
    clipped: int
    duplicates: int
    collisions: int
    content_digest: str
    filled: int = 0
    canary_idx: LongTensor = field(default_factory=lambda: as_long(np.zeros(0, dtype=np.int64)))
    persons: LongTensor | None = None
    clients: LongTensor | None = None
    client_names: tuple[str, ...] = ()
    holdings: LongTensor | None = None
    remarks: tuple[str, ...] = ()

    @property
    def people_told_by(self) -> str:
        """What tells people apart, in words."""
        if self.persons is None:
            return "equal records"
        return f"the column {self.spec.person_column!r}"

    @property
    def name(self) -> str:
        """The name of the data set."""
        return self.spec.name

    @property
    def n_features(self) -> int:
        """F, the number of features of a record."""
        return int(self.features.shape[1])

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Features and labels of some rows.

        Shapes:
            rows: int64 ``(...)``; result: ``(..., F)`` and ``(...)``.
        """
        return self.features[rows], self.labels[rows]

    def digest(self) -> str:
        """Sha256 of the specification, the seed and the source's records.

        The path of a file does not enter, its content does.
        """
        text = json.dumps(
            {"spec": _pathless(self.spec), "seed": self.seed, "content": self.content_digest},
            sort_keys=True,
        )
        return hashlib.sha256(text.encode()).hexdigest()


def _pathless(spec: DataSpec) -> dict[str, object]:
    """The specification's configuration without the place of its file."""
    return {key: value for key, value in spec.to_config().items() if key != "path"}


def load(spec: DataSpec, seed: int) -> Dataset:
    """Read, select, split and scale.

    Args:
        spec: What to load.
        seed: The run's seed; it decides the splits, and through them what is fitted.

    Raises:
        DataError: The source cannot be read, or does not hold what ``spec`` asks for.
        MissingExtra: The data set needs a package that is not installed.
        UnknownName: No data set has this name.
    """
    found = _selected(_Origin(spec=spec, read=find_source(spec), stamp=_stamp(spec)))
    raw, rows = found.raw, found.rows
    splits = split(raw.labels, spec, seed, raw.clients)
    prepared = preprocess(raw, spec, splits.member, splits.auxiliary)
    features = torch.from_numpy(prepared.values).to(torch.float32)
    holdings = draw_holdings(spec, len(features), (splits.member, splits.nonmember, splits.test), seed)
    if holdings is not None:
        whole = features[splits.auxiliary].clone()
        fill = prepared.fill.astype(np.float32)
        features = torch.from_numpy(hidden(features.numpy(), fill, spec, holdings))
        features[splits.auxiliary] = whole
    collisions = _collisions(features.numpy(), splits)
    canaries = drawn_canaries(spec, seed, splits.member, splits.nonmember)
    features, labels = placed(
        spec, features, torch.from_numpy(raw.labels.copy()), canaries, len(raw.class_names)
    )
    remarks = (*found.remarks, *split_remarks(spec, prepared, collisions, splits, raw.persons))
    return Dataset(
        spec=spec,
        seed=seed,
        features=features,
        labels=as_long(labels.numpy()),
        n_classes=len(raw.class_names),
        member_idx=as_long(splits.member),
        nonmember_idx=as_long(splits.nonmember),
        auxiliary_idx=as_long(splits.auxiliary),
        test_idx=as_long(splits.test),
        canary_idx=as_long(canaries),
        source_rows=as_long(rows.copy()),
        feature_names=prepared.names,
        class_names=raw.class_names,
        fitted_on=prepared.fitted_on,
        clipped=prepared.clipped,
        filled=prepared.filled,
        duplicates=found.duplicates,
        collisions=collisions,
        content_digest=found.content,
        persons=None if raw.persons is None else as_long(raw.persons.copy()),
        clients=None if raw.clients is None else as_long(raw.clients.copy()),
        client_names=raw.client_names,
        holdings=None if holdings is None else as_long(holdings),
        remarks=() if spec.name in PUBLIC else remarks,
    )


@dataclass(frozen=True, kw_only=True)
class _Origin:
    """Where records come from; ``stamp`` is another when one of the user's files is."""

    spec: DataSpec
    read: Source
    stamp: tuple[object, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Selected:
    """The usable records of a source: all of loading that does not depend on the seed."""

    raw: RawData
    rows: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    duplicates: int
    content: str
    remarks: tuple[str, ...]


# A batch loads the same source for every seed; four are kept, which is as many pipelines as a matrix has at a time.
@lru_cache(maxsize=4)
def _selected(origin: _Origin) -> _Selected:
    spec = origin.spec
    whole = read_source(spec, origin.read)
    chosen, rows = _select_classes(whole, spec)
    raw = reduce_columns(chosen, spec)
    kept = first_of_equals(raw.features)
    return _Selected(
        raw=raw.take(kept),
        rows=rows[kept],
        duplicates=len(rows) - len(kept),
        content=_content_digest(whole),
        remarks=() if spec.name in PUBLIC else source_remarks(chosen, raw, kept, spec),
    )


def _stamp(spec: DataSpec) -> tuple[object, ...]:
    """Names, times and sizes of the user's files, and the digest of a function's code; nothing where there are none."""
    if spec.path is None:
        return ()
    place = spec.path.rpartition(":")[0] if spec.name == "function" else spec.path
    if place.endswith(".py"):
        return (trace(Path(place)).digest,) if Path(place).is_file() else ()
    try:
        found = [(path, path.stat()) for path in files_at(place)]
    except (OSError, DataError):
        return ()  # reading it says what is wrong
    return tuple((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in found)


def as_long(values: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> LongTensor:
    """The same integers as a tensor."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64))  # type: ignore[return-value]


def _content_digest(raw: RawData) -> str:
    sha = hashlib.sha256()
    for array in (raw.features, raw.labels):
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    sha.update(json.dumps([raw.feature_names, raw.class_names]).encode())
    for owners in (raw.persons, raw.clients):
        if owners is not None:
            sha.update(owners.tobytes())
    return sha.hexdigest()


def _select_classes(
    raw: RawData, spec: DataSpec
) -> tuple[RawData, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    """Keep the classes of ``spec``, renumbered in its order; also the rows that were kept."""
    known = range(len(raw.class_names))
    classes = list(known)
    if spec.classes is not None:
        classes = [raw.class_names.index(c) if c in raw.class_names else c for c in spec.classes]  # type: ignore[misc]
    for label in classes:
        if label not in known:
            named = [
                f"{index} ({name})" if name != str(index) else name
                for index, name in enumerate(raw.class_names)
            ]
            raise DataError(
                f"data set {spec.name!r} has no such class", got=repr(label), expected=", ".join(named)
            )
    number = np.full(len(known), -1, dtype=np.int64)
    number[classes] = np.arange(len(classes))
    labels = number[raw.labels]
    rows = np.flatnonzero(labels >= 0).astype(np.int64)
    names = tuple(raw.class_names[label] for label in classes)
    return replace(raw, labels=labels, class_names=names).take(rows), rows


def _collisions(features: np.ndarray[tuple[int, ...], np.dtype[np.float32]], splits: Splits) -> int:
    """Records whose features equal those of a record of another split."""
    parts = (splits.member, splits.nonmember, splits.auxiliary, splits.test)
    rows = np.concatenate(parts)
    owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    _, group = np.unique(features[rows], axis=0, return_inverse=True)
    first = np.full(len(rows), len(parts))
    last = np.full(len(rows), -1)
    np.minimum.at(first, group, owner)
    np.maximum.at(last, group, owner)
    return int((first[group] != last[group]).sum())
