"""What clients send is input: whoever drops out, lies or answers for another is left out and named."""

from __future__ import annotations

import copy
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from apps import client_app, first_model, mean_of, parts_of, plan_of, run
from flwr.app import Array, ConfigRecord, Message, RecordDict

from qflsec.base import ConfigError, IncompatibleStack
from qflsec.defenses.robust import Median
from qflsec.flower.client import ClientSide
from qflsec.flower.grid import InProcessGrid
from qflsec.flower.letters import Letter, Part, write_letter
from qflsec.flower.strategy import ServerSide
from qflsec.protocols.secagg import HeBfv, HeThreshold, Masked, SecAgg
from qflsec.threat.codec import encode

STEPS = ("ask:advertise", "ask:share", "train", "ask:agree", "ask:reveal")


@pytest.mark.parametrize("step", STEPS)
def test_a_client_that_goes_at_any_step_costs_its_own_update_at_most(step: str) -> None:
    """The sum is that of the others: of those whose vectors arrived."""
    gone: set[int] = set()

    def alter(index: int, asked: Message, reply: Message) -> Message | None:
        if index == 2 and step in parts_of(asked):
            gone.add(index)
        return None if index in gone else reply

    moved, side = run(plan_of(SecAgg(threshold=3), rounds=1), alter)
    assert side.outcome == "completed"
    counted = (0, 1, 2, 3, 4) if step in STEPS[3:] else (0, 1, 3, 4)
    assert side.records[0].ids == counted
    assert moved == pytest.approx(mean_of(counted), abs=1e-4)
    if len(counted) == 4:
        assert "did not answer within 5 s" in side.records[0].missing[2]


@pytest.mark.parametrize("step", STEPS)
def test_a_round_with_too_few_left_is_lost_and_the_next_one_is_not(step: str) -> None:
    def alter(index: int, asked: Message, reply: Message) -> Message | None:
        return None if alter.round == 0 and index in {1, 2, 3} and step in parts_of(asked) else reply  # type: ignore[attr-defined]

    alter.round = 0  # type: ignore[attr-defined]
    plan = plan_of(SecAgg(threshold=3))
    side = ServerSide(plan)
    note = side._records.note
    side._records.note = lambda record: (note(record), setattr(alter, "round", 1))  # type: ignore[assignment, method-assign]
    from apps import AlteringGrid

    result = side.start(AlteringGrid(client_app(ClientSide(plan)), 5, alter), first_model(), num_rounds=2)
    assert "too few clients are left" in side.records[0].lost
    assert side.records[1].ids == (0, 1, 2, 3, 4)
    assert float(result.arrays["b"].numpy()) - 1 == pytest.approx(mean_of(range(5)), abs=1e-4)


def replaced(reply: Message, *parts: Part, round_index: int = 0) -> Message:
    content = write_letter(Letter(round=round_index, parts=parts), bytes)
    made = copy.copy(reply)
    made.content = content
    return made


LIES: dict[str, tuple[Any, str]] = {
    "nan": (lambda r: replaced(r, Part(name="update", body=encode(torch.full((8,), torch.nan)))), "not finite"),
    "short": (lambda r: replaced(r, Part(name="update", body=encode(torch.zeros(3)))), "of shape (3,)"),
    "bytes": (lambda r: replaced(r, Part(name="update", body=encode(b"xyz"))), "bytes in place of numbers"),
    "garbage": (lambda r: replaced(r, Part(name="update", body=b"\xff" * 7)), "not a payload"),
    "another round": (lambda r: replaced(r, Part(name="update"), round_index=5), "a letter of round 5 in round 0"),
    "no letter": (lambda r: _with(r, RecordDict()), "without a letter"),
    "no bytes": (lambda r: _with(r, RecordDict({"qflsec": ConfigRecord({"round": 0, "letter": 1})})), "no letter"),
    "cut": (lambda r: _with(r, RecordDict({"qflsec": ConfigRecord({"round": 0, "letter": b"\x09"})})), "malformed"),
}  # fmt: skip


