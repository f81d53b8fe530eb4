"""Seeded rows of the presets stay as they were: bit for bit on the machine of the fixture, nearly so on others."""

from __future__ import annotations

import warnings

import pytest
from guarded_lab import PRESETS, made, specification
from guarded_numbers import differences, distances, fingerprint
from regenerate import read


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_gives_the_stored_rows(preset: str) -> None:
    """Every stack and attack of the preset, made small: status, scores, curves, models, epsilon and k."""
    stored, here = read(preset), fingerprint()
    exact = stored["fingerprint"] == here
    compare = differences if exact else distances
    how = (
        "bit for bit"
        if exact
        else f"with tolerances: the fixture is of {stored['fingerprint']}, this is {here}"
    )
    print(f"{preset}: {len(stored['rows']['trials'])} trials compared {how}")  # noqa: T201
    if not exact:
        warnings.warn(f"{preset}: compared {how}", stacklevel=1)
    found = list(compare(stored["rows"], made(specification(preset))))
    assert not found, f"{preset}, compared {how}: {len(found)} differences\n" + "\n".join(found[:40])
