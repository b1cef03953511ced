"""What the settings make of the environment, with nothing else set."""

import ast
import importlib
import os
import re
import secrets
import subprocess
import sys
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from agentsite.embedded.home import CHECKOUT

PRODUCTION = {
    "AGENTSITE_ENV": "production",
    "ALLOWED_HOSTS": "agents.example.com",
    "DATABASE_URL": "postgresql://agentsite:hunter2@db.example.com:5432/agentsite",
    "SECRET_KEY": secrets.token_hex(32),
    "MASTER_KEY": secrets.token_hex(32),
}


class Loader:
    """Loads the settings anew, as a process that starts with these variables does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def __call__(self, values: dict[str, str]) -> dict[str, Any]:
        for name in list(os.environ):
            self.monkeypatch.delenv(name)
        for name, value in values.items():
            self.monkeypatch.setenv(name, value)
        for module in [name for name in sys.modules if name.startswith("agentsite.settings")]:
            self.monkeypatch.delitem(sys.modules, module)
        return {
            name: value for name, value in vars(importlib.import_module("agentsite.settings")).items() if name.isupper()
        }


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Loader:
    return Loader(monkeypatch)


def run(arguments: list[str], values: dict[str, str]) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.defpath, **values}
    return subprocess.run([sys.executable, *arguments], cwd=CHECKOUT, env=env, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("AGENTSITE_ENV", "prod", "must be one of development, test, production, not 'prod'"),
        ("DEBUG", "maybe", "must be true or false, not 'maybe'"),
        ("LOG_LEVEL", "LOUD", "must be one of DEBUG, INFO, WARNING, ERROR, not 'LOUD'"),
        ("BASE_URL", "agents.example.com", "must look like https://agents.example.com"),
        ("DATABASE_URL", "mysql://me:hunter2@host/x", "must look like postgresql://"),
        ("DATABASE_URL", "postgresql://me:hunter2@host:port/x", "must look like postgresql://"),
        ("DATABASE_URL", "postgresql://me:hunter2@host", "must look like postgresql://"),
        ("DATABASE_OWNER_URL", "hunter2", "must look like postgresql://"),
        ("DATABASE_OPS_URL", "hunter2", "must look like postgresql://"),
        ("DATABASE_POOL_SIZE", "1", "must be a whole number of at least 2, not '1'"),
        ("DATABASE_TENANT_MODE", "none", "must be one of session, local, not 'none'"),
        ("SECRET_KEY", "hunter2", "must be set to at least 32 random characters"),
        ("MASTER_KEY", "hunter2", "must be set to at least 32 random characters"),
        ("CSRF_TRUSTED_ORIGINS", "agents.example.com", "must look like https://agents.example.com"),
        ("SOCKET_ORIGINS", "https://a.example.com,b.example.com", "must look like https://agents.example.com"),
        ("EMAIL_URL", "mailto:me:hunter2@example.com", "must look like smtp+tls://"),
        ("EMAIL_URL", "smtp://me:hunter2@host:port", "must look like smtp+tls://"),
        ("EMAIL_URL", "smtp://", "must look like smtp+tls://"),
        ("DEFAULT_FROM_EMAIL", "Agentsite", "must be an e-mail address, not 'Agentsite'"),
        ("TRUSTED_PROXIES", "-1", "must be a whole number of at least 0, not '-1'"),
        ("ALLOW_PRIVATE_PROVIDERS", "sometimes", "must be true or false"),
        ("ALLOW_PRIVATE_TOOLS", "sometimes", "must be true or false"),
        ("DATABASE_TOOL_CONNECTIONS", "0", "must be a whole number of at least 1"),
        ("SECURE_SSL_REDIRECT", "2", "must be true or false"),
        ("SECURE_HSTS_SECONDS", "a year", "must be a whole number of at least 0"),
        ("MAX_BODY_BYTES", "1MB", "must be a whole number of at least 1, not '1MB'"),
        ("MAX_JSON_DEPTH", "0", "must be a whole number of at least 1"),
        ("MAX_CONCURRENT_RUNS", "many", "must be a whole number of at least 1"),
        ("TENANT_CONCURRENT_RUNS", "0", "must be a whole number of at least 1, not '0'"),
        ("RUN_TIMEOUT", "0", "must be a number of at least 1, not '0'"),
        ("RUN_TIMEOUT", "599", "LLM_TOTAL_TIMEOUT must not exceed RUN_TIMEOUT"),
        ("HEARTBEAT_SECONDS", "15 s", "must be a number of at least 0.05, not '15 s'"),
        ("LLM_ATTEMPTS", "1.5", "must be a whole number of at least 1"),
        ("LLM_MAX_ANSWER", "0", "must be a whole number of at least 1"),
        ("LLM_MAX_DELTAS", "16e6", "must be a whole number of at least 1"),
        ("LLM_FIRST_TOKEN_TIMEOUT", "soon", "must be a number of at least 0.1"),
        ("LLM_IDLE_TIMEOUT", "inf", "must be a number of at least 0.1"),
        ("LLM_TOTAL_TIMEOUT", "nan", "must be a number of at least 1"),
        ("LLM_MAX_RETRY_WAIT", "-1", "must be a number of at least 0"),
        ("LLM_BREAKER_FAILURES", "0", "must be a whole number of at least 1"),
        ("LLM_BREAKER_SECONDS", "0", "must be a number of at least 0.1"),
        ("LLM_BREAKER_MAX_SECONDS", "long", "must be a number of at least 0.1"),
        ("LLM_CALLS_PER_HOST", "0", "must be a whole number of at least 1"),
        ("LLM_QUEUE", "few", "must be a whole number of at least 1"),
        ("WORKSPACE_ENTRIES", "0", "must be a whole number of at least 1"),
        ("LLM_CACHE_MB", "0", "must be a whole number of at least 1"),
    ],
)
def test_a_wrong_value_names_its_variable(load: Loader, name: str, value: str, complaint: str) -> None:
    with pytest.raises(ImproperlyConfigured) as raised:
        load({name: value})
    assert name in str(raised.value)
    assert complaint in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("name", sorted(set(PRODUCTION) - {"AGENTSITE_ENV"}))
def test_production_asks_for_what_has_no_safe_default(load: Loader, name: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"^{name} must "):
        load({key: value for key, value in PRODUCTION.items() if key != name})


def test_production_refuses_debug(load: Loader) -> None:
    for name in ("DEBUG", "TEMPLATE_RELOAD"):
        with pytest.raises(ImproperlyConfigured, match=f"^{name} cannot be on"):
            load({**PRODUCTION, name: "true"})
    assert load(PRODUCTION)["TEMPLATE_RELOAD"] is False


def test_a_wrong_value_stops_the_server() -> None:
    ended = run(["-c", "import agentsite.asgi"], {"RUN_TIMEOUT": "long"})
    assert ended.returncode == 1
    assert "ImproperlyConfigured: RUN_TIMEOUT must be" in ended.stderr.splitlines()[-1]


def test_the_deployment_check_is_clean_in_production() -> None:
    mail = {"EMAIL_URL": "smtp+tls://me:hunter2@mail.example.com:587"}
    ended = run(["manage.py", "check", "--deploy", "--fail-level", "WARNING"], {**PRODUCTION, **mail})
    assert ended.returncode == 0, ended.stderr


def test_the_deployment_check_misses_a_mail_server() -> None:
    ended = run(["manage.py", "check", "--deploy", "--fail-level", "WARNING"], PRODUCTION)
    assert ended.returncode == 1
    assert "agentsite.W001" in ended.stderr
    assert "EMAIL_URL is not set" in ended.stderr


def test_the_parts_of_a_mail_server(load: Loader) -> None:
    found = load({"EMAIL_URL": "smtp+tls://me:hun%40ter2@mail.example.com:587", "DEFAULT_FROM_EMAIL": "a@example.com"})
    assert (found["EMAIL_HOST"], found["EMAIL_PORT"], found["EMAIL_USE_TLS"]) == ("mail.example.com", 587, True)
    assert (found["EMAIL_HOST_USER"], found["EMAIL_HOST_PASSWORD"]) == ("me", "hun@ter2")
    assert load({})["EMAIL_BACKEND"] == "django.core.mail.backends.console.EmailBackend"


def test_the_example_file_lists_what_the_settings_read() -> None:
    beside_settings = {"AGENTSITE_SERVER", "OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"}
    assert set(example()) == read_by_settings() | beside_settings


def test_the_example_files_values_are_the_defaults(load: Loader) -> None:
    given, default = load(example()), load({})
    assert {name: comparable(value) for name, value in given.items()} == {
        name: comparable(value) for name, value in default.items()
    }


def comparable(value: Any) -> Any:
    """Each load makes functions and formatters anew."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def example() -> dict[str, str]:
    text = (CHECKOUT / ".env.example").read_text()
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE))


def read_by_settings() -> set[str]:
    """The constants that settings hand to the readers of agentsite/settings/env.py."""
    readers = {"text", "choice", "flag", "count", "at_least", "words", "origins", "secret", "database"}
    names: set[str] = set()
    for path in (CHECKOUT / "agentsite" / "settings").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in readers:
                constants = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
                names |= {value for value in constants[:2] if isinstance(value, str) and value.isupper()}
    return names - {"INFO"}


def test_a_log_line_names_its_run() -> None:
    from logging import Formatter, LogRecord
    from logging.config import DictConfigurator

    from agentsite.settings.logging import LOGGING

    formatter: Formatter = DictConfigurator({}).configure_formatter(dict(LOGGING["formatters"]["default"]))  # type: ignore[index]
    record = LogRecord("runs", 30, __file__, 1, "A run failed", (), None)
    record.run_id, record.code = "01a2", "run_timeout"
    line = formatter.format(record)
    assert "run_id=01a2" in line
    assert "code=run_timeout" in line
