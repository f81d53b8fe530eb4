"""Branches of a QNode's function: which one each record takes, and each one as a function that does not branch.

``if x[0] > 1.5`` asks a tensor for a truth value. A torch function mode answers such questions: with what a record
gives, to find its branch, or with the answers of a given branch, which makes the function one that is read, broadcast
or run under ``torch.func.vmap`` as any other. What the function asked is then computed for all records at once, and
tells which of them take that branch.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qflsec.circuits.errors import NotAffine
from qflsec.circuits.roles import Roles
from qflsec.circuits.staying import Staying, in_torch

__all__ = ["Branches", "RowValues"]

RowValues = Callable[[Tensor, Tensor], Tensor]
"""Values of rows of flat weights and features: ``(N, P)``, ``(N, F)`` -> ``(N, M)``."""
Answers = tuple[int, ...]
_MOST = 32
_ROUNDING = 1e-4  # in single precision
_ASKED = (Tensor.__bool__, Tensor.__int__, Tensor.__index__)


class _Answering(Staying):
    """Answers what a function asks of tensors, and keeps what it asked.

    Args:
        given: The answers; None to answer with the tensors' values.
    """

    def __init__(self, given: Answers | None = None) -> None:
        super().__init__()
        self.given, self.asked, self.answers = given, list[Tensor](), list[int]()

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401 - torch's interface
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Answer a question; whatever else is called is called."""
        asks = func in _ASKED or (func is Tensor.item and not args[0].is_floating_point())
        if not asks or args[0].numel() != 1:
            return super().__torch_function__(func, types, args, kwargs)
        (tensor,) = args
        asked = tensor.detach().reshape(())
        answer = self._answer(asked.bool() if func is Tensor.__bool__ else asked.long())
        return bool(answer) if func is Tensor.__bool__ or tensor.dtype == torch.bool else answer

    def _answer(self, asked: Tensor) -> int:
        place = len(self.asked)
        self.asked.append(asked)
        if self.given is not None and place >= len(self.given):
            raise NotAffine("the QNode's function asks more on one branch at one time than at another")
        self.answers.append(int(asked) if self.given is None else self.given[place])
        return self.answers[-1]


@dataclass(frozen=True)
class _Branch:
    """One branch: the answers that lead there, and its values for records that take it."""

    answers: Answers
    values: RowValues


class Branches:
    """The values of a QNode whose function branches; a branch is read when the first record takes it.

    Args:
        qnode: A QNode without shots.
        roles: What each of its arguments takes.
        values: What evaluates a QNode whose function does not branch.
        others: What evaluates the records of a branch that cannot be told by all records at once, and of more
            branches than 32.
    """

    def __init__(
        self,
        qnode: Any,  # noqa: ANN401
        roles: Roles,
        *,
        values: Callable[[Any], RowValues],
        others: RowValues,
    ) -> None:
        self._qnode, self._roles, self._values, self._others = qnode, roles, values, others
        self._known: list[_Branch] = []
        self._complete = False

    def __call__(self, weights: Tensor, features: Tensor) -> Tensor:
        """Values of rows, differentiable as those of the branches are.

        Shapes:
            weights ``(N, P)``, features ``(N, F)`` -> ``(N, M)``.

        Raises:
            NotAffine: The QNode's function asks nothing, so that it has no branches.
        """
        left, order, parts = torch.arange(len(weights)), list[Tensor](), list[Tensor]()
        for number in itertools.count():
            if not len(left):
                break
            new = number == len(self._known)
            if new and not self._learn(weights[left[0]], features[left[0]]):
                rows, values, left = left, self._others, left[:0]
            else:
                branch = self._known[number]
                taken, values = self._takes(branch.answers, weights[left], features[left]), branch.values
                taken[0] |= new  # whatever rounding says of the record that showed the branch
                rows, left = left[taken], left[~taken]
            if len(rows):
                order.append(rows)
                parts.append(values(weights[rows], features[rows]))
        return torch.cat(parts)[torch.cat(order).argsort()]

    def _takes(self, answers: Answers, weights: Tensor, features: Tensor) -> Tensor:
        """Which rows take a branch: ``(N, P)``, ``(N, F)`` -> ``(N,)``."""

        def agrees(weights: Tensor, features: Tensor) -> Tensor:
            asked = self._ask(answers, weights, features).asked
            return torch.stack([one == answer for one, answer in zip(asked, answers, strict=True)]).all()

        with torch.no_grad():
            return torch.func.vmap(agrees)(weights, features)

    def _learn(self, weights: Tensor, features: Tensor) -> bool:
        """Read the branch of one row; False where it is not to be told apart by all rows at once."""
        if self._complete:
            return False
        try:
            answers = tuple(self._ask(None, weights.detach(), features.detach()).answers)
        except Exception as error:  # whatever the function does with tensors where it expects numbers
            if not self._known:
                raise NotAffine("the QNode's function takes values out of torch", got=error) from error
            self._complete = True
            return False
        if not answers:
            raise NotAffine("the QNode's function asks for no value, so it has no branches")

        def read() -> _Branch:
            row = weights.detach()[None], features.detach()[None]
            self._takes(answers, *row)
            branch = _Branch(answers, self._values(_along(self._qnode, answers)))
            if not torch.allclose(branch.values(*row), self._others(*row), atol=_ROUNDING):
                raise NotAffine("a branch does not give what the QNode gives")
            return branch

        try:
            # reading takes gradients of its own, which inference mode and torch.func's transforms would stop; these
            # belong to a thread
            with ThreadPoolExecutor(max_workers=1) as fresh:
                self._known.append(fresh.submit(read).result())
        except Exception:  # noqa: BLE001 - whatever the function does with values, single calls are right
            self._complete = True
            return False
        self._complete = len(self._known) == _MOST
        return True

    def _ask(self, answers: Answers | None, weights: Tensor, features: Tensor) -> _Answering:
        """What the function asks at one row."""
        import pennylane as qml

        function = in_torch(self._qnode.func)
        answering = _Answering(answers)
        with qml.queuing.AnnotatedQueue(), answering:
            function(**self._roles.arguments(weights, features))
        return answering


def _along(qnode: Any, answers: Answers) -> Any:  # noqa: ANN401 - PennyLane's
    """The same QNode, whose function takes one branch whatever its inputs are."""
    function = qnode.func

    @functools.wraps(function)
    def straight(*args: Any, **options: Any) -> Any:  # noqa: ANN401
        with _Answering(answers) as answering:
            found = in_torch(function)(*args, **options)
        if len(answering.asked) < len(answers):
            raise NotAffine("the QNode's function asks less on one branch at one time than at another")
        return found

    twin = copy.copy(qnode)
    twin.func = straight
    return twin
