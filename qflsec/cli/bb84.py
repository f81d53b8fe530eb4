"""``qflsec bb84``: one run of BB84 from the first pulse to the key, and the matrix of channel attacks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from qflsec.base.errors import ConfigError
from qflsec.cli.options import (
    Address,
    AsJson,
    Backend,
    Jobs,
    Report,
    SeedOffset,
    Seeds,
    StoreFile,
    command_line,
    refuse_options,
)
from qflsec.cli.render import print_json
from qflsec.cli.run_matrix import run_matrix_command

if TYPE_CHECKING:
    from qflsec.lab.worlds.channel import Judgement
    from qflsec.protocols.bb84 import FibreChannel
    from qflsec.protocols.bb84.optimise import Requirements
    from qflsec.protocols.bb84.run import BB84Result
    from qflsec.protocols.bb84.run_config import SourceName

__all__ = ["app"]

app = typer.Typer(help="Keys by BB84, from the first pulse on; 'qflsec bb84 matrix' attacks them.")


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    source: Annotated[
        str, typer.Option(help="single-photon, decoy, or weak-coherent (no decoys: no proof covers its key).")
    ] = "single-photon",
    distance: Annotated[float, typer.Option(help="Length of the fibre that is planned for, in km.")] = 10.0,
    pulses: Annotated[str, typer.Option(help="Pulses to send, as in 1e7.")] = "1e7",
    attack: Annotated[
        str | None, typer.Option(help="An attack on the line, as in intercept-resend:0.2.")
    ] = None,
    countermeasure: Annotated[
        list[str] | None, typer.Option(help="detector-monitor, random-assignment or isolator; may be repeated.")
    ] = None,
    loss: Annotated[float, typer.Option(help="Attenuation of the fibre, in dB/km.")] = 0.2,
    misalignment: Annotated[
        float, typer.Option(help="Probability that a photon goes to the wrong detector.")
    ] = 0.005,
    efficiency: Annotated[float, typer.Option(help="Efficiency of Bob's detectors.")] = 0.1,
    dark_count: Annotated[float, typer.Option(help="Dark-count probability per gate and detector.")] = 6e-7,
    afterpulse: Annotated[float, typer.Option(help="Afterpulse probability.")] = 0.0,
    shift_ratio: Annotated[
        float, typer.Option(help="Efficiency of the disfavoured detector for a shifted pulse, over the other's.")
    ] = 1.0,
    basis_bias: Annotated[
        float | None, typer.Option(help="Probability of the key's basis; the best one by default.")
    ] = None,
    intensity: Annotated[float, typer.Option(help="Mean photon number of the source weak-coherent.")] = 0.5,
    actual_distance: Annotated[
        float | None, typer.Option(help="What the length really is, if not as planned; in km.")
    ] = None,
    actual_misalignment: Annotated[
        float | None, typer.Option(help="What the misalignment really is, if not as planned.")
    ] = None,
    eps_sec: Annotated[float, typer.Option(help="Secrecy asked for.")] = 1e-10,
    eps_cor: Annotated[float, typer.Option(help="Correctness asked for.")] = 1e-15,
    accounting: Annotated[
        str, typer.Option(help="Leak of error correction: both-parties or error-pattern-public.")
    ] = "both-parties",
    schedule: Annotated[
        str | None, typer.Option(help="Schedule of Cascade; the project's choice by default.")
    ] = None,
    tags: Annotated[str, typer.Option(help="Authentication: transcript or per-message.")] = "transcript",
    seed: Annotated[int, typer.Option(help="Of the physics and of the adversary; secrets are fresh.")] = 0,
    seeded_secrets: Annotated[
        bool, typer.Option("--seeded-secrets", help="Take secrets from the seed too: such a key protects nothing.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Draw the run into FILE.png or FILE.html.")] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Run BB84 once and print the whole chain of numbers; an abort is a result, with its reason."""
    if context.invoked_subcommand is not None:
        refuse_options(context)
        return
    from qflsec.lab.worlds.channel import attack_from_text, judge, prepare
    from qflsec.protocols.bb84 import DetectorModel
    from qflsec.protocols.bb84.run import run_bb84
    from qflsec.protocols.bb84.run_config import BB84Config

    if out is not None:
        from qflsec.report.chain import check_figure_path

        check_figure_path(out)
    detector = DetectorModel(
        efficiency=efficiency, dark_count=dark_count, afterpulse=afterpulse, shift_ratio=shift_ratio
    )
    expected, line = _lines(distance, loss, misalignment, actual_distance, actual_misalignment)
    asked = BB84Config(
        source=cast("SourceName", source),
        pulses=_whole(pulses),
        expected=expected,
        line=line,
        detector=detector,
        basis_probability=basis_bias,
        intensity=intensity,
        requirements=_requirements(
            eps_sec=eps_sec, eps_cor=eps_cor, accounting=accounting, schedule=schedule, tags=tags
        ),
    )
    opponent = None if attack is None else attack_from_text(attack)
    config, plan = prepare(asked, countermeasure or ())
    result = run_bb84(
        config,
        seed=seed,
        plan=plan,
        attack=opponent,
        progress=_Percent(asked.pulses, "pulses") if asked.pulses >= 100_000_000 else None,
        **_secrets(seed if seeded_secrets else None),
    )
    judgement = judge(result)
    described = None if opponent is None else dict(opponent.to_config())
    if as_json:
        print_json(_document(result, judgement, described, countermeasure or []))
    else:
        _print(result, judgement, attack)
    if out is not None:
        from qflsec.report.chain import write_chain_figure

        write_chain_figure(result, out)
        typer.echo(f"figure: {out}", err=True)


