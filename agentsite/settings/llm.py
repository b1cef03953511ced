from agentsite.settings.env import at_least, count, flag

LLM_ATTEMPTS = count("LLM_ATTEMPTS", default=3)  # tries of a model, over all its keys, before the first token only
LLM_MAX_ANSWER = count("LLM_MAX_ANSWER", default=16_000_000)  # characters of one answer
LLM_MAX_DELTAS = count("LLM_MAX_DELTAS", default=250_000)  # pieces of one streamed answer; each is kept until it ends
# Seconds.
LLM_FIRST_TOKEN_TIMEOUT = at_least("LLM_FIRST_TOKEN_TIMEOUT", default=60, minimum=0.1)
LLM_IDLE_TIMEOUT = at_least("LLM_IDLE_TIMEOUT", default=60, minimum=0.1)
LLM_TOTAL_TIMEOUT = at_least("LLM_TOTAL_TIMEOUT", default=600, minimum=1)
LLM_MAX_RETRY_WAIT = at_least("LLM_MAX_RETRY_WAIT", default=5, minimum=0)
BUDGET_ANSWER_TOKENS = count("BUDGET_ANSWER_TOKENS", default=512)  # of an answer, held of a budget before it begins
LLM_BREAKER_FAILURES = count("LLM_BREAKER_FAILURES", default=10)  # in a row, after which an endpoint is left alone
LLM_BREAKER_SECONDS = at_least("LLM_BREAKER_SECONDS", default=15, minimum=0.1)  # for which it is left alone
LLM_BREAKER_MAX_SECONDS = at_least("LLM_BREAKER_MAX_SECONDS", default=600, minimum=0.1)  # whatever a provider asks
# Of one server process.
LLM_CALLS_PER_HOST = count("LLM_CALLS_PER_HOST", default=500)  # calls at once to a host; 3/4 of one tenant
LLM_QUEUE = count("LLM_QUEUE", default=200)  # calls of a tenant that wait for a key, or for a host
LLM_CACHE_MB = count("LLM_CACHE_MB", default=64)  # of one tenant's cached answers, in the database
# Have the worker test the providers of active routes, each minute while they fail, else every 15 minutes.
LLM_WATCH_PROVIDERS = flag("LLM_WATCH_PROVIDERS", default=True)
