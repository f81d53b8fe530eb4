"""Data that the user's own function gives."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qflsec.base import DataError
from qflsec.base.user_code import load_file
from qflsec.data.cells import channels_first, image_shape_of, record_shape
from qflsec.data.raw import RawData, numbered
from qflsec.data.spec import DataSpec
from qflsec.data.tables import pixel_names, refuse_target

__all__ = ["find_function", "read_function"]

_QUICK_SECONDS = 1.0
_KNOWN = tuple(field.name for field in fields(RawData) if field.name not in {"image_shape", "incomplete"})


def read_function(spec: DataSpec) -> RawData:
    """The records of ``"file.py:function"``: a pair (features, labels), a table of both and more, or a RawData.

    A quick function is called twice, to see whether it gives the same records: splits are drawn from a run's seed, and
    nothing that a source draws may differ from one process to the next.

    Raises:
        DataError: There is no such function, it fails, or what it gives is no set of records.
    """
    function, what = find_function(str(spec.path))
    started = time.perf_counter()
    raw = _read(_call(function, what), what)
    if time.perf_counter() - started < _QUICK_SECONDS:
        again = _read(_call(function, what), what)
        if not all(
            np.array_equal(getattr(raw, name), getattr(again, name), equal_nan=name == "features")
            for name in ("features", "labels")
        ):
            raise DataError(
                f"{what} gives other records when it is called again",
                expected="the same ones every time",
                fix="seed what it draws, for example numpy.random.default_rng(0)",
            )
    return raw


def find_function(path: str) -> tuple[Callable[[], object], str]:
    """The function that ``"file.py:function"`` names, and what errors call it; the file is executed.

    Raises:
        DataError: There is none, it needs arguments, or the file fails.
    """
    place, _, name = path.rpartition(":")
    file = Path(place)
    if not place.endswith(".py") or not name.isidentifier():
        raise DataError("no function named", got=repr(path), expected="'file.py:function'", fix="mend path")
    if not file.is_file():
        raise DataError("there is no such file", got=file, fix="check path")
    try:
        module = load_file(file)
    except Exception as error:
        raise DataError(f"{file} fails", got=f"{type(error).__name__}: {error}") from error
    found = getattr(module, name, None)
    if not callable(found):
        got = "nothing of this name" if found is None else type(found).__name__
        raise DataError(f"{file} has no function {name!r}", got=got, fix="mend path")
    needed = [
        parameter.name
        for parameter in inspect.signature(found).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
    ]
    if needed:
        raise DataError(
            f"{file}:{name} is called without arguments",
            got=f"a function that needs {', '.join(needed)}",
            fix="give them defaults",
        )
    return found, f"{file}:{name}"


def _call(function: Callable[[], object], what: str) -> object:
    try:
        return function()
    except Exception as error:
        raise DataError(f"{what} fails", got=f"{type(error).__name__}: {error}") from error


def _read(value: object, what: str) -> RawData:
    if isinstance(value, RawData):
        return value
    if isinstance(value, tuple) and len(value) == 2:
        value = dict(zip(("features", "labels"), value, strict=True))
    if not isinstance(value, Mapping):
        raise DataError(
            f"{what} does not give records",
            got=type(value).__name__,
            expected="(features, labels), a dictionary with these keys, or a qflsec.data.RawData",
        )
    parts = dict(value)
    wrong = [repr(name) for name in parts if name not in _KNOWN]
    missing = [repr(name) for name in ("features", "labels") if name not in parts]
    if wrong or missing:
        raise DataError(
            f"{what} gives a dictionary with other keys",
            got=f"{', '.join(wrong) or 'none'} unknown, {', '.join(missing) or 'none'} missing",
            expected=f"features, labels, and any of {', '.join(_KNOWN[2:])}",
        )
    return _records(parts, what)


def _records(parts: dict[str, Any], what: str) -> RawData:
    array = _array(parts["features"], what)
    if array.ndim < 2 or array.ndim > 4 or not len(array):
        raise DataError(
            f"the features of {what} are no records",
            got=f"an array of shape {list(array.shape)}",
            expected="[records, columns], or images [records, height, width] with or without channels",
        )
    shape = record_shape(array.shape[1:])
    image = image_shape_of(shape)
    features = channels_first(array).reshape(len(array), -1)
    labels, classes = _classes(np.asarray(parts["labels"]), parts.get("class_names"), what)
    names = parts.get("feature_names")
    if names is None:
        names = (
            [f"feature {index}" for index in range(features.shape[1])]
            if image is None
            else pixel_names(image)
        )
    ranges = parts.get("ranges")
    owners = {
        key: None if parts.get(key) is None else np.asarray(parts[key]) for key in ("persons", "clients")
    }
    client_names = tuple(map(str, parts.get("client_names") or ()))
    if owners["clients"] is not None and not client_names:
        client_names, owners["clients"] = numbered([str(one) for one in owners["clients"].tolist()])
    if owners["persons"] is not None:
        owners["persons"] = numbered([str(one) for one in owners["persons"].tolist()])[1]
    return RawData(
        features=features,
        labels=labels,
        feature_names=tuple(map(str, names)),
        class_names=classes,
        ranges=None if ranges is None else tuple((float(low), float(high)) for low, high in ranges),
        image_shape=image,
        persons=owners["persons"],
        clients=owners["clients"],
        client_names=client_names,
    )


def _array(value: object, what: str) -> NDArray[np.float64]:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"the features of {what} are no numbers", got=error) from error


def _classes(
    labels: NDArray[Any],
    names: Any,  # noqa: ANN401 - from the user's dictionary
    what: str,
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    if labels.ndim != 1:
        raise DataError(f"the labels of {what} are no list", got=f"an array of shape {list(labels.shape)}")
    if names is not None:
        if labels.dtype.kind not in "iu":
            raise DataError(
                f"the labels of {what} do not number its class_names", got=labels.dtype, expected="integers"
            )
        return labels.astype(np.int64), tuple(map(str, names))
    texts = [str(int(one) if isinstance(one, float) and one.is_integer() else one) for one in labels.tolist()]
    refuse_target(texts, f"the labels of {what}")
    classes, found = numbered(texts)
    return found, classes
