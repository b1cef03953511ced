"""Finding plugins: sub-packages of ours, folders on disk, entry points. A broken one is a fault and hides no other."""

import importlib
import logging
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from inspect import isabstract, isclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Candidate:
    """Something that may be a plugin; `load` imports it and answers a module or a class."""

    name: str
    source: str
    load: Callable[[], Any]


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
            yield Candidate(_slug(module.name), path, lambda path=path: importlib.import_module(path))  # type: ignore[misc]


def entry_point_group(group: str) -> Iterator[Candidate]:
    """What installed distributions declare in `group`: modules or classes."""
    for point in entry_points(group=group):
        yield Candidate(_slug(point.name), _origin(point), point.load)


def folders(directory: Path) -> Iterator[Candidate]:
    """Each folder in `directory` that holds an `__init__.py`; a missing directory is a candidate that fails."""
    if not directory.is_dir():
        yield Candidate(_slug(directory.name), str(directory), lambda: _missing(directory))
        return
    for folder in sorted(directory.iterdir()):
        if (folder / "__init__.py").is_file():
            yield Candidate(_slug(folder.name), str(folder), lambda folder=folder: _import_folder(folder))  # type: ignore[misc]


def load_classes(candidates: Iterable[Candidate], base: type[T]) -> tuple[list[tuple[Candidate, type[T]]], list[Fault]]:
    """Every concrete subclass of `base` that the candidates define, and a fault for each that cannot give one."""
    found: list[tuple[Candidate, type[T]]] = []
    faults: list[Fault] = []
    for candidate in candidates:
        try:
            classes = _classes(candidate.load(), base)
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


def _classes(value: Any, base: type[T]) -> list[type[T]]:
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
    name = f"agentsite_plugin_{sha256(str(folder.resolve()).encode()).hexdigest()[:12]}_{folder.name}"
    for known in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
        del sys.modules[known]
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


def _missing(directory: Path) -> Any:
    raise FileNotFoundError(f"The folder {directory} does not exist.")


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def _slug(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
