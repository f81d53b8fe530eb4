"""``qflsec epsilon audit``: lower bounds on epsilon from files of scores, and the verdict on a claim."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qflsec.base.errors import ConfigError, DataError
from qflsec.cli.options import AsJson, command_line
from qflsec.cli.render import print_json

if TYPE_CHECKING:
    from qflsec.accounting import AuditedEpsilon
    from qflsec.accounting.audited import Choice

__all__ = ["audit"]

_EXIT = {"refuted": 1, "not refuted": 0, "not tested": 3}


def audit(
    in_file: Annotated[Path, typer.Option("--in", help="Scores of canaries that took part: a number a line.")],
    out_file: Annotated[Path, typer.Option("--out", help='Scores of canaries that did not; higher ones say "in".')],
    delta: Annotated[float, typer.Option(help="Delta of the claim.")] = 1e-5,
    claim: Annotated[float | None, typer.Option(help="The claimed epsilon: exit code 1 if refuted, 3 if out of reach.")] = None,
    confidence: Annotated[float, typer.Option(help="Of each bound.")] = 0.95,
    threshold: Annotated[
        list[float] | None,
        typer.Option(help="Fixed before the scores were seen; may be repeated. Without: a random half chooses."),
    ] = None,
    ranks: Annotated[
        bool, typer.Option("--ranks", help="Thresholds at ranks of the scores out, corrected for their number.")
    ] = False,
    one_run: Annotated[
        bool, typer.Option("--one-run", help="All canaries are of one run, each in by a fair coin of its own.")
    ] = False,
    curve: Annotated[
        bool, typer.Option("--curve", help="With --one-run: by trade-off curves, for many canaries at a large delta.")
    ] = False,
    guesses: Annotated[
        list[str] | None,
        typer.Option(help="With --one-run, as in 100,100: how many of the highest and lowest scores are guessed."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the halves, or of the order of equal scores.")] = 0,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Print the epsilon that scores of canaries prove, with the most that so many could prove."""
    if one_run and (threshold or ranks):
        raise ConfigError(
            "one run has guesses in the place of thresholds", fix="use --guesses, or leave out --one-run"
        )
    if not one_run and (curve or guesses):
        raise ConfigError("--curve and --guesses are for canaries of one run", fix="add --one-run")
    if claim is not None and not 0 <= claim < math.inf:
        raise ConfigError("--claim is no epsilon", got=claim, expected="0 or more, finite")
    if threshold and ranks:
        raise ConfigError("--threshold and --ranks are two ways to choose", fix="leave one of them out")
    from qflsec.accounting import audit_one_run, audit_scores

    scores = _read(in_file), _read(out_file)
    if one_run:
        bound = partial(
            audit_one_run,
            *scores,
            delta=delta,
            confidence=confidence,
            guesses=list(map(_pair, guesses or ())),
            seed=seed,
        )
        found = [bound(method="one-run-f-dp" if curve else "one-run")]
        found += [bound(method="one-run-gaussian")] if delta > 0 else []
    else:
        chosen = _choice(threshold, ranks=ranks, seed=seed)
        rates = partial(audit_scores, *scores, delta=delta, confidence=confidence, choice=chosen)
        found = [rates(method="clopper-pearson")]
        found += [rates(method="gaussian")] if delta > 0 else []
    sizes = len(scores[0]), len(scores[1])
    if as_json:
        print_json(_document(found, sizes, claim))
    else:
        for line in _lines(found, sizes, claim):
            typer.echo(line)
    if claim is not None:
        raise typer.Exit(_EXIT[_verdict(found, claim)])


def _choice(threshold: list[float] | None, *, ranks: bool, seed: int) -> Choice:
    from qflsec.accounting.audited import Explicit, Grid, Ranks, Split

    if threshold:
        return Explicit(threshold=threshold[0]) if len(threshold) == 1 else Grid(thresholds=tuple(threshold))
    return Ranks() if ranks else Split(seed=seed)


def _read(path: Path) -> list[float]:
    """The numbers of a file, one a line; a first line that is none is a heading."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read", got=error) from None
    scores: list[float] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            scores.append(float(line))
        except ValueError:
            if number > 1:
                raise DataError(
                    f"line {number} of {path} is no score", got=repr(line[:60]), expected="one number a line"
                ) from None
    return scores


def _pair(text: str) -> tuple[int, int]:
    with suppress(ValueError):
        high, low = (int(part) for part in text.split(","))
        return high, low
    raise ConfigError("--guesses is no pair", got=repr(text), expected="two whole numbers, as in 100,100")


def _number(threshold: float) -> float | str:
    """JSON has no infinity."""
    return threshold if math.isfinite(threshold) else "infinity" if threshold > 0 else "-infinity"


def _verdict(found: list[AuditedEpsilon], claim: float) -> str:
    """What the bound without a condition says: the other is told, and decides nothing."""
    plain = found[0]
    if plain.refutes(claim):
        return "refuted"
    return "not refuted" if claim < plain.ceiling else "not tested"


def _document(found: list[AuditedEpsilon], sizes: tuple[int, int], claim: float | None) -> dict[str, Any]:
    return {
        "schema": "qflsec-epsilon-audit/1",
        "command": command_line(),
        "scores_in": sizes[0],
        "scores_out": sizes[1],
        "delta": found[0].delta,
        "confidence": found[0].confidence,
        "bounds": [
            {
                "method": one.method,
                "epsilon_lower_nats": one.lower,
                "epsilon_ceiling_nats": one.ceiling,
                "conditional": one.conditional,
                "choice": one.choice,
                "tests": one.tests,
                "threshold": one.threshold if one.threshold is None else _number(one.threshold),
                "n": one.n,
                "evidence": one.evidence,
                "mu_lower": one.mu,
            }
            for one in found
        ],
        "claim": None if claim is None else {"epsilon_nats": claim, "verdict": _verdict(found, claim)},
    }


def _lines(found: list[AuditedEpsilon], sizes: tuple[int, int], claim: float | None) -> Iterator[str]:
    plain = found[0]
    yield f"scores       {sizes[0]:,} in, {sizes[1]:,} out"
    yield f"guarantee    epsilon at delta {plain.delta:g}, each bound with {100 * plain.confidence:g} % confidence"
    for one in found:
        yield ""
        yield one.method
        yield f"  epsilon    at least {one.lower:.4f}{f', {one.conditional}' if one.conditional else ''}"
        yield f"  ceiling    {one.ceiling:.4f}: what a perfect attack would prove with as many"
        yield f"  evidence   {one.evidence}"
        where = "" if one.threshold is None else f": {one.threshold:.6g}"
        yield f"  chosen     {one.choice}{where}"
    if claim is None:
        return
    yield ""
    verdict = _verdict(found, claim)
    why = {
        "refuted": "the bound lies above it",
        "not refuted": "which does not show that it holds",
        "not tested": f"no result of this audit could lie above {plain.ceiling:.4f}",
    }
    yield f"claim {claim:g}: {verdict}; {why[verdict]}"
    if verdict != "refuted" and any(one.refutes(claim) for one in found[1:]):
        yield "note: it is refuted if the mechanism is Gaussian"
