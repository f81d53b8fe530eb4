"""A Flower app runs unchanged over a grid of ours; each fault is planted in an app that is clean without it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, FedMedian

from qflsec.audit import audit, find_target
from qflsec.audit.check import Bench, NotApplicable
from qflsec.audit.collect import parts_of
from qflsec.audit.flower.app import FlowerApp, app_of_folder
from qflsec.audit.flower.recording import SERVER, Recording, as_vector
from qflsec.audit.flower.run import record
from qflsec.audit.flower.subject import subject_of
from qflsec.audit.outcome import Finding
from qflsec.base import ConfigError, find

RNG = np.random.default_rng(5)
X = RNG.normal(size=(72, 4)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0).astype(np.int64)


class Net(torch.nn.Module):
    def __init__(self, *, norm: bool = False) -> None:
        super().__init__()
        self.first = torch.nn.Linear(4, 3)
        self.norm = torch.nn.BatchNorm1d(3) if norm else torch.nn.Identity()
        self.last = torch.nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.norm(self.first(x))))


class Careful(FedMedian):
    """Drops replies that are not finite, and does not ask for counts."""

    def aggregate_train(self, server_round: int, replies: Sequence[Message]) -> Any:  # type: ignore[override]
        kept = [
            one
            for one in replies
            if all(np.isfinite(array.numpy()).all() for array in one.content["arrays"].values())
        ]
        return super().aggregate_train(server_round, kept)


def records(node: int, n: int, fault: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Training and evaluation records of a node."""
    if fault == "one-partition":
        node = 0
    size = len(X) // n
    rows = np.arange(node * size, (node + 1) * size)
    train, test = rows[: 2 * size // 3], rows[2 * size // 3 :]
    if fault == "shared-records":
        train = np.concatenate([train, np.arange(4)])
    if fault == "recorded-evaluation":
        test = rows
    x, y = torch.tensor(X), torch.tensor(Y)
    return x[train], y[train], x[test], y[test]


def client_app(fault: str) -> ClientApp:
    app, kept = ClientApp(), {}

    @app.train()
    def train(message: Message, context: Context) -> Message:
        node = int(context.node_config["partition-id"])
        x, y, _, _ = records(node, int(context.node_config["num-partitions"]), fault)
        net, given = (
            Net(norm=fault == "statistics-in-updates"),
            message.content["arrays"].to_torch_state_dict(),
        )
        optimiser = torch.optim.SGD(net.parameters(), lr=0.5)
        if (
            fault == "nothing-trains" and node in kept
        ):  # new tensors under the names of those that the optimiser holds
            net, optimiser = kept[node]
            for part in (net.first, net.last):
                for name, value in list(part.named_parameters()):
                    setattr(part, name, torch.nn.Parameter(value.detach().clone()))
        kept[node] = net, optimiser
        net.load_state_dict(given)
        for batch in torch.arange(len(x)).repeat(25 if fault == "longer" else 1).split(8):
            optimiser.zero_grad()
            loss = torch.nn.functional.cross_entropy(net(x[batch]), y[batch])
            loss.backward()
            optimiser.step()
        n = -(-len(x) // 8) if fault == "declared-counts" else len(x)
        metrics = MetricRecord({"num-examples": n, "loss": loss.item()})
        return Message(
            RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics}), reply_to=message
        )

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        node, n = int(context.node_config["partition-id"]), int(context.node_config["num-partitions"])
        _, _, x, y = records(node, n, fault)
        net = Net(norm=fault == "statistics-in-updates")
        net.load_state_dict(message.content["arrays"].to_torch_state_dict())
        with torch.no_grad():
            right = int((net.eval()(x).argmax(1) == y).sum())
        metrics = MetricRecord({"num-examples": len(x), "accuracy": right / len(x)})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def server_app(strategy: Any, *, rounds: int = 2, norm: bool = False) -> ServerApp:
    app = ServerApp()

    @app.main()
    def main(grid: Grid, _: Context) -> None:
        strategy().start(
            grid=grid, initial_arrays=ArrayRecord(Net(norm=norm).state_dict()), num_rounds=rounds
        )

    return app


@cache
def recorded(fault: str = "", *, careful: bool = False) -> Recording:
    strategy = Careful if careful else FedAvg
    server = server_app(strategy, norm=fault == "statistics-in-updates")
    return record(
        FlowerApp(name="app", server=server, client=client_app(fault)), seconds=float("inf"), seed=0
    )


def found(name: str, part: Recording) -> list[Finding]:
    return list(find("check", name)().run(part, Bench()))


CLIENTS = (
    "nothing-trains", "one-partition", "shared-records", "declared-counts", "recorded-evaluation",
    "statistics-in-updates",
)  # fmt: skip
SERVERS = ("non-finite-reply", "unbounded-client", "count-influence")


