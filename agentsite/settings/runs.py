import os

from agentsite.settings.env import at_least, count, words

HEARTBEAT_SECONDS = at_least("HEARTBEAT_SECONDS", default=15, minimum=0.05)  # comment line on a silent event stream
RUN_TIMEOUT = at_least("RUN_TIMEOUT", default=900, minimum=1)  # seconds, from start to end of a run
MAX_CONCURRENT_RUNS = count("MAX_CONCURRENT_RUNS", default=500)  # per server process
SOCKET_RECHECK_SECONDS = 4.0  # a revoked credential closes its sockets within 5 s
# Further template folders, scanned like templates_app/kinds.
TEMPLATE_DIRS = words("TEMPLATE_DIRS")
# LangGraph reads it when it is imported, which a template may do at once: from a stored checkpoint it then makes only
# plain types, messages and the types that the graph's state names.
os.environ["LANGGRAPH_STRICT_MSGPACK"] = "true"
