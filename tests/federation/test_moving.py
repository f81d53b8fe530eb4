"""Vehicles and satellites: chains, channels and orbits against their formulas, and that they are no secret sampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from qflsec.base import ConfigError, IncompatibleStack
from qflsec.defenses.privacy import DpSgd
from qflsec.defenses.robust import Median
from qflsec.federation import (
    Pipeline,
    RunResult,
    RunSpec,
    Satellites,
    Slimmable,
    Stack,
    Vehicles,
    parts_from_config,
    run_batch,
)
from qflsec.models import build_model
from qflsec.protocols.secagg import Masked
from qflsec.threat import WIRE, ThreatModel, client, honest_but_curious_server

Maker = Callable[..., Pipeline]
NONE = Stack(name="none")
EVER = Satellites(stations=40, whole_elevation_deg=10.0)
AWAKE = Vehicles(sleep=0.0, fading="none")
SLIM = build_model({"name": "layered", "n_qubits": 2, "layers": 2, "poles": True})
WHOLE = build_model({"name": "vqc", "n_qubits": 2, "layers": 2})


def moving(make_pipeline: Maker, parts: Vehicles | Satellites | None, **federation: object) -> Pipeline:
    pipeline = make_pipeline(members=24, n_qubits=2, n_clients=6, local_steps=2, rounds=5, **federation)
    return replace(pipeline, model=SLIM, parts=parts)


def run(pipeline: Pipeline, stack: Stack = NONE, seed: int = 1) -> RunResult:
    (result,) = run_batch(pipeline, stack, [RunSpec(seed=seed)], secrets="seeded")
    assert result.outcome == "completed", result.outcome
    return result


def test_the_chain_has_its_stationary_share_and_its_correlation() -> None:
    """2000 vehicles in three rounds: shares within 5 standard errors, from the first round on."""
    chain = Vehicles(sleep=0.3, wake=0.2)
    first, second, third = (chain.awake(2000, index, 5).double() for index in range(3))
    assert chain.share == pytest.approx(0.4)
    error = 5 * math.sqrt(0.4 * 0.6 / 2000)
    assert all(abs(float(one.mean()) - 0.4) < error for one in (first, second, third))
    correlation = torch.corrcoef(torch.stack([first, second]))[0, 1]
    assert abs(float(correlation) - (1 - 0.3 - 0.2)) < 5 / math.sqrt(2000)
    assert bool(Vehicles(sleep=0.0, wake=0.1).awake(50, 3, 1).all())


def test_fading_lets_through_what_its_exponential_law_says() -> None:
    vehicles = Vehicles(sleep=0.0, snr_db=6.0, whole_db=5.0, angles_db=-3.0)
    rows = vehicles.sent(SLIM, 4000, 2, 9)
    whole, something = rows.all(dim=1).double().mean(), rows.any(dim=1).double().mean()
    for found, threshold in ((whole, 5.0), (something, -3.0)):
        wanted = math.exp(-(10 ** ((threshold - 6.0) / 10)))
        assert abs(float(found) - wanted) < 5 * math.sqrt(wanted * (1 - wanted) / 4000)
    # a model without poles arrives whole or not at all
    alone = vehicles.sent(WHOLE, 4000, 2, 9)
    assert torch.equal(alone.any(dim=1), alone.all(dim=1))
    assert torch.equal(alone.any(dim=1), rows.all(dim=1))


@pytest.mark.parametrize(("altitude", "minutes"), [(408.0, 92.6), (550.0, 95.5), (20200.0, 718.7)])
def test_periods_of_known_orbits(altitude: float, minutes: float) -> None:
    """The space station (about 92.6 min), 550 km (about 95.5 min) and GPS (half a sidereal day, 718 min), to 0.3 %."""
    assert Satellites(altitude_km=altitude).period_minutes == pytest.approx(minutes, rel=3e-3)


@pytest.mark.parametrize("elevation", [0.0, 10.0, 25.0, 60.0])
def test_the_window_ends_where_the_elevation_does(elevation: float) -> None:
    orbit = Satellites(altitude_km=700.0, elevation_deg=elevation, whole_elevation_deg=max(elevation, 25.0))
    psi, radius = orbit.half_window(elevation), 6371.0 + 700.0
    # the station at the top of the circle, the satellite in coordinates
    across, up = radius * math.sin(psi), radius * math.cos(psi) - 6371.0
    assert math.degrees(math.atan2(up, across)) == pytest.approx(elevation, abs=1e-9)
    seen = torch.stack([orbit.links(200, index) > 0 for index in range(50)]).double().mean()
    assert abs(float(seen) - orbit.share) < 0.02
    assert torch.equal(orbit.sent(SLIM, 7, 3, 1), orbit.sent(SLIM, 7, 3, 2)), "no seed is asked"


@pytest.mark.parametrize("parts", [EVER, AWAKE])
def test_always_heard_over_a_good_link_is_federated_averaging_bit_for_bit(
    make_pipeline: Maker, parts: Vehicles | Satellites
) -> None:
    averaged, heard = run(moving(make_pipeline, None)), run(moving(make_pipeline, parts))
    assert torch.equal(averaged.params, heard.params)
    assert averaged.accuracy == heard.accuracy


@pytest.mark.parametrize("parts", [Satellites(stations=2), Vehicles()])
def test_a_round_is_the_mean_of_those_who_are_heard(
    make_pipeline: Maker, parts: Vehicles | Satellites
) -> None:
    pipeline = moving(make_pipeline, parts)
    specs = [RunSpec(seed=seed) for seed in (1, 2)]
    for one, spec in zip(run_batch(pipeline, NONE, specs), specs, strict=True):
        assert torch.equal(one.params, run(pipeline, seed=spec.seed).params), "batched equals single"
        for index in range(5):
            sent = parts.sent(SLIM, 6, index, spec.seed)
            heard = one.participants.get(index, frozenset())
            assert heard == frozenset(torch.nonzero(sent.any(dim=1)).flatten().tolist())
    assert len({one.participants.get(index, frozenset()) for index in range(5)}) > 1


def test_windows_are_no_secret_sampling_and_no_epsilon_is_smaller_for_them(make_pipeline: Maker) -> None:
    private = Stack.from_layers("dp", [DpSgd(clip_norm=0.5, noise_multiplier=1.0)])
    wire = ThreatModel(name="wire", corrupted=frozenset({WIRE}))
    for threat in (honest_but_curious_server(), wire):
        always, windows, asleep = (
            [
                (row.epsilon, row.sampling)
                for row in run(moving(make_pipeline, parts), private).ledger(threat)
                if row.epsilon is not None
            ]
            for parts in (None, Satellites(stations=2), Vehicles())
        )
        assert always
        assert always == windows == asleep
    training = run(moving(make_pipeline, Satellites(stations=2))).context(
        run(moving(make_pipeline, Satellites(stations=2))).view(wire)
    )
    assert training.training.client_sampling == "all"
    assert training.observer.knows_rosters, "who is heard is known to everybody"
    with pytest.raises(ConfigError, match="who takes part"):
        moving(make_pipeline, Vehicles(), participation=0.5, client_sampling="poisson")


def test_a_pattern_of_windows_names_its_satellite_and_few_hide_each() -> None:
    for stations, apart in ((3, 10), (4, 5)):
        orbit = Satellites(stations=stations)
        heard = torch.stack([orbit.links(10, index) > 0 for index in range(25)])
        # four stations see satellites half an orbit apart alike
        assert len({tuple(column) for column in heard.T.tolist()}) == apart
        k = heard.sum(dim=1)
        assert 0 < int(k.max()) < 10


def test_one_who_looks_at_models_alone_sees_means_of_few(make_pipeline: Maker) -> None:
    peer = ThreatModel(name="peer", corrupted=frozenset({client(0)}))

    def smallest(parts: Satellites | None) -> int:
        pipeline = moving(make_pipeline, parts)
        longer = replace(pipeline, federation=replace(pipeline.federation, rounds=8))
        items = run(longer).view(peer).items
        return min(item.k for item in items if item.k and item.derived)

    assert smallest(None) == 5
    assert smallest(Satellites(stations=2)) == 1, "two of them in sight, and one of them looks"


def test_what_is_refused(make_pipeline: Maker) -> None:
    assert parts_from_config({"name": "satellites", "stations": 3}) == Satellites(stations=3)
    assert Vehicles().to_config()["name"] == "vehicles"
    for wrong in ({"sleep": 1.5}, {"wake": 0.0}, {"angles_db": 9.0}, {"fading": "rice"}):
        with pytest.raises(ConfigError):
            Vehicles(**wrong)  # type: ignore[arg-type]
    for odd in ({"altitude_km": -1.0}, {"elevation_deg": 30.0}, {"stations": 0}, {"round_minutes": 0.0}):
        with pytest.raises(ConfigError):
            Satellites(**odd)  # type: ignore[arg-type]
    pipeline = moving(make_pipeline, Satellites())
    Stack.from_layers("median", [Median()]).check(pipeline)
    with pytest.raises(IncompatibleStack, match="parts of the model"):
        Stack.from_layers("masked", [Masked()]).check(pipeline)
    assert Slimmable().to_config() != Vehicles().to_config()