@pytest.mark.parametrize("fault", CLIENTS)
def test_a_fault_of_the_clients_is_found_and_nothing_else_of_theirs(fault: str) -> None:
    part = recorded(fault)
    assert found(fault, part)
    assert not found(fault, recorded())
    assert not [name for name in CLIENTS if name != fault and found(name, part)]


@pytest.mark.parametrize("name", SERVERS)
def test_one_client_against_the_apps_own_server(name: str) -> None:
    """The average gives way to one client; a median of finite replies does not."""
    assert found(name, recorded())
    assert not found(name, recorded(careful=True))


def test_what_is_recorded_is_what_was_sent_and_seen() -> None:
    part = recorded()
    assert (part.n_nodes, part.rounds, part.averages, part.deltas) == (3, 2, True, False)
    assert len(part.messages) == 2 * 2 * 3 * 2  # rounds, kinds, clients, both ways
    for node in part.nodes:
        x, _, test, _ = records(node, 3, "")
        assert {part.features[row].tobytes() for row in part.trained_on(node)} == {
            r.numpy().tobytes() for r in x
        }
        assert {part.features[row].tobytes() for row in part.evaluated_on(node)} == {
            r.numpy().tobytes() for r in test
        }
        assert all(
            part.labels[row] == Y[(part.features[row] == X).all(1)][0] for row in part.trained_on(node)
        )
    assert not part.evaluated_on(SERVER)
    # the mean of the updates, weighted by equal counts, is what the server adds
    step = as_vector(part.model(2)) - as_vector(part.model(1))
    mean = np.mean([as_vector(update) for update in part.updates(1).values()], axis=0)
    assert np.allclose(step, mean, atol=1e-6)


def test_a_second_run_repeats_the_first() -> None:
    app = FlowerApp(name="app", server=server_app(FedAvg), client=client_app(""))
    again = record(app, seconds=float("inf"), seed=0)
    assert np.allclose(as_vector(again.model(3)), as_vector(recorded().model(3)), atol=1e-6)


def test_the_run_is_cut_and_the_last_model_is_known() -> None:
    app = FlowerApp(
        name="app",
        server=server_app(partial(FedAvg, fraction_evaluate=0.0), rounds=50),
        client=client_app(""),
    )
    part = record(app, seconds=float("inf"), seed=0)
    assert part.rounds == 3
    assert "3 rounds" in part.stopped
    assert len(as_vector(part.model(4))) == len(as_vector(part.model(1)))


def test_a_server_that_waits_for_more_clients_gets_them() -> None:
    app = FlowerApp(
        name="app",
        server=server_app(partial(FedAvg, min_available_nodes=6, fraction_evaluate=0.0), rounds=1),
        client=client_app(""),
    )
    assert record(app, seconds=float("inf"), seed=0).n_nodes == 6


def test_clients_that_fail_are_told() -> None:
    app, notes = ClientApp(), []

    @app.train()
    def train(message: Message, context: Context) -> Message:
        if context.node_config["partition-id"] == 1:
            raise ValueError("no data here")
        return client_app("")(message, context)

    part = record(
        FlowerApp(name="app", server=server_app(FedAvg, rounds=1), client=app),
        seconds=60,
        seed=0,
        notes=notes,
    )
    assert any("client 1: ValueError: no data here" in note for note in notes)
    assert len(part.replies(1)) == 2

    silent = ClientApp()
    with pytest.raises(ConfigError, match="no client of the app answered"):
        record(FlowerApp(name="app", server=server_app(FedAvg), client=silent), seconds=float("inf"), seed=0)


def test_without_torch_the_messages_are_known_and_the_records_are_not() -> None:
    app = ClientApp()

    @app.train()
    def train(message: Message, _: Context) -> Message:
        arrays = [array + 1 for array in message.content["arrays"].to_numpy_ndarrays()]
        content = {"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": 7})}
        return Message(RecordDict(content), reply_to=message)

    server = ServerApp()

    @server.main()
    def main(grid: Grid, _: Context) -> None:
        FedAvg(fraction_evaluate=0.0).start(
            grid=grid, initial_arrays=ArrayRecord([np.zeros(3), np.ones((2, 2))]), num_rounds=1
        )

    notes: list[str] = []
    part = record(FlowerApp(name="app", server=server, client=app), seconds=float("inf"), seed=0, notes=notes)
    assert "no torch module" in notes[-1]
    assert as_vector(part.updates(1)[0]).tolist() == [1.0] * 7
    assert found("non-finite-reply", part)
    for name in ("one-partition", "declared-counts", "recorded-evaluation", "statistics-in-updates"):
        with pytest.raises(NotApplicable):
            found(name, part)


