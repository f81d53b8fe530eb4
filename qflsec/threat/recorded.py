"""Transcripts of training that somebody else ran and recorded: models, updates, and who took part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from qflsec.base import ConfigError
from qflsec.threat.facts import LaneFacts
from qflsec.threat.message import Envelope, Message, MessageKind, Slot
from qflsec.threat.party import PUBLIC, SERVER, client
from qflsec.threat.transcript import Transcript
from qflsec.threat.versions import Origin, Trained, Version
from qflsec.threat.view import Granted

__all__ = ["recorded_transcript"]

Vector = npt.ArrayLike | torch.Tensor


def recorded_transcript(
    *,
    models: Sequence[Vector],
    counts: Sequence[float],
    updates: Sequence[Mapping[int, Vector]] = (),
    participants: Sequence[Sequence[int]] | None = None,
    linear: bool = True,
    server_learning_rate: float = 1.0,
    granted: Granted | None = None,
) -> Transcript:
    """The transcript of a star, made from what was recorded of it.

    ``recorded_transcript(models=..., updates=..., counts=...).seen_by(threat)`` is the view of a coalition: the
    server reads the models and the updates that were sent in the open, a client its own, the public the last
    model, and everybody knows who took part; whatever follows from these is in the view too, as in the view of a
    run. Where the updates were hidden from the server (by secure aggregation), leave them out: what the models say
    of their sums remains.

    >>> from qflsec.threat import honest_but_curious_server
    >>> made = recorded_transcript(models=[[0.0, 0.0], [1.0, 2.0]], counts=[10, 30], updates=[{0: [4.0, 2.0], 1: [0.0, 2.0]}])
    >>> view = made.seen_by(honest_but_curious_server())
    >>> update = view.readable("update", about=0)[0]
    >>> update.vector, view.base_of(update)
    (tensor([4., 2.]), tensor([0., 0.]))

    Args:
        models: The model at the start of each round, and the last one.
        counts: The number of examples of each client.
        updates: For each round, each client's update: its model after local training less the one it received.
        participants: For each round, whose updates the server used; by default those that were recorded, and
            everybody's in a round of which none was.
        linear: Whether the server's step is the mean of the updates, weighted by the counts.
        server_learning_rate: The factor of the step.
        granted: What a threat model may grant: the model as a function, auxiliary records, the defenses. Honest
            updates are those that were recorded.

    Raises:
        ConfigError: The parts do not fit each other.

    Shapes:
        models: (rounds + 1) x ``(P,)``; updates: ``(P,)`` each.
    """
    vectors = [_vector(model) for model in models]
    rounds = len(vectors) - 1
    told = [{int(i): _vector(update) for i, update in part.items()} for part in updates] or [{}] * rounds
    everybody = range(len(counts))
    took_part = [list(part or everybody) for part in (told if participants is None else participants)]
    _check(vectors, told, took_part, len(counts))
    facts = LaneFacts(counts=tuple(float(count) for count in counts))
    facts.versions.add("0", Origin(round=-1))
    made = Transcript(facts={0: facts}, granted={} if granted is None else {0: granted})
    for index in range(rounds):
        made.record(_models(index, vectors[index], len(counts)))
        if told[index]:
            made.record(_updates(index, told[index], facts.counts))
        base, members = str(index), sorted(set(took_part[index]))
        trained = tuple(Trained(client=i, base=base, weight=facts.counts[i]) for i in members)
        facts.versions.add(
            str(index + 1),
            Origin(round=index, bases={base: 1.0}, trained=trained, rate=server_learning_rate, linear=linear),
        )
        facts.participants[index] = frozenset(members)
    made.honest_updates[0] = {(r, i): update for r, part in enumerate(told) for i, update in part.items()}
    made.record(_final(rounds, vectors[-1]))
    return made


def _vector(values: Vector) -> torch.Tensor:
    tensor = values if isinstance(values, torch.Tensor) else torch.as_tensor(np.asarray(values))
    return tensor.detach().to(torch.float32)


def _check(
    models: Sequence[torch.Tensor],
    updates: Sequence[Mapping[int, torch.Tensor]],
    participants: Sequence[Sequence[int]],
    n_clients: int,
) -> None:
    rounds = len(models) - 1
    if rounds < 0:
        raise ConfigError("no model was recorded", fix="give the model before and after each round")
    shapes = {tuple(vector.shape) for vector in (*models, *(v for part in updates for v in part.values()))}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1:
        raise ConfigError(
            "models and updates are flat vectors of one length",
            got=sorted(shapes),
            fix="flatten all parameters, in one order",
        )
    for name, part in (("updates", updates), ("participants", participants)):
        if len(part) != rounds:
            raise ConfigError(
                f"{name!r} and 'models' tell of different numbers of rounds",
                got=f"{len(part)} and {rounds}",
                fix="give one model more than there were rounds",
            )
    named = {i for part in (*updates, *participants) for i in part}
    if strangers := sorted(i for i in named if not 0 <= i < n_clients):
        raise ConfigError(
            "a client has no entry in 'counts'", got=strangers, expected=f"0 to {n_clients - 1}"
        )


def _message(
    kind: MessageKind,
    index: int,
    slots: Sequence[Slot],
    value: torch.Tensor,
    version: Version,
    members: Sequence[frozenset[int]] = (),
) -> Message:
    return Message(
        round=index,
        kind=kind,
        lanes=(0,),
        slots=tuple(slots),
        layers=Envelope.plain(value[None]).layers,
        origin=0,
        present=[[True] * len(slots)],
        members=[members or [frozenset()] * len(slots)],
        versions=[[version] * len(slots)],
    )


def _models(index: int, model: torch.Tensor, n_clients: int) -> Message:
    slots = [Slot(SERVER, client(i)) for i in range(n_clients)]
    return _message("model", index, slots, model.expand(n_clients, -1), str(index))


def _updates(index: int, updates: Mapping[int, torch.Tensor], counts: Sequence[float]) -> Message:
    slots = [Slot(client(i), SERVER) for i in updates]
    # a plain update carries its weight as the last coordinate
    sent = torch.stack([torch.cat([update, torch.tensor([counts[i]])]) for i, update in updates.items()])
    return _message("update", index, slots, sent, str(index), [frozenset({i}) for i in updates])


def _final(rounds: int, model: torch.Tensor) -> Message:
    return _message("final-model", rounds, [Slot(SERVER, PUBLIC)], model[None], str(rounds))
