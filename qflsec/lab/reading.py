"""Results of every kind, read from a store or a document, and written as one; a document says which kind it is.

None of this makes a matrix, unless one is asked for: no model, no data set and no plugin is loaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qflsec.base import StoreError
from qflsec.base.installation import installation_digest
from qflsec.lab.grid.reading import Reading
from qflsec.lab.grid.results import Result
from qflsec.lab.grid.store import Store

if TYPE_CHECKING:
    from qflsec.lab.grid.spec import GridSpec

__all__ = ["from_json", "read_result", "to_dict", "to_json"]

_SCHEMAS = {
    "federation": "qflsec-matrix-result/",
    "channel": "qflsec-bb84-matrix/",
    "delegation": "qflsec-blind-matrix/",
}
"""What documents of each kind say of themselves, up to their version."""


def _reading(kind: str) -> type[Reading[Any]]:
    """What reads the results of a kind; each is imported when it is asked for."""
    if kind == "channel":
        from qflsec.lab.worlds.channel.reading import ChannelReading

        return ChannelReading
    if kind == "delegation":
        from qflsec.lab.worlds.delegation.reading import DelegationReading

        return DelegationReading
    from qflsec.lab.worlds.federation.reading import FederationReading

    return FederationReading


def read_result(path: str | Path, spec: GridSpec | None = None) -> Result[Any]:
    """The result in a store, or in a JSON document that was exported from one.

    Args:
        path: The store or the document.
        spec: The matrix, which is made anew. By default it is the one that was last run into the store, as it was then:
            nothing is made, and code, plugins or data that have changed since do not matter.

    Raises:
        StoreError: The file is neither.
    """
    place = Path(path)
    if _is_document(place):
        return from_json(place.read_text(encoding="utf-8"))
    with Store(place, create=False) as store:
        last = store.last_matrix(None if spec is None else spec.name)
        command = "" if last is None else str(last["command"])
        if spec is not None:
            from qflsec.lab.matrices import build

            made: Result[Any] = build(spec).assemble(store.rows(), command=command)
            return made
        if last is None:
            raise StoreError("no matrix was run into this store", got=place, fix="run one with --store")
        kept = store.kept_result(last["seq"], digest=installation_digest())
        if kept is not None:
            return from_json(kept)
        found: Result[Any] = _reading(last["kind"]).assemble(last["frame"], store.rows(), command=command)
        return found


def to_dict(result: Result[Any]) -> dict[str, Any]:
    """A result as a document: JSON types, numbers that are not finite as null."""
    return _reading(result.kind).document(result)


def to_json(result: Result[Any], *, indent: int | None = 2) -> str:
    """The document of a result, as text."""
    return json.dumps(to_dict(result), indent=indent, allow_nan=False)


def from_json(text: str) -> Result[Any]:
    """The result that :func:`to_json` wrote.

    Raises:
        StoreError: The text is not such a document.
    """
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise StoreError("not a JSON document", got=str(error)) from None
    schema = found.get("schema") if isinstance(found, dict) else type(found).__name__
    kind = next((kind for kind, name in _SCHEMAS.items() if str(schema).startswith(name)), None)
    reading = None if kind is None else _reading(kind)
    if reading is None or reading.schema != schema:
        expected = ", ".join(_reading(kind).schema for kind in _SCHEMAS)
        raise StoreError("not a matrix result of this version", got=schema, expected=expected)
    try:
        result: Result[Any] = reading.read(found)
    except (KeyError, TypeError) as error:
        raise StoreError("a matrix result lacks a field", got=repr(error)) from None
    return result


def _is_document(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(64).lstrip().startswith(b"{")