def test_a_folder_without_an_app_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no Flower app"):
        app_of_folder(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    with pytest.raises(ConfigError, match=r"tool\.flwr\.app\.components"):
        app_of_folder(tmp_path)


def small(
    n_train: int, n_test: int, *, epochs: int, rate: float, noisy: bool = False, width: int = 4
) -> Recording:
    """Clients of few records; labels at random where ``noisy``, so that they can only be learned by heart."""
    app, rng = ClientApp(), np.random.default_rng(3)
    x = torch.tensor(rng.normal(size=(3 * (n_train + n_test), width)).astype(np.float32))
    y = torch.tensor(rng.integers(0, 2, len(x))) if noisy else (x[:, 0] > 0).long()

    def net(message: Message) -> torch.nn.Module:
        made = torch.nn.Sequential(torch.nn.Linear(width, 24), torch.nn.Tanh(), torch.nn.Linear(24, 2))
        made.load_state_dict(message.content["arrays"].to_torch_state_dict())
        return made

    def rows(context: Context) -> tuple[torch.Tensor, torch.Tensor]:
        mine = torch.arange(len(x))[int(context.node_config["partition-id"]) :: 3]
        return mine[:n_train], mine[n_train:]

    @app.train()
    def train(message: Message, context: Context) -> Message:
        model, mine = net(message), rows(context)[0]
        optimiser = torch.optim.SGD(model.parameters(), lr=rate)
        for _ in range(epochs):
            optimiser.zero_grad()
            torch.nn.CrossEntropyLoss()(model(x[mine]), y[mine]).backward()
            optimiser.step()
        metrics = MetricRecord({"num-examples": len(mine)})
        content = {"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}
        return Message(RecordDict(content), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        mine = rows(context)[1]
        with torch.no_grad():
            right = int((net(message)(x[mine]).argmax(1) == y[mine]).sum())
        metrics = MetricRecord({"num-examples": len(mine), "right": right})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    server = ServerApp()

    @server.main()
    def main(grid: Grid, _: Context) -> None:
        torch.manual_seed(1)
        start = torch.nn.Sequential(torch.nn.Linear(width, 24), torch.nn.Tanh(), torch.nn.Linear(24, 2))
        FedAvg().start(grid=grid, initial_arrays=ArrayRecord(start.state_dict()), num_rounds=2)

    app_of_both = FlowerApp(name="app", server=server, client=app)
    return record(app_of_both, seconds=float("inf"), seed=0, attacked=("server", "client", "public"))


def test_a_model_that_learns_labels_by_heart_tells_who_was_trained_on() -> None:
    told = found("recorded-membership", small(12, 24, epochs=30, rate=0.5, noisy=True, width=60))
    parties = {one.what.partition(" sees")[0].rpartition(" ")[2] for one in told}
    assert parties == {"server", "client", "public"}
    assert all(one.evidence["low"] > 0.2 for one in told)  # type: ignore[operator]


def test_a_short_step_tells_the_server_and_not_the_public() -> None:
    """An update points where its records pull, however short it is; the model that moves so little tells nothing."""
    wide = small(12, 24, epochs=1, rate=1e-3, noisy=True, width=60)
    assert [one.what.partition(":")[0] for one in found("recorded-membership", wide)] == [
        "update-alignment on what the server sees"
    ]
    narrow, bench = small(12, 24, epochs=1, rate=1e-3, noisy=True), Bench()
    assert not list(find("check", "recorded-membership")().run(narrow, bench))
    assert abs(bench.measured["advantage of loss-threshold by the public"]) < 0.3  # type: ignore[arg-type]


def test_an_update_of_one_record_gives_it_to_the_server_and_not_to_the_public() -> None:
    part = small(1, 5, epochs=1, rate=0.1)
    bench = Bench()
    (one,) = find("check", "recorded-inversion")().run(part, bench)
    assert "what the server sees rebuilds 1 of 1 records" in one.what
    assert one.evidence["mse"] < 1e-3 < one.evidence["guess"]  # type: ignore[operator]
    assert "dlg by the public" in bench.measured  # blocked: no update is in its view


def test_the_recorded_subject_is_the_training_that_ran() -> None:
    """An independent replay of the clients' steps gives the updates of the view."""
    part = small(4, 5, epochs=3, rate=0.1)
    subject = subject_of(part)
    assert (subject.training.epochs, subject.training.batch_size, subject.training.learning_rate) == (
        3,
        None,
        0.1,
    )
    start = subject.models[0].clone().requires_grad_()
    mine, params = subject.client_records(1), start
    for _ in range(3):
        loss = torch.nn.functional.cross_entropy(subject.model(params, mine.features), mine.labels)
        params = params - 0.1 * torch.autograd.grad(loss, params)[0]
    assert torch.allclose(params - start, subject.updates[0][1], atol=1e-6)


EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "audit" / "flower_app"


def test_the_example_is_audited_from_its_folder() -> None:
    """The whole way: a copy of the folder, a process of its own, places in the app's code."""
    target = find_target(str(EXAMPLE))
    result = audit(target, budget=600.0, checks=["non-finite-reply", "one-partition", "recorded-membership"])
    states = {run.check: run.state for run in result.runs}
    assert states == {"non-finite-reply": "found", "one-partition": "clean", "recorded-membership": "clean"}
    assert result.parts == (("clinics", "Recording"),)
    ((_, finding),) = result.found()
    assert finding.place is not None
    assert finding.place.file == "clinics/server_app.py"
    lines = (EXAMPLE / finding.place.file).read_text(encoding="utf-8").splitlines()
    assert lines[finding.place.line - 1].startswith("def main")
    assert result.exit_code == 1


def test_parties_that_are_none_are_told() -> None:
    with pytest.raises(ConfigError, match="no such party"):
        audit(find_target(str(EXAMPLE)), threats=["everybody"])


@pytest.mark.parametrize("name", ["corrupted-client", "planted-trigger"])
def test_one_corrupted_client_is_tried_against_the_apps_own_server(name: str) -> None:
    (finding,) = found(name, recorded("longer"))
    assert float(finding.evidence["p"]) < 0.01
    assert found(name, recorded("longer", careful=True)) == []


def test_a_model_that_has_learned_nothing_cannot_be_spoiled() -> None:
    with pytest.raises(NotApplicable, match="nothing to spoil"):
        found("corrupted-client", recorded())


def test_an_app_of_the_older_interface_is_altered_too() -> None:
    """Its arrays say neither dtype nor shape, and its server runs clients in threads."""
    from flwr.client import NumPyClient
    from flwr.server import ServerAppComponents, ServerConfig
    from flwr.server.strategy import FedAvg as OlderFedAvg

    class Older(NumPyClient):
        def get_parameters(self, config: Any) -> list[np.ndarray]:
            return [np.zeros(3, dtype=np.float32), np.ones((2, 2), dtype=np.float32)]

        def fit(
            self, parameters: list[np.ndarray], config: Any
        ) -> tuple[list[np.ndarray], int, dict[str, Any]]:
            return [value + 1 for value in parameters], 7, {}

        def evaluate(self, parameters: list[np.ndarray], config: Any) -> tuple[float, int, dict[str, Any]]:
            return 0.0, 7, {}

    client = ClientApp(lambda context: Older().to_client())  # noqa: ARG005 - Flower looks at its name
    server = ServerApp(
        server_fn=lambda _: ServerAppComponents(strategy=OlderFedAvg(), config=ServerConfig(num_rounds=1))
    )
    part = record(FlowerApp(name="older", server=server, client=client), seconds=float("inf"), seed=0)
    assert as_vector(part.updates(1)[0]).tolist() == [1.0] * 7
    assert found("non-finite-reply", part)
    assert found("unbounded-client", part)


BY_HAND = """
import numpy as np, secrets
from elsewhere import encrypt
R = np.random.default_rng()
def clip_and_noise(update):
    noisy = update + R.normal(0, 1, update.size)
    return noisy * min(1.0, 1 / np.linalg.norm(noisy))
def qkd_key():
    return bytes(32)
def fit(net, loader, epochs):
    raise RuntimeError("nobody calls it")
"""


def test_what_the_modules_of_an_app_define_is_checked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise, keys and ciphers by hand, in any module of the app, where it is defined; what only trains is left out."""
    for name in ("by_hand_app", "elsewhere"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\n[tool.flwr.app.components]\nserverapp = "by_hand_app:server_app"\nclientapp = "by_hand_app:client_app"\n'
    )
    (tmp_path / "elsewhere.py").write_text("def encrypt(update):\n    return update.tobytes()\n")
    (tmp_path / "by_hand_app.py").write_text(
        BY_HAND + "from tests.audit import test_flower as t\nserver_app = t.server_app(t.FedAvg, rounds=1)\n"
        "client_app = t.client_app('')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    parts, notes = parts_of(tmp_path, "", given={}, wanted="")
    made = {type(part).__name__: part for part in parts}
    assert set(made) == {"Recording", "Release", "KeyExchange", "Cipher"}
    assert str(made["Cipher"].place) == "elsewhere.py:1"
    assert not any("fit" in note for note in notes)
    for check, kind in (
        ("noise-before-clip", "Release"), ("constant-key", "KeyExchange"), ("key-without-channel", "KeyExchange"),
        ("plaintext-sent", "Cipher"),
    ):  # fmt: skip
        assert list(find("check", check)().run(made[kind], Bench())), check
    with pytest.raises(ConfigError, match="no module of the app has anything of this name"):
        parts_of(tmp_path, "", given={"encrypt": "absent"}, wanted="")
