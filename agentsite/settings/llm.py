from agentsite.settings.env import at_least, count

LLM_ATTEMPTS = count("LLM_ATTEMPTS", default=3)  # tries of one model call, before its first token only
# Seconds.
LLM_FIRST_TOKEN_TIMEOUT = at_least("LLM_FIRST_TOKEN_TIMEOUT", default=60, minimum=0.1)
LLM_IDLE_TIMEOUT = at_least("LLM_IDLE_TIMEOUT", default=60, minimum=0.1)
LLM_TOTAL_TIMEOUT = at_least("LLM_TOTAL_TIMEOUT", default=600, minimum=1)
LLM_MAX_RETRY_WAIT = at_least("LLM_MAX_RETRY_WAIT", default=5, minimum=0)
OPENAI_API_KEY_VARIABLE = "OPENAI_API_KEY"  # read by the demo data only
