"""Failures that are alike are told once."""

from __future__ import annotations

from qflsec.lab.grid.failures import Failed, told

FRAMES = 'Traceback:\n  File "mine.py", line 3, in run\n    return 1 / n\nZeroDivisionError: {}\n'


def failed(where: str, seed: int, reason: str, what: str = "trial") -> Failed:
    return Failed(
        what=what, where=where, seed=seed, reason=reason, traceback=FRAMES.format(reason.partition(": ")[2])
    )


def test_alike_failures_are_one_text_with_one_traceback() -> None:
    trials = [
        failed(f"mine x s{i}", seed, f"ZeroDivisionError: by {seed}") for i in range(6) for seed in (0, 1)
    ]
    (text,) = told(trials)
    first, *frames = text.splitlines()
    assert first == (
        "12 trials failed alike: ZeroDivisionError: by 0; in mine x s0 (2), mine x s1 (2), mine x s2 (2), "
        "mine x s3 (2) and 2 more"
    )
    assert "\n".join([*frames, ""]) == FRAMES.format("by 0")


def test_other_types_frames_or_sentences_are_other_failures() -> None:
    elsewhere = Failed(
        what="trial",
        where="a",
        seed=0,
        reason="ZeroDivisionError: x",
        traceback=FRAMES.replace("line 3", "line 4"),
    )
    bare = [Failed(what="trial", where="a", seed=0, reason=reason) for reason in ("one", "two")]
    found = told(
        [failed("a", 0, "ZeroDivisionError: x"), failed("a", 0, "OverflowError: x"), elsewhere, *bare]
    )
    assert len(found) == 5
    assert found[-1] == "a, seed 0: two"


def test_a_failed_run_is_told_with_the_trials_that_needed_it() -> None:
    trial = failed("mine x none", 0, "the attacked run: ZeroDivisionError: x")
    run = failed("run of p x none, mine", 0, "failed: ZeroDivisionError: x", what="run")
    other = failed("run of q x none", 0, "failed: OverflowError: x", what="run")
    found = [text.splitlines()[0] for text in told([trial, run, other])]
    assert found == ["mine x none, seed 0: ZeroDivisionError: x", "run of q x none, seed 0: OverflowError: x"]
