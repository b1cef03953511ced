from agentsite.settings.env import at_least, count

LLM_ATTEMPTS = count("LLM_ATTEMPTS", default=3)  # tries of one target of a model call, before its first token only
LLM_MAX_ANSWER = count("LLM_MAX_ANSWER", default=16_000_000)  # characters of one answer
LLM_MAX_DELTAS = count("LLM_MAX_DELTAS", default=250_000)  # pieces of one streamed answer; each is kept until it ends
# Seconds.
LLM_FIRST_TOKEN_TIMEOUT = at_least("LLM_FIRST_TOKEN_TIMEOUT", default=60, minimum=0.1)
LLM_IDLE_TIMEOUT = at_least("LLM_IDLE_TIMEOUT", default=60, minimum=0.1)
LLM_TOTAL_TIMEOUT = at_least("LLM_TOTAL_TIMEOUT", default=600, minimum=1)
LLM_MAX_RETRY_WAIT = at_least("LLM_MAX_RETRY_WAIT", default=5, minimum=0)
LLM_BREAKER_FAILURES = count("LLM_BREAKER_FAILURES", default=10)  # in a row, after which an endpoint is left alone
LLM_BREAKER_SECONDS = at_least("LLM_BREAKER_SECONDS", default=15, minimum=0.1)  # for which it is left alone
# Of one server process.
LLM_CALLS_PER_HOST = count("LLM_CALLS_PER_HOST", default=500)  # calls at once to one provider's host, all tenants
LLM_QUEUE = count("LLM_QUEUE", default=200)  # calls that may wait for one key's limits, or for one host
LLM_CACHE_MB = count("LLM_CACHE_MB", default=64)  # of one tenant's cached answers, in the database
