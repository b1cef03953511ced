"""Running the code of tenants; see docs/deployment.md."""

from pathlib import Path

from agentsite.settings.base import HOME_DIR
from agentsite.settings.env import choice, count, text, words

COMMON_PACKAGES = (
    "numpy pandas python-dateutil pytz tzdata six pyyaml jinja2 markupsafe lxml beautifulsoup4 soupsieve "
    "typing-extensions pillow lodash date-fns zod"
)
# auto: the best that this machine can; 1: namespaces by bubblewrap; 2: Landlock and seccomp only; off: no code.
SANDBOX_LEVEL = choice("SANDBOX_LEVEL", "auto", ("auto", "1", "2", "off"))
SANDBOX_SLOTS = min(count("SANDBOX_SLOTS", default=8), 24)  # jobs at once in one server process
SANDBOX_TENANT_SLOTS = count("SANDBOX_TENANT_SLOTS", default=4)  # of them of one tenant
SANDBOX_QUEUE = count("SANDBOX_QUEUE", default=64)  # jobs that wait, half of them one tenant's
SANDBOX_IDLE = min(count("SANDBOX_IDLE", default=2, minimum=0), 8)  # slots that wait, for each runtime used once
SANDBOX_BWRAP = text("SANDBOX_BWRAP")  # programs; default: found in the system and the installed packages
SANDBOX_DENO = text("SANDBOX_DENO")
# Packages that tenants' code may use, by name, of PyPI and npm; * allows all.
SANDBOX_PACKAGES = words("SANDBOX_PACKAGES", default=COMMON_PACKAGES.split())
SANDBOX_PACKAGE_DIR = Path(text("SANDBOX_PACKAGE_DIR", str(HOME_DIR / "packages"))).absolute()
