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
    places = [Path(directory) for directory in settings.TEMPLATE_DIRS]
    places += [place for candidate in candidates() if (place := place_of(candidate)) is not None]
    return sorted({place.resolve() for place in places if place.exists() and not _INSTALLED.intersection(place.parts)})


def _watch() -> None:
    from watchfiles import watch  # development alone pays for it

    places = watched()
    logger.info("Watching templates", extra={"places": [str(place) for place in places]})
    for changes in watch(*places, stop_event=_stop, step=STEP_MS, debounce=LONGEST_MS, raise_interrupt=False):
        try:
            registry.refresh({Path(path) for _, path in changes})
        except Exception:  # the edge of the thread, which goes on with the next change
            logger.exception("Templates could not be looked for")
