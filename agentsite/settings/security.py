from agentsite.settings.env import ENVIRONMENT, PRODUCTION, at_least, count, flag, origins, secret, words

SECRET_KEY = secret("SECRET_KEY")
MASTER_KEY = secret("MASTER_KEY")  # encrypts provider and toolset secrets at rest
ALLOWED_HOSTS = words("ALLOWED_HOSTS", default=[] if PRODUCTION else ["*"])
CSRF_TRUSTED_ORIGINS = origins("CSRF_TRUSTED_ORIGINS")
# Origins whose browsers may open sockets and ask /mcp; the host that serves the page always may.
SOCKET_ORIGINS = origins("SOCKET_ORIGINS")
# Proxies in front of the server whose X-Forwarded-For is believed, counted from the server outwards.
TRUSTED_PROXIES = count("TRUSTED_PROXIES", default=0, minimum=0)
# May a tenant's provider address be private, such as an Ollama on this host? Safe only when all tenants are trusted.
ALLOW_PRIVATE_PROVIDERS = flag("ALLOW_PRIVATE_PROVIDERS", default=not PRODUCTION)
# May tools reach private addresses (web, databases, mail)? Whoever talks to an agent could then read what is there.
ALLOW_PRIVATE_TOOLS = flag("ALLOW_PRIVATE_TOOLS", default=False)
# Of one server process, for tools that fetch URLs: requests at once to a host, and how many a second.
TOOL_CALLS_PER_HOST = count("TOOL_CALLS_PER_HOST", default=8)
TOOL_RATE_PER_HOST = at_least("TOOL_RATE_PER_HOST", default=10, minimum=0.1)

PASSWORD_HASHERS = [
    *(["django.contrib.auth.hashers.MD5PasswordHasher"] if ENVIRONMENT == "test" else []),  # fast
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PRODUCTION
SECURE_SSL_REDIRECT = flag("SECURE_SSL_REDIRECT", default=PRODUCTION)
SECURE_REDIRECT_EXEMPT = [r"^v1/health"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXIES else None
SECURE_HSTS_SECONDS = count("SECURE_HSTS_SECONDS", default=31_536_000 if PRODUCTION else 0, minimum=0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = PRODUCTION
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'; form-action 'self'; base-uri 'none'"
)
# The chat page has no inline style or script; its scripts make elements and never parse HTML.
CHAT_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "require-trusted-types-for 'script'; trusted-types 'none'; "
    "frame-ancestors 'none'; form-action 'self'; base-uri 'none'"
)

# Request bodies, in bytes and nesting levels; a larger or deeper one is refused before it is parsed.
MAX_BODY_BYTES = count("MAX_BODY_BYTES", default=1_048_576)
MAX_JSON_DEPTH = count("MAX_JSON_DEPTH", default=64)
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES
API_KEY_CACHE_SECONDS = 4.0  # a revoked key is refused within 5 s; not configurable, the API promises it
SOCKET_TICKET_SECONDS = 60
GUEST_TOKEN_SECONDS = 900  # of the token that a guest's browser gets by its secret, again and again
# Of a guest who came by an invitation; a widget's key has its own.
GUEST_MESSAGES_PER_MINUTE = count("GUEST_MESSAGES_PER_MINUTE", default=20)
VISITOR_DAYS = count("VISITOR_DAYS", default=30)  # for which a widget knows a visitor again, from their first visit on