def _with(reply: Message, content: RecordDict) -> Message:
    made = copy.copy(reply)
    made.content = content
    return made


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("layers", [(Median(),), (SecAgg(threshold=3),)], ids=["plain", "secagg"])
def test_lies_are_refused_by_name(lie: str, layers: Any) -> None:
    make, why = LIES[lie]

    def alter(index: int, asked: Message, reply: Message) -> Message:
        return make(reply) if index == 1 and "train" in parts_of(asked) else reply

    moved, side = run(plan_of(*layers, rounds=1), alter)
    record = side.records[0]
    assert side.outcome == "completed"
    assert record.ids == (0, 2, 3, 4)
    said = {**record.missing, **record.malformed}
    assert set(said) == {1}
    sealed = lie in {"nan", "short", "bytes"} and isinstance(layers[0], SecAgg)
    assert why in said[1] or sealed
    if sealed:  # what is no vector of the protocol did not arrive, or has no signature
        assert "did not arrive" in said[1] or "too short" in said[1]
    if isinstance(layers[0], SecAgg):
        assert moved == pytest.approx(mean_of((0, 2, 3, 4)), abs=1e-4)


def test_a_reply_of_the_last_round_is_refused_in_the_next() -> None:
    kept: list[Message] = []

    def alter(index: int, asked: Message, reply: Message) -> Message:
        if index != 1 or "train" not in parts_of(asked):
            return reply
        kept.append(reply)
        return _with(reply, kept[0].content)

    _, side = run(plan_of(Median()), alter)
    assert side.records[0].ids == (0, 1, 2, 3, 4)
    assert side.records[1].missing == {1: "it sent a letter of round 0 in round 1"}


def test_the_vector_of_another_client_is_no_vector_of_this_one() -> None:
    """The signature binds the sender: what client 0 sealed does not count for client 1, and 0 counts once."""
    kept: list[Message] = []

    def alter(index: int, asked: Message, reply: Message) -> Message:
        if "train" not in parts_of(asked):
            return reply
        if index == 0:
            kept.append(reply)
        return _with(reply, kept[0].content) if index == 1 else reply

    moved, side = run(plan_of(SecAgg(threshold=3), rounds=1), alter)
    assert side.records[0].ids == (0, 2, 3, 4)
    assert "wrong signature" in side.records[0].missing[1]
    assert moved == pytest.approx(mean_of((0, 2, 3, 4)), abs=1e-4)


def test_a_node_that_says_it_is_another_client_proves_nothing() -> None:
    greetings: dict[int, RecordDict] = {}

    def alter(index: int, asked: Message, reply: Message) -> Message:
        if "hello" in parts_of(asked):
            greetings[index] = reply.content
            return _with(reply, greetings[0]) if index == 1 else reply
        return reply

    _, side = run(plan_of(SecAgg(threshold=3), rounds=1), alter)
    assert side.records[0].refused == {1001: "it says that it is client:0, and does not prove it"}
    assert side.records[0].ids == (0, 2, 3, 4)


def test_of_two_nodes_with_one_key_the_second_is_turned_away() -> None:
    _, side = run(plan_of(Median(), rounds=1), nodes=lambda index: {"partition-id": min(index, 3)})
    assert "which node 1003 is" in side.records[0].refused[1004]
    assert side.records[0].ids == (0, 1, 2, 3)
    assert "no node of it is connected" in side.records[0].missing[4]


def test_a_server_that_asks_twice_in_a_round_is_refused() -> None:
    """A second vector under the same masks would open the first."""
    plan = plan_of(SecAgg(threshold=3), rounds=1)
    app = client_app(ClientSide(plan))
    again: list[Message] = []

    class Twice(InProcessGrid):
        def answer(self, index: int, message: Message) -> Message | None:
            reply = super().answer(index, message)
            if "train" in parts_of(message):
                second = super().answer(index, message)
                assert second is not None
                again.append(second)
            return reply

    side = ServerSide(plan)
    side.start(Twice(app, 5), first_model(), num_rounds=1)
    assert [parts_of(one) for one in again] == [["refused"]] * 5
    assert side.outcome == "completed"