@app.command("matrix")
def matrix(
    spec: Annotated[str, typer.Argument(help="A channel matrix: bb84, or a TOML file like it.")] = "bb84",
    store: StoreFile = None,
    report: Report = None,
    jobs: Jobs = None,
    backend: Backend = "local",
    address: Address = None,
    seeds: Seeds = None,
    seed: SeedOffset = 0,
    as_json: AsJson = False,
) -> None:
    """Cross attacks on the channel with countermeasures: detected? and is a key still claimed secure?"""
    run_matrix_command(
        spec,
        kind="channel",
        store=store,
        report=report,
        jobs=jobs,
        backend=backend,
        address=address,
        seeds=seeds,
        seed=seed,
        as_json=as_json,
    )


class _Percent:
    """Progress on stderr, a line for each tenth of the way."""

    def __init__(self, total: int, what: str) -> None:
        import time

        self._clock = time.monotonic
        self._start = self._clock()
        self._total, self._what, self._told = total, what, 0

    def __call__(self, done: int) -> None:
        from qflsec.cli.progress import duration

        if 10 * done < (self._told + 1) * self._total:
            return
        self._told = 10 * done // self._total
        passed = self._clock() - self._start
        left = duration(passed * (self._total - done) / done)
        typer.echo(f"[{done:,} of {self._total:,} {self._what}, {duration(passed)}, left {left}]", err=True)


def _whole(text: str) -> int:
    """A whole number such as ``1e7``."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if value != value or value != value // 1 or value < 1 or value > 1e15:  # noqa: PLR0124 - NaN
        raise ConfigError("impossible number of pulses", got=repr(text), expected="a whole number, as in 1e7")
    return int(value)


def _lines(
    distance: float,
    loss: float,
    misalignment: float,
    actual_distance: float | None,
    actual_misalignment: float | None,
) -> tuple[FibreChannel, FibreChannel | None]:
    """The line as it is planned for, and as it is."""
    from qflsec.protocols.bb84 import FibreChannel

    expected = FibreChannel(distance_km=distance, loss_db_per_km=loss, misalignment=misalignment)
    if actual_distance is None and actual_misalignment is None:
        return expected, None
    line = FibreChannel(
        distance_km=distance if actual_distance is None else actual_distance,
        loss_db_per_km=loss,
        misalignment=misalignment if actual_misalignment is None else actual_misalignment,
    )
    return expected, line


def _requirements(
    *, accounting: str, tags: str, eps_sec: float, eps_cor: float, schedule: str | None
) -> Requirements:
    from qflsec.protocols.bb84.agreement import TagMode
    from qflsec.protocols.bb84.cascade_variants import schedule as find_schedule
    from qflsec.protocols.bb84.key_length import LeakAccounting, check_epsilons
    from qflsec.protocols.bb84.optimise import Requirements

    for name, value, known in (
        ("--accounting", accounting, get_args(LeakAccounting)),
        ("--tags", tags, get_args(TagMode)),
    ):
        if value not in known:
            raise ConfigError(f"unknown value of {name}", got=repr(value), expected=" or ".join(known))
    chosen = Requirements().schedule if schedule is None else schedule
    find_schedule(chosen)
    check_epsilons(eps_sec, eps_cor)
    return Requirements(
        eps_sec=eps_sec,
        eps_cor=eps_cor,
        accounting=cast("LeakAccounting", accounting),
        schedule=chosen,
        tags=cast("TagMode", tags),
    )


def _secrets(seed: int | None) -> dict[str, Any]:
    if seed is None:
        return {}
    from qflsec.base import SeededSecrets

    return {f"{party}_secrets": SeededSecrets(seed, "bb84", party) for party in ("alice", "bob")}


def _document(
    result: BB84Result, judgement: Judgement, attack: dict[str, Any] | None, countermeasures: list[str]
) -> dict[str, Any]:
    return {
        "schema": "qflsec-bb84/1",
        "command": command_line(),
        "attack": attack,
        "countermeasures": sorted(countermeasures),
        **result.to_dict(),
        "judgement": judgement.to_dict(),
    }


def _print(result: BB84Result, judgement: Judgement, attack: str | None) -> None:
    from qflsec.cli.bb84_text import chain_lines

    for text in chain_lines(result, judgement, attack):
        typer.echo(text)
