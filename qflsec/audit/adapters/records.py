"""Records as people hold them: arrays, tensors, data sets, tuples of them, one for each client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qflsec.audit.classes import like_labels
from qflsec.audit.parts import Array, Data
from qflsec.audit.roles import Roles, n_required
from qflsec.base import DataError

__all__ = ["as_array", "data_of", "pair_of"]

_PAIR, _FOUR = 2, 4
_ORDER = "(x, y, x_test, y_test)"
_MOST_BATCHES = 10_000
_EXPECTED = (
    "(features, labels), (x_train, y_train, x_test, y_test), ((x, y), (x_test, y_test)), a list of one (x, y) for each "
    "client, a torch data set, or a dictionary with 'clients' or 'train', and 'test'"
)


def as_array(value: Any) -> Array:  # noqa: ANN401 - whatever the user holds
    """An array of tensors, arrays or lists.

    Raises:
        DataError: It is none of them.
    """
    detach = getattr(value, "detach", None)
    found = np.asarray(detach().cpu().numpy() if callable(detach) else value)
    if found.dtype == object:
        raise DataError("the records are no array", got=type(value).__name__, expected="numbers")
    return found


def data_of(roles: Roles) -> Data | None:
    """The records of a pipeline; None where it names none.

    Raises:
        DataError: They are of no known form.
    """
    thing = roles.get("data")
    if thing is None:
        return None
    made = thing() if callable(thing) and n_required(thing) == 0 else thing
    if callable(made):
        raise DataError(
            f"{roles.name('data')} asks for arguments",
            expected="a function without, or the records themselves",
        )
    clients, test = _split(made)
    for features, labels in (*clients, *([test] if test is not None else [])):
        if len(features) != len(labels):
            raise DataError(
                f"{roles.name('data')} gives as many labels as records",
                got=f"{len(labels)} for {len(features)}",
            )
    return Data(name=roles.name("data"), place=roles.place(thing), clients=tuple(clients), test=test)


Pair = tuple[Array, Array]


def _split(made: Any) -> tuple[list[Pair], Pair | None]:  # noqa: ANN401 - whatever the user holds
    """The training records of each client, and the test records."""
    if isinstance(made, Mapping):
        return _of_mapping(made)
    if isinstance(made, tuple) and len(made) == _FOUR:
        return _of_four(*map(as_array, made))
    if isinstance(made, tuple) and len(made) == _PAIR:
        nested = _is_pair(made[0]) and _is_pair(made[1])
        return ([pair_of(made[0])], pair_of(made[1])) if nested else ([pair_of(made)], None)
    if isinstance(made, Sequence) and len(made) and all(_is_pair(one) for one in made):
        return [pair_of(one) for one in made], None
    if hasattr(made, "__getitem__") and hasattr(made, "__len__"):
        return [pair_of(made)], None
    raise DataError("records of no known form", got=type(made).__name__, expected=_EXPECTED)


def _of_mapping(made: Mapping[str, Any]) -> tuple[list[Pair], Pair | None]:
    test = made.get("test")
    clients = made.get("clients", [made["train"]] if "train" in made else None)
    if clients is None:
        raise DataError("records of no known form", got=f"a dictionary with {list(made)}", expected=_EXPECTED)
    many = clients.values() if isinstance(clients, Mapping) else clients
    return [pair_of(one) for one in many], None if test is None else pair_of(test)


def _of_four(first: Array, second: Array, third: Array, fourth: Array) -> tuple[list[Pair], Pair | None]:
    """Four arrays: x, y, x_test, y_test, or x, x_test, y, y_test as scikit-learn's split gives them.

    Numbers of records tell them apart, then shapes of a record, then what looks like labels.

    Raises:
        DataError: They are in neither order, or could be in both.
    """
    four = (first, second, third, fourth)
    if min(one.ndim for one in four) < 1:
        raise DataError(
            "one of four arrays of records is a single number", got=_shapes(four), expected=_ORDER
        )
    documented = len(first) == len(second) and len(third) == len(fourth)
    as_split = len(first) == len(third) and len(second) == len(fourth)
    if not documented and not as_split:
        raise DataError(
            "four arrays of records do not belong together",
            got=_shapes(four),
            expected=f"{_ORDER}, with as many labels as records",
            fix="give a label for each record",
        )
    if documented and as_split:
        documented, as_split = (
            _in_order(first, second, third, fourth),
            _in_order(first, third, second, fourth),
        )
    if documented == as_split:
        raise DataError(
            "nothing says in which order four arrays of records are",
            got=_shapes(four),
            expected=_ORDER,
            fix="return ((x, y), (x_test, y_test)), which says which is which",
        )
    return ([(first, second)], (third, fourth)) if documented else ([(first, third)], (second, fourth))


def _in_order(x: Array, y: Array, x_test: Array, y_test: Array) -> bool:
    """Whether arrays of one length can be features, labels, features, labels, and not the two in the middle exchanged."""
    shapes = [one.shape[1:] for one in (x, y, x_test, y_test)]
    if shapes[0] != shapes[2] or shapes[1] != shapes[3]:
        return False
    if shapes[0] != shapes[1]:
        return True
    return like_labels(y) and like_labels(y_test) and not like_labels(x) and not like_labels(x_test)


def _shapes(arrays: Sequence[Array]) -> str:
    return ", ".join(str(one.shape) for one in arrays)


def _is_pair(value: Any) -> bool:  # noqa: ANN401
    """Whether a value is features with labels, or a data set."""
    if isinstance(value, tuple | list):
        return len(value) == _PAIR and np.ndim(_first(value[0])) >= 1
    return hasattr(value, "__getitem__") and hasattr(value, "__len__") and not hasattr(value, "shape")


def _first(value: Any) -> Any:  # noqa: ANN401
    return as_array(value) if hasattr(value, "shape") else value


def pair_of(value: Any) -> tuple[Array, Array]:  # noqa: ANN401
    """Features and labels of a pair or of a torch data set.

    Raises:
        DataError: They are too many to be read one by one, or no arrays.

    Shapes:
        returns: ``(n, ...)`` and ``(n,)``, or labels of several columns
    """
    if isinstance(value, tuple | list) and len(value) == _PAIR:
        return as_array(value[0]), as_array(value[1])
    if len(value) > _MOST_BATCHES:
        raise DataError(
            "too many records to be read one by one", got=len(value), expected=f"{_MOST_BATCHES:,}"
        )
    rows = [value[index] for index in range(len(value))]
    return np.stack([as_array(row[0]) for row in rows]), np.stack([as_array(row[1]) for row in rows])
