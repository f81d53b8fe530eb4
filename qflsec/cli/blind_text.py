"""Sessions of blind computation as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["session_lines"]

_WIDTH = 24
_UNLIKELY = 1e-3


def session_lines(document: dict[str, Any]) -> Iterator[str]:
    """One session, step by step."""
    yield (
        f"A circuit of {document['circuit_qubits']} qubits and {document['circuit_layers']} layers, delegated by "
        f"the executor {document['executor']} (all qubits are simulated, seed {document['seed']})"
    )
    yield from _saw(document)
    yield from _cost(document["cost"])
    yield from _tested(document)
    yield from _result(document)
    yield from _worth(document)
    if document.get("attack") is not None:
        yield from _attacked(document)
    if document["executor"] == "exact":
        yield "An exact value is read off the simulation: no client can have it, and it earns no soundness."
    if document.get("seeded"):
        yield "The pads came from a seed: they protect nothing."


def _saw(document: dict[str, Any]) -> Iterator[str]:
    seen = document["server_sees"]
    yield "what the server saw:"
    graph = "the circuit's own" if document["embedding"] == "ansatz" else "a brickwork: its size alone"
    yield _row("graph", f"{seen['nodes']} nodes, {seen['edges']} edges; {graph}")
    if "angles_told" not in seen:
        return
    p = seen["angles_uniform_p_value"]
    verdict = "too few to test whether they are uniform"
    if p is not None:
        verdict = "uniform" if p >= _UNLIKELY else "NOT UNIFORM"
        verdict += f" (chi-square over {seen['angles_uniform_bins']} bins, p = {p:.2g})"
    yield _row("angles", f"{seen['angles_told']:,} on a grid of 2^{document['angle_grid_bits']}: {verdict}")


def _cost(cost: dict[str, Any]) -> Iterator[str]:
    yield "what it cost:"
    rounds = f"{cost['rounds']:,}"
    if "test_rounds" in cost:
        rounds += f": {cost['computation_rounds']:,} computations among {cost['test_rounds']:,} tests"
    yield _row("rounds", rounds)
    live = f", {cost['qubits_live_at_most']} held at a time" if "qubits_live_at_most" in cost else ""
    yield _row("qubits sent", f"{cost['qubits_sent']:,}{live}")
    if "angles_sent_bits" in cost:
        bits = f"{cost['angles_sent_bits']:,} bits of angles, {cost['replies_bits']:,} bits of replies"
        yield _row("classical", bits)
    yield _row("processor time", f"{cost['cpu_seconds']:.2f} s")


def _tested(document: dict[str, Any]) -> Iterator[str]:
    tests = document["tests"]
    if tests is None:
        if document["executor"] == "shots":
            yield "NOTHING IS TESTED: the server may answer what it likes."
        return
    low, high = tests["failure_rate_interval"]
    theory = tests["failure_rate_theory"]
    said = "" if theory is None else f"; theory under this attack without noise {theory:.4f}"
    yield "what the tests said:"
    yield _row(
        "failed tests",
        f"{tests['failed']:,} of {tests['tests']:,}, at most {tests['threshold']:,} are accepted; rate "
        f"{tests['failure_rate']:.4f} [{low:.4f}, {high:.4f}] (95 %){said}",
    )


def _result(document: dict[str, Any]) -> Iterator[str]:
    result = document["result"]
    exact = _numbers(result["exact"])
    if result["estimate"] is None:
        yield f"ABORTED: {document['abort_reason']}. No result was released (exact: {exact})."
        return
    spread = result.get("standard_deviation")
    noise = "" if spread is None else f" (shot noise {_numbers(spread)})"
    yield _row("RESULT", f"{_numbers(result['estimate'])}{noise}; exact {exact}")


def _worth(document: dict[str, Any]) -> Iterator[str]:
    sound = document["soundness"]
    if sound is not None and document["tests"] is not None:
        yield "what that is worth:"
        yield _row(
            "soundness",
            f"more than {sound['corrupted_fraction']:.3g} of the shots corrupted and accepted with probability "
            f"{sound['soundness_error']:.2g} at most",
        )
        yield _row(
            "bias bound", f"{sound['bias_bound']:.3g} but with probability {sound['bias_bound_error']:.2g}"
        )
        yield _row("status", f"{sound['status']}: {sound['because']}")
    for row in document["ledger"]:
        note = "as above" if sound is not None and sound["because"] in row["note"] else row["note"]
        yield _row(f"ledger, {row['guarantee']}", f"{row['statement']} ({row['assumption']}); {note}")


def _attacked(document: dict[str, Any]) -> Iterator[str]:
    values = dict(document["attack"])
    name = values.pop("name")
    given = ", ".join(f"{key} = {value}" for key, value in values.items())
    yield _row("attack", f"{name} ({given})" if given else name)
    judged = document["judgement"]
    learned = [
        f"{part} {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
        for part in ("angles", "outcomes", "rounds")
        if (score := judged[f"server_learned_{part}"]) is not None
    ]
    words = f"the average was off by {judged['error']:.3f}"
    if document["accepted"] and judged["wrong_result_accepted"]:
        words += " and WAS ACCEPTED"
    if learned:
        words += f"; the server's advantage (0 for a guess, 1 for certainty): {', '.join(learned)}"
    yield _row("what only we can see", words)


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:+.4f}" if value < 0 else f"{value:.4f}" for value in values)


def _row(name: str, text: str) -> str:
    return f"  {name:<{_WIDTH}}{text}"
