"""What libraries take along where they find it, and a server has no use for: 9 MB of its memory.

DRF loads requests for its test client, structlog all of Twisted for the logging of that. To be imported before Django.
"""

import sys
from importlib import import_module

_idle = [name for name in ("requests", "twisted") if name not in sys.modules]
sys.modules.update(dict.fromkeys(_idle))  # type: ignore[arg-type]  # None: to import it is an ImportError; both are ready
for name in ("rest_framework.compat", "structlog"):
    import_module(name)
for name in _idle:
    del sys.modules[name]