def test_a_second_training_in_a_round_is_refused_without_any_protocol() -> None:
    """Two noisy releases of one round cost more than the account says."""
    from qflsec.base.framing import pack_indices
    from qflsec.defenses.privacy import LocalDp

    plan = plan_of(LocalDp(), rounds=1)
    again: list[Message] = []

    class Twice(InProcessGrid):
        def answer(self, index: int, message: Message) -> Message | None:
            reply = super().answer(index, message)
            if "train" in parts_of(message):
                only = Letter(round=0, parts=(Part(name="train", body=pack_indices(range(5))),))
                second = super().answer(index, _with(message, write_letter(only, bytes)))
                assert second is not None
                again.append(second)
            return reply

    ServerSide(plan).start(Twice(client_app(ClientSide(plan)), 5), first_model(), num_rounds=1)
    assert [parts_of(one) for one in again] == [["refused"]] * 5


def test_what_an_app_raises_is_told_and_costs_its_client() -> None:
    plan = plan_of(Median(), rounds=1, max_count=4)
    _, side = run(plan)
    assert side.records[0].ids == (0, 1, 2, 3)
    assert side.records[0].missing == {4: "it refused: 'num-examples' is out of range"}


@pytest.mark.parametrize(
    "layer", [Masked(), HeThreshold(), HeBfv()], ids=["masked", "he-threshold", "he-bfv"]
)
def test_a_sum_that_needs_everybody_is_lost_where_one_is_missing(layer: Any) -> None:
    def alter(index: int, asked: Message, reply: Message) -> Message | None:
        return None if index == 3 and "train" in parts_of(asked) else reply

    moved, side = run(plan_of(layer, rounds=1), alter)
    if not isinstance(layer, HeBfv):
        assert "client:3" in side.records[0].lost
        assert moved == 0
    else:
        assert side.records[0].ids == (0, 1, 2, 4)
        assert moved == pytest.approx(mean_of((0, 1, 2, 4)), abs=1e-3)


def test_a_line_for_each_round_says_who_counted_and_what_is_guaranteed(tmp_path: Path) -> None:
    path = tmp_path / "run" / "ledger.jsonl"
    run(plan_of(SecAgg(threshold=3)), ledger=path)
    *rounds, end = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["ids"] for line in rounds] == [[0, 1, 2, 3, 4]] * 2
    assert end == {"kind": "end", "outcome": "completed", "rounds": 2, "scores": {}}
    rows = [row for row in rounds[-1]["ledger"] if row["observer"] == "honest-but-curious-server"]
    assert any(row["layer"] == "secagg" and row["guarantee"] == "secrecy" for row in rows)
    assert any("mixes fewer than 5 honest clients" in row["statement"] for row in rows)


def test_evaluations_are_means_by_examples() -> None:
    moved, side = run(plan_of(Median(), rounds=1, evaluate=True, metrics=True))
    assert dict(side.result.evaluate_metrics_clientapp[1]) == {"b": 1 + moved, "num-examples": 15.0}  # type: ignore[attr-defined]


def test_numbers_that_clients_report_are_asked_for_by_the_plan_alone(tmp_path: Path) -> None:
    """A loss beside a noisy update would undo the noise, and a server that may ask for evaluations has an oracle."""
    quiet, told = tmp_path / "quiet", tmp_path / "told"
    _, side = run(plan_of(Median(), rounds=1), ledger=quiet)
    assert not side.records[0].metrics
    _, side = run(plan_of(Median(), rounds=1, metrics=True), ledger=told)
    assert side.records[0].metrics == {"loss": 0.5, "num-examples": 15.0}
    assert "numbers that clients report" not in quiet.read_text()
    assert "numbers that clients report" in told.read_text()
    with pytest.raises(IncompatibleStack, match="'secagg' hides single updates"):
        plan_of(SecAgg(), metrics=True)
    with pytest.raises(IncompatibleStack, match="no model that clients could evaluate"):
        plan_of(HeBfv(), evaluate=True)
    asked = {"n": 0}

    class Curious(InProcessGrid):
        """After training it asks for an evaluation of a model of its own."""

        def answer(self, index: int, message: Message) -> Message | None:
            reply = super().answer(index, message)
            if "train" in parts_of(message):
                body = Letter(round=0, parts=(Part(name="evaluate", body=encode(torch.zeros(7))),))
                oracle = _with(message, write_letter(body, bytes))
                refused = super().answer(index, oracle)
                assert refused is not None
                assert parts_of(refused) == ["refused"]
                asked["n"] += 1
            return reply

    plan = plan_of(Median(), rounds=1)
    ServerSide(plan).start(Curious(client_app(ClientSide(plan)), 5), first_model(), num_rounds=1)
    assert asked["n"] == 5


