"""Where the tools of agents keep files."""

from pathlib import Path

from agentsite.settings.base import HOME_DIR
from agentsite.settings.env import count, text

# Folders of tenants; servers and workers that run agents share it. It must not hold anything else.
WORKSPACE_DIR = Path(text("WORKSPACE_DIR", str(HOME_DIR / "workspaces"))).absolute()
WORKSPACE_ENTRIES = count("WORKSPACE_ENTRIES", default=10_000)  # files and folders of one workspace
