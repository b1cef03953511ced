from agentsite_echo.kind import EchoKind

# Agentsite asks for an instance: one serves all tenants and all calls, so it keeps nothing of any of them.
echo_kind = EchoKind()

__all__ = ["EchoKind", "echo_kind"]