def test_under_another_strategy_updates_are_shaped_and_losses_stay() -> None:
    from flwr.serverapp.strategy import FedAvg

    from qflsec.defenses.privacy import ClientClip

    plan = plan_of(ClientClip(clip_norm=0.5), rounds=1)
    grid = InProcessGrid(client_app(ClientSide(plan)), 5)
    result = FedAvg(fraction_evaluate=0.0).start(grid, first_model(), num_rounds=1)
    assert dict(result.train_metrics_clientapp[1]) == {}
    moved = np.concatenate(
        [result.arrays["a"].numpy().reshape(-1), result.arrays["b"].numpy().reshape(-1) - 1]
    )
    # every client moves 7 numbers by the same, by more than the clip norm from the second on
    norms = [min(0.5, 7**0.5 * (i + 1) / 8) for i in range(5)]
    expected = sum((i + 1) * norms[i] for i in range(5)) / 15
    assert np.linalg.norm(moved) == pytest.approx(expected, rel=1e-5)
    sealed = plan_of(SecAgg(), rounds=1)
    refusing = InProcessGrid(client_app(ClientSide(sealed)), 5)
    with pytest.raises(Exception):  # noqa: B017 - Flower's own complaint of replies without arrays
        FedAvg(fraction_evaluate=0.0).start(refusing, first_model(), num_rounds=1)


def test_a_session_is_of_one_run_and_a_strategy_may_be_started_again() -> None:
    plan = plan_of(SecAgg(threshold=3), rounds=1)
    app = client_app(ClientSide(plan))
    side = ServerSide(plan)
    for _ in range(2):
        # every run has nodes of its own here, as Flower has a context for each run
        side.start(InProcessGrid(client_app(ClientSide(plan)), 5), first_model(), num_rounds=1)
        assert side.outcome == "completed"
        assert len(side.records) == 1
    greeted: list[Message] = []

    class Kept(InProcessGrid):
        def answer(self, index: int, message: Message) -> Message | None:
            if "hello" in parts_of(message):
                greeted.append(message)
            return super().answer(index, message)

    ServerSide(plan).start(Kept(app, 5), first_model(), num_rounds=1)
    later = InProcessGrid(client_app(ClientSide(plan)), 5)
    later._context(0).run_id = 2
    reply = later.answer(0, greeted[0])
    assert reply is not None
    assert parts_of(reply) == ["refused"]


def test_compressed_updates_travel_in_their_code() -> None:
    """The same model up to single precision, in fewer bytes; what is no code is refused by name."""
    from qflsec.defenses.compression import UpdateQuantization

    layers = (UpdateQuantization(bits=4),)
    moved, side = run(plan_of(*layers))
    coded, other = run(plan_of(*layers, coded=True))
    assert coded == pytest.approx(moved, rel=1e-5)
    assert other.grid.bytes_up < side.grid.bytes_up  # type: ignore[attr-defined]

    def alter(index: int, asked: Message, reply: Message) -> Message:
        lies = {1: b"", 2: b"\xff" * 16, 3: encode(b"\x00" * 3)}
        if "train" not in parts_of(asked) or index not in lies:
            return reply
        return replaced(reply, Part(name="update", body=lies[index]))

    _, side = run(plan_of(*layers, coded=True, rounds=1), alter)
    assert side.records[0].ids == (0, 4)
    assert set(side.records[0].malformed) == {1, 2, 3}
    assert "something else than the code" in side.records[0].malformed[3]
    with pytest.raises(IncompatibleStack, match="no code for the updates"):
        plan_of(Median(), coded=True)


def test_keys_need_a_home_and_a_plan_the_same_plan() -> None:
    with pytest.raises(ConfigError, match="no home for its key"):
        run(plan_of(SecAgg(), seed=None))
    plan, other = plan_of(Median()), plan_of(Median(), max_count=11)
    side = ServerSide(plan)
    side.start(InProcessGrid(client_app(ClientSide(other)), 5), first_model(), num_rounds=1)
    assert "the server follows another plan" in side.outcome
    from qflsec.protocols.ghz import Ghz

    with pytest.raises(IncompatibleStack, match="within one process"):
        plan_of(Ghz())


