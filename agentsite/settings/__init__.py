"""Settings, one file per concern; every value comes from the environment through `env`, with a default for development.

A wrong or missing value stops the start with a message that names the variable. `.env.example` lists them all.
"""

from agentsite.settings.base import *
from agentsite.settings.admin import *
from agentsite.settings.api import *
from agentsite.settings.database import *
from agentsite.settings.jobs import *
from agentsite.settings.llm import *
from agentsite.settings.logging import *
from agentsite.settings.mail import *
from agentsite.settings.runs import *
from agentsite.settings.security import *
from agentsite.settings.sandbox import *
from agentsite.settings.workspace import *
from agentsite.settings.validation import validate

validate(globals())
