"""Running a Flower app over a grid of ours, as it is or with one corrupted client."""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from qflsec.audit.flower.app import Config, FlowerApp
from qflsec.audit.flower.recording import SERVER, Alter, Recording
from qflsec.audit.parts import Array
from qflsec.base import ConfigError

__all__ = ["record"]

_NODES, _ROUNDS = 3, 3
_ROUND_KEYS = (
    "num-server-rounds",
    "num_server_rounds",
    "num-rounds",
    "num_rounds",
    "rounds",
    "server-rounds",
)
_RUN = 1


@dataclass(kw_only=True)
class _Run:
    """How an app is run.

    Attributes:
        app: The app.
        n_nodes: Clients.
        seed: Of Python's, NumPy's and torch's generators, so that a run can be made again.
        said: What clients answered, where they do not train again.
        attacked: The threat models whose views are attacked.
    """

    app: FlowerApp
    n_nodes: int = _NODES
    seed: int = 0
    said: Mapping[tuple[int, str], Sequence[Any]] = field(default_factory=dict)
    attacked: tuple[str, ...] = ()


def record(
    app: FlowerApp, *, seconds: float, seed: int, attacked: Sequence[str] = (), notes: list[str] | None = None
) -> Recording:
    """Run an app with few clients for few rounds, and record it.

    Args:
        app: The app.
        seconds: When no client is asked any more; what was recorded until then counts.
        seed: Of the generators that the app may draw from.
        attacked: The threat models whose views are attacked.
        notes: What a reader must know of the run is added, a sentence each.

    Raises:
        ConfigError: No client ever answered.
        Exception: Whatever the server raises.
    """
    made = _made(_Run(app=app, seed=seed, attacked=tuple(attacked)), None, _ROUNDS, seconds)
    said = [] if notes is None else notes
    failed = [sent for sent in made.messages if sent.failed]
    if failed:
        said.append(f"{len(failed)} messages were not answered: client {failed[0].node}: {failed[0].failed}")
    if not any(sent.reply and not sent.failed for sent in made.messages):
        raise ConfigError(
            "no client of the app answered", got=failed[0].failed if failed else "nothing was sent to one"
        )
    said.append(
        f"{app.name} ran in this process with {made.n_nodes} clients for {made.rounds} round{'s' * (made.rounds != 1)}: "
        f"{len(made.messages)} messages{f'; {made.stopped}' if made.stopped else ''}"
    )
    if made.module is None:
        said.append(
            f"no torch module of {app.name} was called whose parameters are the arrays of its messages, so that nothing is "
            "known of its records"
        )
    return made


def _made(run: _Run, alter: Alter | None, rounds: int, seconds: float) -> Recording:
    """One run, from the seed on."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    from flwr.app import Context, RecordDict
    from flwr.supercore.run import Run

    from qflsec.audit.flower.grid import Enough, LocalGrid
    from qflsec.audit.flower.watch import Watch, matched

    config = _cut(run.app.config, rounds)
    watch, last = Watch(), dict[str, Array]()
    grid = LocalGrid(
        _Clients(run=run, config=config, watch=watch),
        n_nodes=run.n_nodes,
        rounds=rounds,
        deadline=time.monotonic() + seconds,
        run=Run.create_empty(_RUN),
        alter=alter,
    )
    _seed(run.seed)
    with watch.watching(), watch.party(0, SERVER, "serve"), _last_model(last), suppress(Enough):
        run.app.server(grid, Context(_RUN, 1, {}, RecordDict(), dict(config)))
    module = matched(watch.modules, next((s.arrays for s in grid.messages if s.arrays), {}))
    later = _Run(app=run.app, n_nodes=grid.n_nodes, seed=run.seed, attacked=run.attacked)
    return Recording(
        name=run.app.name,
        place=run.app.places.get("train"),
        messages=tuple(grid.messages),
        n_nodes=grid.n_nodes,
        seen=watch.seen,
        features=watch.features,
        labels=watch.labels,
        module=module,
        last=last,
        attacked=run.attacked,
        places=run.app.places,
        stopped=grid.stopped,
        planned=_planned(run.app.config),
        again=partial(_again, later, grid.said),
        among=partial(_among, later),
    )


def _again(
    run: _Run, said: Mapping[tuple[int, str], Sequence[Any]], alter: Alter, rounds: int, fresh: bool
) -> Recording:
    """The same run with a corrupted client."""
    made = _Run(
        app=run.app, n_nodes=run.n_nodes, seed=run.seed, said={} if fresh else said, attacked=run.attacked
    )
    return _made(made, alter, rounds, math.inf)  # who calls has a limit of its own


def _among(run: _Run, n_nodes: int, rounds: int) -> Recording:
    """Another run, among so many clients."""
    made = _Run(app=run.app, n_nodes=n_nodes, seed=run.seed, attacked=run.attacked)
    return _made(made, None, rounds, math.inf)


@dataclass(kw_only=True)
class _Clients:
    """Answers messages: by the app's own client, or as was recorded."""

    run: _Run
    config: Config
    watch: Any
    contexts: dict[int, Any] = field(default_factory=dict)
    asked: dict[tuple[int, str], int] = field(default_factory=dict)

    def __call__(self, index: int, node: int, message: Any) -> Any:  # noqa: ANN401 - Flower's
        from flwr.app import Context, Message, RecordDict

        kind = message.metadata.message_type
        known = self.run.said.get((node, kind))
        if known:
            place = self.asked.get((node, kind), 0)
            self.asked[node, kind] = place + 1
            return Message(known[min(place, len(known) - 1)], reply_to=message)
        if node not in self.contexts:
            where: dict[str, Any] = {"partition-id": node, "num-partitions": self.run.n_nodes}
            self.contexts[node] = Context(
                _RUN, message.metadata.dst_node_id, where, RecordDict(), dict(self.config)
            )
        with self.watch.party(index, node, kind.partition(".")[0]):
            return self.run.app.client(message, self.contexts[node])


@contextmanager
def _last_model(into: dict[str, Array]) -> Iterator[None]:
    """Keep the model that a strategy of Flower's ends with; no message shows it where nobody evaluates it."""
    from flwr.serverapp.strategy import Strategy

    start: Callable[..., Any] = Strategy.start

    def kept(*args: Any, **words: Any) -> Any:  # noqa: ANN401
        result = start(*args, **words)
        into.clear()
        into.update({name: array.numpy() for name, array in result.arrays.items()})
        return result

    Strategy.start = kept  # type: ignore[method-assign]
    try:
        yield
    finally:
        Strategy.start = start  # type: ignore[method-assign]


def _planned(config: Config) -> int:
    """The rounds that a configuration asks for; 0 where it does not say."""
    return next((one for key in _ROUND_KEYS if isinstance(one := config.get(key), int)), 0)


def _cut(config: Config, rounds: int) -> dict[str, Any]:
    """The app's configuration, with at most so many rounds."""
    return {
        key: min(value, rounds) if key in _ROUND_KEYS and isinstance(value, int) else value
        for key, value in config.items()
    }


def _seed(seed: int) -> None:
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the generator that the app may draw from
    torch.manual_seed(seed)