def test_integers_are_no_model() -> None:
    from qflsec.base import UpdateError
    from qflsec.flower.arrays import ArrayLayout

    arrays = first_model()
    arrays["steps"] = Array(np.zeros(1, np.int64))
    with pytest.raises(
        UpdateError, match="'steps' holds no numbers that an update could be added to; got int64"
    ):
        ArrayLayout.of(arrays)


def test_a_list_or_text_without_entries_has_a_size(tmp_path: Path) -> None:
    """Flower's own count fails on them, and an app may send them."""
    from qflsec.flower.grid import content_bytes
    from qflsec.flower.recorder import Recorder

    empty, full = ConfigRecord({"names": []}), ConfigRecord({"names": [b"abc"]})
    with pytest.raises(IndexError):
        empty.count_bytes()
    with pytest.raises(ValueError, match="Config values must be"):
        ConfigRecord({"name": ""}).count_bytes()
    assert content_bytes(RecordDict({"c": empty})) == len("names")
    assert content_bytes(RecordDict({"c": ConfigRecord({"name": "", "n": 1})})) == len("name") + len("n") + 8
    assert content_bytes(RecordDict({"c": full})) == full.count_bytes() == len("names") + 3
    plan = plan_of(Median(), rounds=1)
    app = client_app(Recorder(tmp_path), ClientSide(plan))
    ServerSide(plan).start(InProcessGrid(app, 5), first_model(), num_rounds=1)
    lines = [json.loads(line) for line in (tmp_path / "node-1000.jsonl").read_text().splitlines()]
    assert [line["what"] for line in lines] == ["received", "answered"] * 2  # the greeting, and the training
    assert all(line["records"]["qflsec"] > 0 for line in lines)


@pytest.mark.parametrize("error", [ConnectionError("no SuperLink knows\nthis run"), SystemExit(1)])
def test_a_ledger_ends_whatever_ends_the_run(tmp_path: Path, error: BaseException) -> None:
    """What Flower raises goes on, and stands in the ledger."""
    path = tmp_path / "ledger.jsonl"

    class Broken(InProcessGrid):
        def send_and_receive(self, *_: Any, **__: Any) -> Any:
            raise error

    plan = plan_of(Median(), rounds=1)
    side = ServerSide(plan, ledger=path)
    with pytest.raises(type(error)):
        side.start(Broken(client_app(ClientSide(plan)), 5), first_model(), num_rounds=1)
    (end,) = map(json.loads, path.read_text().splitlines())
    why = "no SuperLink knows this run" if isinstance(error, Exception) else "the app was ended"
    assert (end["kind"], end["outcome"]) == ("end", f"failed: {why}")
    assert side.outcome == end["outcome"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stands_in_the_ledger_before_anybody_answers_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Flower's handler may end the process without an exception, which leaves no time for more."""
    path, read = tmp_path / "ledger.jsonl", []

    def flowers(*_: object) -> None:
        read.extend(map(json.loads, path.read_text().splitlines()))
        raise SystemExit(1)

    class Ended(InProcessGrid):
        def send_and_receive(self, *_: Any, **__: Any) -> Any:
            signal.raise_signal(number)

    plan = plan_of(Median(), rounds=1)
    before = signal.signal(number, flowers)
    try:
        with pytest.raises(SystemExit):
            ServerSide(plan, ledger=path).start(
                Ended(client_app(ClientSide(plan)), 5), first_model(), num_rounds=1
            )
        assert signal.getsignal(number) is flowers
    finally:
        signal.signal(number, before)
    assert [(line["kind"], line["outcome"]) for line in read] == [("end", "failed: the app was ended")]
    assert len(path.read_text().splitlines()) == 1


def test_a_signal_that_is_ignored_ends_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    plan = plan_of(Median(), rounds=1)

    class Called(InProcessGrid):
        def send_and_receive(self, *args: Any, **named: Any) -> Any:
            signal.raise_signal(signal.SIGINT)
            return super().send_and_receive(*args, **named)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        ServerSide(plan, ledger=path).start(
            Called(client_app(ClientSide(plan)), 5), first_model(), num_rounds=1
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert [json.loads(line).get("outcome") for line in path.read_text().splitlines()] == [None, "completed"]
