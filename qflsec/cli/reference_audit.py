"""The page of all checks and claims of an audit, from their cards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["audit_reference_lines"]

_INTRO = """# Checks and claims of an audit

Every check that `qflsec audit` makes: what it looks at, what a finding proves, and what a clean result does not say; and every
kind of claim that a claims file can hold. `qflsec show NAME` prints one of them, `--check NAME` runs one alone.

The page is made from the cards: `qflsec reference --of audit --out docs/audit_checks.md`.
"""


def audit_reference_lines() -> Iterator[str]:
    """The lines of the page."""
    from qflsec.audit.roles import ROLES
    from qflsec.cli.catalog import described_parameters, things

    checks = things("check")
    yield from _INTRO.splitlines()
    yield from ("", "## Checks", "", "| check | looks at | finding | what it says |", "|---|---|---|---|")
    for name, check in checks.items():
        yield f"| [`{name}`](#{name}) | {check.looks_at.__name__} | {check.card.severity} | {check.card.title} |"
    for name, check in checks.items():
        yield from _check(name, check)
    yield from ("", "## Claims", "", "Tables `[[claims]]` of a claims file; each has a `kind`.")
    for name, claim in things("claim").items():
        yield from ("", f"### `{name}`", "", *(claim.__doc__ or "").strip().splitlines()[:1], "")
        yield from ("| key | takes | default | what it is |", "|---|---|---|---|")
        for part in described_parameters("claim", claim):
            said = part.to_dict()
            default = "" if said["required"] else f"`{said['default']!r}`"
            yield f"| `{part.name}` | {said['type']} | {default} | {said['about']} |"
    yield from (
        "",
        "## Roles",
        "",
        "Names that are recognised, and the keys of `[roles]` that say otherwise.",
    )
    yield from ("", "| role | recognised names |", "|---|---|")
    for role, known in ROLES.items():
        yield f"| `{role}` | {', '.join(f'`{name}`' for name in known)} |"


def _check(name: str, check: Any) -> Iterator[str]:  # noqa: ANN401 - a class of checks
    card = check.card
    yield from ("", f"### `{name}`", "", card.idea, "")
    yield f"- **A finding proves**: {card.proves}"
    yield from (f"- **Does not say**: {sentence}" for sentence in card.cannot)
    yield f"- **What it means**: {card.consequence}"
    yield f"- **To mend it**: {card.remedy}"
    yield f"- Source: {card.source.paper} ({card.source.year}), {card.source.where}."
