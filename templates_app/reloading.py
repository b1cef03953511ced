"""In development: templates are loaded anew as soon as their files change."""

import logging
import threading
from pathlib import Path

from django.conf import settings

from core.plugins import place_of
from templates_app.registry import candidates, registry

logger = logging.getLogger(__name__)
STEP_MS = 50  # without a further change, after which an edit is taken for whole
LONGEST_MS = 300  # that changes are gathered for while they go on
_OURS = Path(__file__).with_name("kinds")
_INSTALLED = {"site-packages", "dist-packages"}  # below them lies what nobody edits
_stop = threading.Event()


def start() -> None:
    """Watch in a thread of its own, until `stop`; nothing where TEMPLATE_RELOAD is off."""
    if settings.TEMPLATE_RELOAD:
        _stop.clear()
        threading.Thread(target=_watch, name="templates", daemon=True).start()


def stop() -> None:
    _stop.set()


def watched() -> list[Path]:
    """The folders and files of templates that somebody may edit, and those in which new ones may appear."""
    roots = {directory.resolve() for directory in (_OURS, *map(Path, settings.TEMPLATE_DIRS))}
    plugins = {place.resolve() for candidate in candidates() if (place := place_of(candidate)) is not None}
    places = roots | {place for place in plugins if not roots.intersection(place.parents)}
    return sorted(place for place in places if place.exists() and not _INSTALLED.intersection(place.parts))


def _watch() -> None:
    """The edge of the thread: whatever ends it is logged."""
    places = watched()
    logger.info("Watching templates", extra={"places": [str(place) for place in places]})
    try:
        _follow(places)
    except Exception:
        logger.exception("Templates are not watched any more: start the server again to see changes")


def _follow(places: list[Path]) -> None:
    from watchfiles import watch  # development alone pays for it

    for changes in watch(*places, stop_event=_stop, step=STEP_MS, debounce=LONGEST_MS, raise_interrupt=False):
        try:
            registry.refresh({Path(path) for _, path in changes})
        except Exception:  # it goes on with the next change
            logger.exception("Templates could not be looked for")
