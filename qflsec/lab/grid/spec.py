"""What the specifications of all kinds of matrix share: a name, seeds, plugins, and how a file is read."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from qflsec.base import ConfigError
from qflsec.lab.grid.files import resolve
from qflsec.lab.grid.schema import nearest, read

__all__ = [
    "MOST_SEEDS",
    "STRICT",
    "GridSpec",
    "Name",
    "Table",
    "different",
    "kind_of",
    "parse_toml",
    "presets",
    "read_text",
]

Table = dict[str, Any]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 .,_+-]*$", max_length=60)]
STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
DEFAULT_KIND = "federation"
MOST_SEEDS = 100_000
"""Beyond so many seeds a list of them is a slip."""


class GridSpec(BaseModel):
    """A specification of any kind.

    Attributes:
        kind: The kind of matrix.
        name: The matrix's name.
        description: What it is for.
        seeds: The seeds; every cell has a trial for each.
        plugins: Python modules or files that register attacks, layers, models or data sets.
        report: The HTML page that is written when the matrix is run; none by default. It changes no result.
    """

    model_config = STRICT
    kind: str
    name: Name
    description: str = ""
    seeds: tuple[int, ...] = Field(min_length=1)
    plugins: tuple[str, ...] = ()
    report: str | None = Field(default=None, exclude=True)

    @classmethod
    def from_document(cls, document: Table) -> Self:
        """A specification from its document, with the names of files absolute.

        Raises:
            ConfigError: It cannot be used.
        """
        spec = read(cls, document, "")
        _check_seeds(spec.seeds)
        if len(set(spec.seeds)) != len(spec.seeds):
            raise ConfigError(
                "seeds: a seed is listed twice", got=list(spec.seeds), expected="distinct seeds"
            )
        spec.check()
        return spec

    @classmethod
    def located(cls, document: Table, base: Path) -> Table:
        """The document with the names of files absolute; they are relative to ``base``."""
        if isinstance(document.get("report"), str):
            document = {**document, "report": str(base / document["report"])}
        if not isinstance(document.get("plugins"), list):
            return document
        plugins = [str(name) for name in document["plugins"]]
        return {**document, "plugins": list(resolve(dict(zip(plugins, plugins, strict=True)), base).values())}

    def check(self) -> None:
        """Refuse what the types do not.

        Raises:
            ConfigError: Tables do not fit together.
        """

    def to_json(self) -> str:
        """The specification as text that :meth:`from_json` reads."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The specification that :meth:`to_json` wrote."""
        return cls.model_validate_json(text)

    def with_seeds(self, *, seeds: tuple[int, ...] | None = None, offset: int = 0) -> Self:
        """The same matrix over other seeds, each shifted by ``offset``."""
        chosen = [seed + offset for seed in (self.seeds if seeds is None else seeds)]
        return self.from_document({**self.model_dump(mode="json", exclude_none=True), "seeds": chosen})


def different(names: Iterable[str], what: str) -> None:
    """Refuse names that differ only in case: people, files and links take them for one.

    Raises:
        ConfigError: There are some.
    """
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(name.casefold(), name)
        if other != name:
            raise ConfigError(
                f"{what}: two names differ only in case",
                got=f"{other!r} and {name!r}",
                fix="rename one of them",
            )


def _check_seeds(seeds: Sequence[int]) -> None:
    if len(seeds) > MOST_SEEDS:
        raise ConfigError("seeds: too many", got=f"{len(seeds):,}", expected=f"at most {MOST_SEEDS:,}")
    outside = [seed for seed in seeds if not 0 <= seed < 2**63]
    if outside:
        raise ConfigError("seeds: out of range", got=outside[0], expected="whole numbers from 0 to 2^63 - 1")


def kind_of(
    document: Mapping[str, Any], known: Sequence[str], spec_type: Callable[[str], type[GridSpec]]
) -> str:
    """The kind of matrix that a document says it is; federation by default.

    Args:
        document: The document.
        known: The kinds.
        spec_type: Gives the specifications of a kind.

    Raises:
        ConfigError: There is no such kind, or the document says none and has the keys of another.
    """
    kind = document.get("kind", DEFAULT_KIND)
    if not isinstance(kind, str) or kind not in known:
        raise ConfigError(
            "kind: unknown kind of matrix",
            got=repr(kind),
            expected=f"one of {', '.join(known)}",
            fix=nearest(str(kind), list(known)),
        )
    if "kind" in document or set(document) <= set(spec_type(kind).model_fields):
        return kind
    fitting = next((name for name in known if set(document) <= set(spec_type(name).model_fields)), None)
    if fitting is not None:
        raise ConfigError(
            "kind: missing", got=f"the keys of a {fitting} matrix", fix=f'add kind = "{fitting}"'
        )
    return kind


def parse_toml(text: str) -> Table:
    """The document of a TOML text.

    Raises:
        ConfigError: It is none.
    """
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("not a TOML file", got=str(error), fix="mend the syntax there") from None
    if not found:
        raise ConfigError("the file says nothing", fix="'qflsec show quickstart' shows a specification")
    return found


def presets() -> dict[str, Path]:
    """The specifications that come with the package, by name."""
    folder = Path(str(resources.files("qflsec.lab"))) / "presets"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_text(preset_or_file: str | Path, known: Mapping[str, Path]) -> tuple[Path, str]:
    """The path and text of a preset, by its name, or of a file.

    Raises:
        ConfigError: There is none, or it cannot be read.
    """
    name = str(preset_or_file)
    path = known.get(name, Path(name))
    try:
        return path, path.read_text(encoding="utf-8-sig")  # some editors put a mark in front
    except UnicodeDecodeError:
        raise ConfigError(
            "the specification cannot be read",
            got=repr(name),
            expected="a text in UTF-8",
            fix="save it as such",
        ) from None
    except OSError as error:
        looks_like_file = path.suffix == ".toml" or path.exists()
        why = "it is a folder" if path.is_dir() else error.strerror
        raise ConfigError(
            f"the specification cannot be read: {why}" if looks_like_file else "unknown preset",
            got=repr(name),
            expected="a TOML file, or a name that 'qflsec list presets' shows",
            fix=nearest(name, known),
        ) from None
