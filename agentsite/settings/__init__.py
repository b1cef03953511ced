"""Settings, one file per concern; every value comes from the environment through `env`, with a default for development.

A wrong or missing value stops the start with a message that names the variable. `.env.example` lists them all.
"""

from agentsite.settings.base import *  # noqa: F403
from agentsite.settings.admin import *  # noqa: F403
from agentsite.settings.api import *  # noqa: F403
from agentsite.settings.database import *  # noqa: F403
from agentsite.settings.jobs import *  # noqa: F403
from agentsite.settings.llm import *  # noqa: F403
from agentsite.settings.logging import *  # noqa: F403
from agentsite.settings.runs import *  # noqa: F403
from agentsite.settings.security import *  # noqa: F403
from agentsite.settings.validation import validate

validate(globals())
