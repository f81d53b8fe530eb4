"""What a file of the user's code runs: the modules that it imports, read from syntax trees.

An id must change with every line that can change a number, also with a line of a helper that is imported inside
a function. So imports are followed without executing anything, through every module that is not installed.
Installed packages are covered by their versions; what cannot be followed is listed.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import site
import sys
import sysconfig
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qflsec.base.errors import ConfigError

__all__ = ["Sources", "content_digest", "is_installed", "trace"]

_INSTALLED_PARTS = frozenset({"site-packages", "dist-packages"})
_DYNAMIC = frozenset(
    {
        "__import__",
        "SourceFileLoader",
        "import_module",
        "iter_modules",
        "load_module",
        "run_module",
        "run_path",
        "spec_from_file_location",
        "walk_packages",
    }
)
_DYNAMIC_NAMES = _DYNAMIC | {
    "eval",
    "exec",
}  # as methods these two are something else, such as torch's eval()
_LONGEST = 200


@dataclass(frozen=True, kw_only=True)
class Sources:
    """A file of code with everything of the user's that it imports, directly or through others.

    Attributes:
        root: The file.
        root_digest: SHA-256 of its content.
        modules: Files of imported modules, by the name that they are imported under.
        digests: SHA-256 of the content of each of these files, by the same name without the root's own top-level
            package, so that a renamed package stays the same.
        data: SHA-256 of the files that stand beside a module and that it names in a string.
        installed: The version of each installed package that is imported.
        not_covered: Imports that cannot be followed, as sentences.
    """

    root: Path
    root_digest: str
    modules: Mapping[str, Path] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    installed: Mapping[str, str] = field(default_factory=dict)
    not_covered: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of everything; that of the file where it stands alone. Folders do not enter."""
        parts = (self.digests, self.data, self.installed)
        if not any(parts):
            return self.root_digest
        text = json.dumps([self.root_digest, *map(dict, parts)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def content_digest(path: str | Path) -> str:
    """SHA-256 of a file.

    Raises:
        ConfigError: It cannot be read.
    """
    return hashlib.sha256(_content(Path(path))).hexdigest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the file {path.name} cannot be read: {error.strerror}",
            got=f"the folder {path.parent}",
            fix="names of files are relative to the file that gives them",
        ) from None


def is_installed(path: Path) -> bool:
    """Whether a file belongs to Python, to an installed package or to this one; editable installs do not."""
    place = path.resolve()
    return bool(_INSTALLED_PARTS.intersection(place.parts)) or any(
        place.is_relative_to(folder) for folder in _installed_folders()
    )


@functools.cache
def _installed_folders() -> tuple[Path, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = [sysconfig.get_paths()[name] for name in names]
    base = sysconfig.get_paths(vars={"base": sys.base_prefix, "platbase": sys.base_exec_prefix})
    found += [base[name] for name in names]
    found += [*site.getsitepackages(), site.getusersitepackages()]
    return (*(Path(folder).resolve() for folder in found), Path(__file__).resolve().parents[1])


def trace(root: Path, *, module: str = "") -> Sources:
    """Follow the imports of a file.

    Args:
        root: The file.
        module: The name under which it is imported; empty for a file that is executed by its path, whose folder
            then stands first on the search path.

    Raises:
        ConfigError: A file cannot be read.
    """
    importlib.invalidate_caches()
    return _Trace(root.resolve(), module).run()


@dataclass(kw_only=True)
class _Wish:
    """A module that is to be followed; a part of a package may also be a name in it, and no module."""

    name: str
    maybe: bool = False
    everything: bool = False


class _Trace:
    """One walk over the imports of a file."""

    def __init__(self, root: Path, module: str) -> None:
        self._root = root
        self._module = module
        self._package = module.partition(".")[0]
        self._folder = None if module else root.parent
        self._modules: dict[str, Path] = {}
        self._data: dict[str, str] = {}
        self._installed: dict[str, str] = {}
        self._not_covered: list[str] = []
        self._specs: dict[str, importlib.machinery.ModuleSpec | None] = {}
        self._queue: list[tuple[str, Path]] = [(module, root)]

    def run(self) -> Sources:
        """Walk until nothing new is found."""
        for wish in (_Wish(name=self._module),) if self._module else ():
            self._follow(wish)  # the packages around the root are executed with it
        seen: set[Path] = set()
        while self._queue:
            name, path = self._queue.pop()
            if path not in seen:
                seen.add(path)
                self._read(name, path)
        self._modules.pop(self._module, None)
        return Sources(
            root=self._root,
            root_digest=content_digest(self._root),
            modules=dict(sorted(self._modules.items())),
            digests={self._key(name): content_digest(path) for name, path in sorted(self._modules.items())},
            data=dict(sorted(self._data.items())),
            installed=dict(sorted(self._installed.items())),
            not_covered=tuple(sorted(self._not_covered)),
        )

    def _key(self, name: str) -> str:
        inside = self._package and (name == self._package or name.startswith(f"{self._package}."))
        return name.removeprefix(self._package) or "." if inside else name

    def _read(self, name: str, path: Path) -> None:
        if path.suffix != ".py":
            return  # an extension module: its content is covered, its imports cannot be read
        try:
            tree = ast.parse(_content(path), str(path))
        except (SyntaxError, ValueError) as error:
            self._not_covered.append(f"{path.name} cannot be parsed: {error}")
            return
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node in ast.walk(tree):
            for wish in _wishes(node, package):
                self._follow(wish)
            if isinstance(node, ast.Call) and _is_dynamic(node, package):
                self._not_covered.append(f"{path.name}, line {node.lineno}: {ast.unparse(node)[:80]}")
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                self._note_file(node.value, path)

    def _note_file(self, text: str, path: Path) -> None:
        """Cover a file that a string names relative to the module's folder."""
        if "." not in text or text.startswith("/") or not text.isprintable() or len(text.encode()) > _LONGEST:
            return
        place = path.parent / text
        if not place.is_file():
            return
        if place.suffix == ".py":
            self._queue.append(("", place.resolve()))
        self._data[text] = content_digest(place)

    def _follow(self, wish: _Wish) -> None:
        parts = wish.name.split(".")
        if parts[0] in {"qflsec", "__future__"}:
            return
        for depth in range(1, len(parts) + 1):
            name = ".".join(parts[:depth])
            spec = self._spec(name)
            if spec is None:
                if depth == 1 and not wish.maybe:
                    self._installed[name] = "not installed"
                return
            if not self._keep(name, spec):
                return
        if wish.everything:
            for part in _public_names(self._modules.get(wish.name)):
                self._follow(_Wish(name=f"{wish.name}.{part}", maybe=True))

    def _keep(self, name: str, spec: importlib.machinery.ModuleSpec) -> bool:
        """Note the module; False where it is installed, so that nothing below it needs to be followed."""
        if spec.origin is None or not spec.has_location:
            # A package without __init__.py has nothing of its own to cover; built-in modules have no file.
            return spec.origin is None and spec.submodule_search_locations is not None
        path = Path(spec.origin).resolve()
        if is_installed(path):
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names:
                self._installed[top] = _version(top)
            return False
        if not path.is_file():
            self._not_covered.append(f"{name} is in an archive: {spec.origin}")
            return False
        if name not in self._modules:
            self._modules[name] = path
            self._queue.append((name, path))
        return True

    def _spec(self, name: str) -> importlib.machinery.ModuleSpec | None:
        if name not in self._specs:
            self._specs[name] = self._find(name)
        return self._specs[name]

    def _find(self, name: str) -> importlib.machinery.ModuleSpec | None:
        parent, _, _ = name.rpartition(".")
        finder = importlib.machinery.PathFinder
        if parent:
            above = self._spec(parent)
            places = None if above is None else above.submodule_search_locations
            return None if places is None else finder.find_spec(name, list(places))
        loaded = getattr(sys.modules.get(name), "__file__", None)
        installed = loaded is not None and is_installed(Path(loaded))  # an import gets what is in memory
        near = None if self._folder is None or installed else finder.find_spec(name, [str(self._folder)])
        if near is not None and near.origin is not None:
            return near
        try:
            return importlib.util.find_spec(name) or near
        except (ImportError, ValueError):  # a module that has no specification, such as __main__
            return near


def _wishes(node: ast.AST, package: str) -> Iterator[_Wish]:
    """The modules that one node of a syntax tree imports."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield _Wish(name=alias.name)
    elif isinstance(node, ast.ImportFrom):
        base = _absolute("." * node.level + (node.module or ""), package)
        if base is not None:
            names = [alias.name for alias in node.names]
            yield _Wish(name=base, everything="*" in names)
            yield from (_Wish(name=f"{base}.{name}", maybe=True) for name in names if name != "*")
    elif isinstance(node, ast.Call):
        literal = _literal_import(node, package)
        if literal is not None:
            yield _Wish(name=literal)


def _absolute(name: str, package: str) -> str | None:
    try:
        return importlib.util.resolve_name(name, package)
    except ImportError:  # a relative import without a package: it fails when it is executed
        return None


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute) and node.func.attr in _DYNAMIC:
        return node.func.attr
    if isinstance(node.func, ast.Name) and node.func.id in _DYNAMIC_NAMES:
        return node.func.id
    return ""


def _literal_import(node: ast.Call, package: str) -> str | None:
    """The module of ``import_module("literal")`` or ``__import__("literal")``."""
    if _called(node) not in {"import_module", "__import__"} or not node.args:
        return None
    first = node.args[0]
    if not isinstance(first, ast.Constant) or not isinstance(first.value, str):
        return None
    return _absolute(first.value, package)


def _is_dynamic(node: ast.Call, package: str) -> bool:
    return bool(_called(node)) and _literal_import(node, package) is None


def _public_names(path: Path | None) -> Collection[str]:
    """The names of ``__all__``, which ``from package import *`` imports where they are modules."""
    if path is None or path.suffix != ".py":
        return ()
    for node in ast.parse(_content(path)).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            return [
                part.value
                for part in ast.walk(node.value)
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
            ]
    return ()


def _version(top: str) -> str:
    try:
        return importlib.metadata.version(top)
    except importlib.metadata.PackageNotFoundError:
        names = sorted(set(_distributions().get(top, ())))
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names) or "unknown"


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()
