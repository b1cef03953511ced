import os

from agentsite.settings.env import ENVIRONMENT, at_least, count, flag, words

HEARTBEAT_SECONDS = at_least("HEARTBEAT_SECONDS", default=15, minimum=0.05)  # comment line on a silent event stream
RUN_TIMEOUT = at_least("RUN_TIMEOUT", default=900, minimum=1)  # seconds, from start to end of one attempt of a run
RUN_QUEUE_TIMEOUT = at_least("RUN_QUEUE_TIMEOUT", default=900, minimum=1)  # seconds that a run may wait for its turn
RUN_LEASE_SECONDS = at_least("RUN_LEASE_SECONDS", default=15, minimum=1)  # silence after which a run's process is lost
RUN_ATTEMPTS = count("RUN_ATTEMPTS", default=3)  # of one run, when the processes that run it are lost
MAX_CONCURRENT_RUNS = count("MAX_CONCURRENT_RUNS", default=500)  # per server process
# Per tenant, on all servers together, where the tenant has no limit of its own.
TENANT_CONCURRENT_RUNS = count("TENANT_CONCURRENT_RUNS", default=200)
DATABASE_TOOL_CONNECTIONS = count("DATABASE_TOOL_CONNECTIONS", default=20)  # of one toolset, per server process
APPROVAL_SECONDS = at_least("APPROVAL_SECONDS", default=3600, minimum=1)  # for a person to decide about a tool call
TENANT_WAITING_RUNS = count("TENANT_WAITING_RUNS", default=200)  # of one tenant, waiting for such decisions
# After which a server is asked again for the tools of a toolset that learns them from it.
TOOLS_LEARN_HOURS = at_least("TOOLS_LEARN_HOURS", default=6, minimum=0.1)
SESSION_QUEUE = count("SESSION_QUEUE", default=100)  # runs of one session that may wait for their turn
SESSION_FORK_MESSAGES = count("SESSION_FORK_MESSAGES", default=10_000)  # that a fork of a session may begin with
IDEMPOTENCY_HOURS = count("IDEMPOTENCY_HOURS", default=24)  # for which an Idempotency-Key is remembered
EVENT_RETENTION_DAYS = count("EVENT_RETENTION_DAYS", default=30)  # after which a run's events are removed
SESSION_IDLE_DAYS = count("SESSION_IDLE_DAYS", default=0, minimum=0)  # after which a session is closed; 0: never
SOCKETS_PER_PERSON = count("SOCKETS_PER_PERSON", default=50)  # of a user or guest, per server process
SOCKET_RECHECK_SECONDS = 3.0  # a revoked credential closes its sockets within 5 s
# Further template folders, scanned like templates_app/kinds.
TEMPLATE_DIRS = words("TEMPLATE_DIRS")
# Are templates loaded anew when their files change? Refused in production: what serves is what was deployed.
TEMPLATE_RELOAD = flag("TEMPLATE_RELOAD", default=ENVIRONMENT == "development")
# LangGraph reads it when it is imported, which a template may do at once: from a stored checkpoint it then makes only
# plain types, messages and the types that the graph's state names.
os.environ["LANGGRAPH_STRICT_MSGPACK"] = "true"
