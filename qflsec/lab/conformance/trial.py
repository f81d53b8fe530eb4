"""What a trial of a plugin is: its checks are its methods of these names, in this order."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from qflsec.base.failures import traceback_of
from qflsec.lab.conformance.cards import card_faults, value_faults

__all__ = ["CHECKS", "Configured", "Fault", "Trial", "Unchecked", "Written"]

CHECKS = ("card", "shapes", "control", "state", "determinism", "pickling", "ledger")


class Fault(Exception):
    """What a plugin does not keep to."""

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class Unchecked(Exception):
    """Why a check cannot be made."""


class Trial:
    """A plugin, tried. A check returns what is to be said of it, or nothing, and raises what is wrong.

    Args:
        name: The plugin's registry name.
        thing: What is registered.
    """

    def __init__(self, name: str, thing: Any) -> None:  # noqa: ANN401 - plugins are heterogeneous
        self.name, self.thing = name, thing

    def checks(self) -> dict[str, Callable[[], str | None]]:
        """The checks of this kind of plugin."""
        return {check: getattr(self, check) for check in CHECKS if hasattr(self, check)}

    def card(self) -> None:
        """What has no card says in the first line of its docstring what it is."""
        line = (self.thing.__doc__ or "").strip().partition("\n")[0]
        if not line.endswith(".") or line[:1].islower() or not line[:1].isalnum():
            raise Fault(f"the docstring begins with no sentence of one line: {line!r}")

    def pickling(self) -> None:
        """Workers find a function by its module and name."""
        if pickle.loads(pickle.dumps(self.thing)) is not self.thing:  # noqa: S301 - pickled here
            raise Fault("another function stands under its name")


class Configured(Trial):
    """A frozen configuration, made from its defaults."""

    refused = ""

    @property
    def made(self) -> Any:  # noqa: ANN401 - plugins are heterogeneous
        """The object.

        Raises:
            Fault: It cannot be made.
            Unchecked: That was said before.
        """
        if self.refused:
            raise Unchecked(self.refused)
        try:
            return self.thing()
        except Exception as error:
            self.refused = "it is not made from its defaults"
            reason = f"{self.refused}: {type(error).__name__}: {error}"
            raise Fault(reason, traceback_of(error)) from error

    def card(self) -> None:
        """An attack's or a layer's card."""
        _none_of(card_faults(getattr(self.thing, "card", None), self.name))


class Written(Configured, ABC):
    """A configuration that a specification can write down."""

    @abstractmethod
    def again(self, config: Mapping[str, Any]) -> object:
        """The object of a configuration."""

    def pickling(self) -> None:
        """It can be sent to a worker, and written down."""
        _none_of(value_faults(self.made, self.again))


def _none_of(faults: Iterator[str]) -> None:
    found = "; ".join(faults)
    if found:
        raise Fault(found)
