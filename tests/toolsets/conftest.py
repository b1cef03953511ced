import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.toolsets.mail_servers import Certificate, Dovecot, dovecot_server, make_certificate
from toolsets.kinds.email.connection import tls


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def dovecot(certificate: Certificate) -> Iterator[Dovecot]:
    program = shutil.which("dovecot")
    if program is None:
        pytest.skip("Install Dovecot: apt-get install dovecot-imapd.")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with dovecot_server(program, Path(folder), certificate) as server:
            yield server


@pytest.fixture
def near(settings: Any, monkeypatch: pytest.MonkeyPatch, certificate: Certificate) -> Iterator[None]:
    """Servers on this host may be reached, and their certificate is trusted."""
    settings.ALLOW_PRIVATE_TOOLS = True
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
    tls.cache_clear()
    yield
    tls.cache_clear()
