REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["core.api.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["core.api.JSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "core.api.Negotiation",
    "EXCEPTION_HANDLER": "core.api.render_error",
    "UNAUTHENTICATED_USER": None,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Agentsite",
    "DESCRIPTION": "Agents, sessions, runs and OpenAI-compatible chat completions.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "COMPONENT_SPLIT_PATCH": False,  # a PATCH has a serializer of its own, which says what may be left out
    "COMPONENT_NO_READ_ONLY_REQUIRED": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {
        "Role": "tenants.models.Role",
        "MemberStatus": "tenants.models.Membership.Status",
        "AgentStatus": "agents.models.Agent.Status",
        "WhenBusy": "agents.models.AgentVersion.WhenBusy",
        "SessionStatus": "sessions_app.models.ChatSession.Status",
        "MessageRole": "sessions_app.models.Message.Role",
        "MessageStatus": "sessions_app.models.Message.Status",
        "RunStatus": "runs.models.Run.Status",
        "ProviderHealth": "llm.models.Provider.Health",
        "ComponentStatus": ["ok", "degraded", "down", "absent"],
        "Need": ["required", "optional", "none"],
    },
    "APPEND_COMPONENTS": {"securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer"}}},
    "SECURITY": [{"apiKey": []}],
    "SCHEMA_PATH_PREFIX": "/v1",
}

CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
