"""Which object of a user's file is what: by the names that people use, or as the claims file says."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from qflsec.audit.outcome import Place
from qflsec.base import ConfigError

__all__ = ["ROLES", "Roles"]

ROLES: dict[str, tuple[str, ...]] = {
    "data": ("data", "load_data", "get_data", "make_data", "load_records", "load_dataset", "load_datasets", "records"),
    "train": ("train", "fit", "train_model", "train_federated", "run_federated", "federated_training"),
    "model": ("model", "make_model", "build_model", "get_model", "create_model", "Net", "Model", "QNet", "circuit", "qnode", "qnn"),
    "weights": ("weights", "params", "theta", "initial_weights", "init_weights", "initial_params", "init_params", "weight_shapes"),
    "loss": ("loss", "loss_fn", "criterion", "make_loss"),
    "private": ("make_private", "private", "private_training", "setup_private", "make_dp", "dp_setup"),
    "privatise": ("privatise", "privatize", "protect", "protect_update", "clip_and_noise", "add_noise", "sanitize", "dp_update"),
    "aggregate": ("aggregate", "fedavg", "fed_avg", "federated_average", "aggregate_updates", "average_updates"),
    "encrypt": ("encrypt", "encrypt_update", "encrypt_weights", "seal", "seal_update"),
    "decrypt": ("decrypt", "decrypt_update", "decrypt_weights", "unseal", "open_update"),
    "exchange": ("exchange_key", "exchange_keys", "bb84", "run_bb84", "bb84_key", "quantum_key", "qkd_key", "qkd", "make_key"),
    "server": ("server", "make_server", "setup_server", "server_state"),
}  # fmt: skip
"""Names that are recognised for each role, most telling first."""


class Roles:
    """The objects of a module by their roles.

    Args:
        module: The user's module.
        file: Its file, as places name it.
        given: Names by role, from the claims file.
        wanted: The only object that is audited; those that feed it are used too.
        own: Whether functions and classes that the module imports from others play no role.

    Raises:
        ConfigError: A role is unknown, or its object is not there.
    """

    def __init__(
        self,
        module: ModuleType,
        file: str,
        given: Mapping[str, str] | None = None,
        wanted: str = "",
        *,
        own: bool = False,
    ) -> None:
        self._own = own
        self._module, self._file, self.wanted = module, file, wanted
        self.given = dict(given or {})
        for role, name in self.given.items():
            if role not in ROLES:
                raise ConfigError("no such role", got=repr(role), expected=", ".join(ROLES))
            if name not in vars(module):
                raise ConfigError(f"{file} has nothing of this name for the role {role!r}", got=repr(name))
        if wanted and wanted not in vars(module):
            raise ConfigError(f"{file} has nothing of this name", got=repr(wanted))

    def name(self, role: str) -> str:
        """The name of what plays a role; empty where nothing does."""
        if role in self.given:
            return self.given[role]
        return next((name for name in ROLES[role] if name in vars(self._module) and self._counts(name)), "")

    @property
    def module(self) -> ModuleType:
        """The module whose objects these are."""
        return self._module

    def _counts(self, name: str) -> bool:
        if not self._own:
            return True
        return getattr(vars(self._module)[name], "__module__", self._module.__name__) == self._module.__name__

    def get(self, role: str) -> Any:  # noqa: ANN401 - the user's own
        """What plays a role; None where nothing does."""
        name = self.name(role)
        return vars(self._module)[name] if name else None

    def asked(self, *names: str) -> bool:
        """Whether a part that is made of these objects is audited."""
        return not self.wanted or self.wanted in names

    def items(self) -> list[tuple[str, Any]]:
        """The public objects that the module itself made, by name."""
        return [
            (name, thing)
            for name, thing in vars(self._module).items()
            if not name.startswith("_") and not isinstance(thing, ModuleType)
        ]

    def place(self, thing: object) -> Place:
        """Where an object of the module is defined."""
        try:
            return Place(file=self._file, line=inspect.getsourcelines(thing)[1])  # type: ignore[arg-type]
        except (TypeError, OSError):
            return Place(file=self._file)


def n_required(function: Callable[..., Any]) -> int:
    """How many positional arguments a function asks for."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(
        parameter.kind in kinds and parameter.default is inspect.Parameter.empty
        for parameter in inspect.signature(function).parameters.values()
    )
