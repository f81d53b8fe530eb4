"""Loading the user's code, so that what runs is what stands on disk.

A process may live longer than a file: in a notebook, in the workers of a matrix, on a cluster. Whoever loads a
file through this module gets its present content, and that of everything that it imports; whoever asks for the
sources of code that was imported otherwise gets an error where they have changed since.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import marshal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType

from qflsec.base.errors import ConfigError
from qflsec.base.sources import Sources, content_digest, trace

__all__ = [
    "PREFIX",
    "imported_anew",
    "load_file",
    "load_module",
    "module_name",
    "named_file",
    "sources_in_use",
]

PREFIX = "qflsec_user_"
"""What the module names of files begin with that are loaded by their paths."""
_HEADER = 16  # of a bytecode file: magic number, flags, time, size

_loaded: dict[str, Sources] = {}  # the sources of each module when it was loaded


class _Finder:
    """Finds the modules that were traced, where the trace found them, and notes their content at that moment.

    Imports inside functions run long after the file's folder was first on the search path, and another folder
    may hold a file of the same name. Python knows a finder by its method :meth:`find_spec` alone.
    """

    def __init__(self) -> None:
        self.places: dict[str, Path] = {}
        self.known: dict[str, str] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The specification of a traced module; None for every other."""
        place = self.places.get(fullname)
        if place is None or not place.is_file():
            return None
        self.known[fullname] = content_digest(place)
        package = [str(place.parent)] if place.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(fullname, place, submodule_search_locations=package)

    def expect(self, files: Mapping[str, Path]) -> None:
        """From now on these files are imported under these names; what is in memory is what stands there."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        self.places.update(files)
        for name, path in files.items():
            if name in sys.modules:
                self.known.setdefault(name, content_digest(path))

    def stale(self, files: Mapping[str, Path], *, copies: bool) -> set[str]:
        """The modules in memory that came from another content.

        Args:
            files: What should be in memory.
            copies: Whether the same content may have come from another file.
        """
        found = set()
        for name, path in files.items():
            file = getattr(sys.modules.get(name), "__file__", None)
            if file is None:
                continue
            same_file = Path(file).resolve() == path
            digest = self.known.get(name) or content_digest(path if same_file else file)
            if digest != content_digest(path) or not (same_file or copies):
                found.add(name)
        return found


_finder = _Finder()


def module_name(path: str | Path) -> str:
    """The name of the module that a file is loaded as; one for each path."""
    file = Path(path).resolve()
    return f"{PREFIX}{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:16]}"


def named_file(path: str, kind: str) -> tuple[Path, str]:
    """The file and the name in ``file.py:name``; nothing is executed.

    Args:
        path: ``"file.py:name"``, relative to the working directory.
        kind: What is looked for, such as ``"QNode"``.

    Raises:
        ConfigError: It is no such text, or there is no such file.
    """
    file_name, _, attribute = path.rpartition(":")
    if not file_name or not attribute.isidentifier():
        raise ConfigError(
            f"no {kind} named", got=repr(path), expected=f"'file.py:name_of_the_{kind.lower()}'"
        )
    file = Path(file_name).resolve()
    if not file.is_file():
        raise ConfigError(
            "no such file", got=str(file), fix="paths in a specification are relative to its folder"
        )
    return file, attribute


def load_file(path: str | Path) -> ModuleType:
    """Execute a file as a module, or take the one that was made of the same content.

    Its folder is first on the search path meanwhile and stays at the end of it, for imports inside functions.

    Args:
        path: The file; each path has a module of its own.

    Raises:
        ConfigError: The file or one that it imports cannot be read.
        Exception: Whatever the file raises.
    """
    file, name = Path(path).resolve(), module_name(path)
    sources = trace(file)
    before = _loaded.get(name)
    stale = _refresh(sources.modules, again=before is not None and before.data != sources.data)
    module = sys.modules.get(name)
    if module is not None and not stale and before is not None and before.digest == sources.digest:
        return module
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError("not a Python file", got=str(file), expected="a name ending in .py")
    _drop_bytecode(file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _first_on_path(file.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    after = trace(file)  # what the file put on the search path is found now
    _finder.expect(after.modules)
    _loaded[name] = after
    return module


def load_module(name: str) -> ModuleType:
    """Import a module by its name, again where it or anything that it imports has changed.

    Raises:
        ImportError: There is no such module.
        Exception: Whatever it raises.
    """
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is not None:
        sources, before = trace(Path(file), module=name), _loaded.get(name)
        changed = before is not None and before.data != sources.data
        _refresh({name: sources.root, **sources.modules}, again=changed)
    module = importlib.import_module(name)
    if module.__file__ is not None:
        _loaded[name] = trace(Path(module.__file__), module=name)
        _finder.expect({name: _loaded[name].root, **_loaded[name].modules})
    return module


@contextmanager
def imported_anew(module: ModuleType) -> Iterator[ModuleType]:
    """A module and the user's code that it imports, executed once more, as a new process would.

    Libraries are not. Afterwards what was in memory is there again.

    Args:
        module: One that :func:`load_file`, :func:`load_module` or Python imported from a file.

    Raises:
        ConfigError: It stands in no file.
        Exception: Whatever it raises the second time.
    """
    sources = _trace_module(module)
    _finder.expect(sources.modules)
    before = dict(sys.modules)
    for name in (module.__name__, *sources.modules):
        sys.modules.pop(name, None)
    try:
        if module.__name__.startswith(PREFIX):
            with _first_on_path(sources.root.parent):
                yield _executed(module.__name__, sources.root)
        else:
            yield importlib.import_module(module.__name__)
    finally:
        for name in (module.__name__, *sources.modules):
            if name in before:
                sys.modules[name] = before[name]
            else:
                sys.modules.pop(name, None)


def _executed(name: str, file: Path) -> ModuleType:
    """A file as a new module of a name that is not in memory."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # it was loaded once
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


