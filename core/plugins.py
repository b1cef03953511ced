"""Finding plugins: sub-packages of ours, folders on disk, entry points. A broken one is a fault and hides no other."""

import importlib
import logging
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from importlib.util import cache_from_source, find_spec, module_from_spec, spec_from_file_location
from inspect import isabstract, isclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Candidate:
    """Something that may be a plugin; `load` imports it and answers a module or a class.

    `module` is what is imported, `place` its folder, None where only the import system knows it.
    """

    name: str
    source: str
    load: Callable[[], Any]
    module: str
    place: Path | None = None


@dataclass(frozen=True)
class Fault:
    """Why a plugin is not in use; `reason` is one line, the log has the rest."""

    name: str
    source: str
    reason: str


def subpackages(package: str) -> Iterator[Candidate]:
    """Each package right below `package`."""
    parent = importlib.import_module(package)
    for module in pkgutil.iter_modules(parent.__path__):
        path = f"{package}.{module.name}"
        if module.ispkg:
            load = partial(importlib.import_module, path)
            yield Candidate(_slug(module.name), path, load, path, Path(parent.__path__[0]) / module.name)


def entry_point_group(group: str) -> Iterator[Candidate]:
    """What installed distributions declare in `group`: modules or classes."""
    for point in entry_points(group=group):
        yield Candidate(_slug(point.name), _origin(point), point.load, point.module)


def folders(directory: Path) -> Iterator[Candidate]:
    """Each folder in `directory` that holds an `__init__.py`; a missing directory is a candidate that fails."""
    if not directory.is_dir():
        yield Candidate(_slug(directory.name), str(directory), partial(_missing, directory), _folder_name(directory))
        return
    for folder in sorted(directory.iterdir()):
        if (folder / "__init__.py").is_file():
            load = partial(_import_folder, folder)
            yield Candidate(_slug(folder.name), str(folder), load, _folder_name(folder), folder)


def load_classes(candidates: Iterable[Candidate], base: type[T]) -> tuple[list[tuple[Candidate, type[T]]], list[Fault]]:
    """Every concrete subclass of `base` that the candidates define, and a fault for each that cannot give one."""
    found: list[tuple[Candidate, type[T]]] = []
    faults: list[Fault] = []
    for candidate in candidates:
        try:
            classes = classes_of(candidate.load(), base)
        except (Exception, SystemExit) as error:  # foreign code runs here: whatever it raises is its own fault
            logger.warning("The plugin %s cannot be loaded", candidate.source, exc_info=True)
            faults.append(fault_of(candidate, error))
            continue
        found += [(candidate, cls) for cls in classes]
        if not classes:
            reason = f"It defines no {base.__name__}."
            logger.warning("The plugin %s cannot be used: %s", candidate.source, reason)
            faults.append(Fault(candidate.name, candidate.source, reason))
    return found, faults


def fault_of(candidate: Candidate, error: BaseException) -> Fault:
    text = " ".join(str(error).split())
    return Fault(candidate.name, candidate.source, f"{type(error).__name__}: {text}"[:300])


def load_anew(candidate: Candidate, changed: Iterable[Path], use: Callable[[Any], T]) -> T:
    """What `use` makes of the candidate, whose modules are imported anew.

    When either fails, the modules that were there are there again, and the error is raised. The `changed` files are
    compiled first: one may be imported only when something runs.
    """
    for file in changed:
        if file.suffix == ".py" and file.is_file():
            compile(file.read_bytes(), file.name, "exec", dont_inherit=True)
    package = _package_of(candidate.module)
    held = _take_modules(package)
    _forget_bytecode(place_of(candidate))
    importlib.invalidate_caches()
    try:
        return use(candidate.load())
    except BaseException:
        _take_modules(package)
        _put_back(package, held)
        raise


def _take_modules(package: str) -> dict[str, ModuleType]:
    """Takes a package and all below it out of the imported modules."""
    names = [name for name in list(sys.modules) if name == package or name.startswith(f"{package}.")]
    return {name: sys.modules.pop(name) for name in names}


def _put_back(package: str, held: dict[str, ModuleType]) -> None:
    """An import has made the new package an attribute of its parent, even if it was refused afterwards."""
    sys.modules.update(held)
    parent, _, name = package.rpartition(".")
    if parent in sys.modules and package in held:
        setattr(sys.modules[parent], name, held[package])


def _forget_bytecode(place: Path | None) -> None:
    """Python takes bytecode for current by the second and the size: an edit within a second may be the same in both."""
    files = [] if place is None else place.rglob("*.py") if place.is_dir() else [place]
    for file in files:
        with suppress(OSError):  # where it cannot be removed, Python could not write it either
            Path(cache_from_source(str(file))).unlink(missing_ok=True)


def place_of(candidate: Candidate) -> Path | None:
    """Its folder, or its file where it is a module by itself; None where there is nothing of the kind."""
    if candidate.place is not None:
        return candidate.place
    spec = _spec_of(_package_of(candidate.module))
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)


def _package_of(module: str) -> str:
    """What the modules of a plugin are in: the module itself where it is a package or by itself, else its parent."""
    spec = _spec_of(module)
    is_package = spec is not None and spec.submodule_search_locations is not None
    return module if is_package else module.rpartition(".")[0] or module


def _spec_of(module: str) -> ModuleSpec | None:
    try:
        return find_spec(module)
    except Exception:  # it imports the packages above, where foreign code runs
        logger.info("The module %s cannot be looked up", module, exc_info=True)
        return None


def classes_of(value: Any, base: type[T]) -> list[type[T]]:
    """A class itself, or the concrete ones that a module's own package defined (not those it imported to build on)."""
    if isclass(value):
        return [value] if issubclass(value, base) and not isabstract(value) else []
    package = value.__name__
    return [
        cls
        for cls in vars(value).values()
        if isclass(cls)
        and issubclass(cls, base)
        and not isabstract(cls)
        and (cls.__module__ == package or cls.__module__.startswith(f"{package}."))
    ]


def _import_folder(folder: Path) -> ModuleType:
    """Import a folder as a package of its own, anew each time, so that its modules may import each other relatively."""
    name = _folder_name(folder)
    _take_modules(name)
    spec = spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder.name} cannot be imported.")
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _folder_name(folder: Path) -> str:
    """The same after each start: LangGraph's checkpoints name classes by their module."""
    return f"agentsite_plugin_{sha256(str(folder.resolve()).encode()).hexdigest()[:12]}_{folder.name}"


def _missing(directory: Path) -> Any:
    raise FileNotFoundError(f"The folder {directory} does not exist.")


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def _slug(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