def sources_in_use(modules: Mapping[str, ModuleType]) -> dict[str, Sources]:
    """The sources of modules that are in use together, by the same keys.

    Raises:
        ConfigError: One has no file, or a file has changed since it was imported, or two different files would
            be imported under one name.
    """
    traced = {label: _trace_module(module) for label, module in modules.items()}
    _one_file_per_name(traced.values())
    files: dict[str, Path] = {}
    for label, sources in traced.items():
        files.update(sources.modules)
        if not _by_path(modules[label]):
            files[modules[label].__name__] = sources.root
    changed = _finder.stale(files, copies=True)
    if changed:
        raise ConfigError(
            "code has changed since it was imported",
            got=", ".join(sorted(changed)),
            fix="start Python again, or list the code under 'plugins', which are imported again",
        )
    _finder.expect(files)
    return traced


def _by_path(module: ModuleType) -> bool:
    return module.__name__.startswith(PREFIX) or module.__name__ == "__main__"


def _trace_module(module: ModuleType) -> Sources:
    file = getattr(module, "__file__", None)
    if file is None:
        raise ConfigError(
            "results of this code cannot be identified, as it stands in no file",
            got=module.__name__,
            fix="put it into a file and list that under 'plugins'",
        )
    return trace(Path(file), module="" if _by_path(module) else module.__name__)


def _one_file_per_name(sources: Iterable[Sources]) -> None:
    """Refuse different files that would be imported under one name: the second import would get the first."""
    found: dict[str, tuple[Path, str]] = {}
    for one in sources:
        for name, path in one.modules.items():
            place = (path, content_digest(path))
            known = found.setdefault(name, place)
            if known[1] != place[1]:
                raise ConfigError(
                    f"two different files would be imported as {name!r}",
                    got=f"{known[0]} and {path}",
                    fix="rename one of them",
                )


def _refresh(files: Mapping[str, Path], *, again: bool) -> bool:
    """Take modules out of memory where one is stale or all are to be imported again; whether that was so."""
    stale = bool(_finder.stale(files, copies=False)) or again
    for name, path in files.items():
        _drop_bytecode(path)
        if stale:
            sys.modules.pop(name, None)
            _finder.known.pop(name, None)
    _finder.expect(files)
    return stale


def _drop_bytecode(path: Path) -> None:
    """Remove bytecode that Python would take for the file's, though it is that of another content.

    Python compares times in whole seconds, and sizes: two versions within a second may agree in both.
    """
    if path.suffix != ".py":
        return
    with suppress(OSError, SyntaxError, ValueError, EOFError, TypeError):
        cached = Path(importlib.util.cache_from_source(str(path)))
        if not cached.is_file():
            return
        code: object = marshal.loads(cached.read_bytes()[_HEADER:])  # noqa: S302 - Python is about to execute it
        now = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        if not isinstance(code, CodeType) or code != now:
            cached.unlink()


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    text = str(folder)
    if text not in sys.path:
        sys.path.append(text)
    sys.path.insert(0, text)
    try:
        yield
    finally:
        sys.path.remove(text)
