from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from agentsite.embedded import binaries, roles
from agentsite.embedded.errors import StartError
from agentsite.embedded.home import Home
from agentsite.embedded.postgres import Cluster, ensure


@pytest.fixture(params=sorted({binaries._major(folder) for folder in binaries._folders()} - {0}))
def server(request: pytest.FixtureRequest, home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A new server of each PostgreSQL installed here, which never saw the roles."""
    folders = [folder for folder in binaries._folders() if binaries._major(folder) == request.param]
    monkeypatch.setattr(binaries, "_folders", lambda: folders)
    running = ensure(home, name="fresh", durable=False)
    yield running
    running.stop()


def admin(cluster: Cluster, database: str, *statements: str) -> None:
    with psycopg.connect(cluster.admin_url, dbname=database, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def url_of(cluster: Cluster, login: str, database: str) -> str:
    return f"postgresql://{login}:secret@127.0.0.1:{cluster.port}/{database}"


def assert_roles_hold(url: str) -> None:
    """Each role can do its work, and neither the login nor the server's role more than that."""
    with psycopg.connect(url, options="-c role=app_owner", autocommit=True) as owner:
        owner.execute("CREATE TABLE thing (id int)")
        owner.execute("ALTER TABLE thing ENABLE ROW LEVEL SECURITY")
        owner.execute("GRANT SELECT, INSERT ON thing TO app_user, app_ops")
        owner.execute("CREATE POLICY nobody ON thing USING (false) WITH CHECK (true)")
        owner.execute("INSERT INTO thing VALUES (1)")
    with psycopg.connect(url, options="-c role=app_user", autocommit=True) as user:
        assert user.execute("SELECT count(*) FROM thing").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            user.execute("CREATE TABLE mine (id int)")
    with psycopg.connect(url, options="-c role=app_ops") as ops:
        assert ops.execute("SELECT count(*) FROM thing").fetchone() == (1,)


def test_embedded_server(server: Cluster) -> None:
    roles.bootstrap(server)
    roles.bootstrap(server)
    roles.ensure_roles(server.url)
    assert_roles_hold(server.url)
    with psycopg.connect(server.url, autocommit=True) as login:
        assert login.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            login.execute("TABLE thing")


def test_owner_may_create_databases_for_tests(server: Cluster) -> None:
    roles.bootstrap(server)
    with psycopg.connect(server.url, options="-c role=app_owner", autocommit=True) as owner:
        owner.execute("CREATE DATABASE test_agentsite")


def test_many_at_once(server: Cluster) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: roles.bootstrap(server), range(4)))
    assert_roles_hold(server.url)


def test_external_database_of_a_superuser(server: Cluster) -> None:
    admin(server, "postgres", "CREATE ROLE dba LOGIN SUPERUSER PASSWORD 'secret'", 'CREATE DATABASE "my site"')
    url = url_of(server, "dba", "my%20site")
    roles.ensure_roles(url)
    roles.ensure_roles(url)
    assert_roles_hold(url)


def test_external_login_without_rights_gets_the_sql_for_the_administrator(server: Cluster) -> None:
    admin(server, "postgres", "CREATE ROLE plain LOGIN PASSWORD 'secret'", "CREATE DATABASE site")
    with pytest.raises(StartError, match="The login plain of DATABASE_URL may not prepare") as failure:
        roles.ensure_roles(url_of(server, "plain", "site"))
    statements = [line.strip() for line in str(failure.value).splitlines()[1:]]
    admin(server, "site", *statements)
    roles.ensure_roles(url_of(server, "plain", "site"))
    assert_roles_hold(url_of(server, "plain", "site"))


def test_login_takes_only_the_roles_asked_for(server: Cluster) -> None:
    roles.bootstrap(server)
    admin(server, "postgres", "CREATE ROLE web LOGIN PASSWORD 'secret'", "GRANT app_user TO web")
    roles.ensure_roles(url_of(server, "web", "agentsite"), ["app_user"])
    with pytest.raises(psycopg.OperationalError, match="app_ops"):
        psycopg.connect(url_of(server, "web", "agentsite"), options="-c role=app_ops")


def test_dangerous_attributes_are_taken_away(server: Cluster) -> None:
    roles.bootstrap(server)
    admin(server, "agentsite", "ALTER ROLE app_user BYPASSRLS", "GRANT CREATE ON SCHEMA public TO PUBLIC")
    roles.ensure_roles(server.admin_url.removesuffix("postgres") + "agentsite")
    assert_roles_hold(server.url)


def test_old_server_is_refused(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "OLDEST_MAJOR", 99)
    with pytest.raises(StartError, match=r"^PostgreSQL 99 or newer is needed; the server of DATABASE_URL is \d+\.$"):
        roles.ensure_roles(cluster.admin_url)


def test_wrong_encoding_is_refused(cluster: Cluster) -> None:
    admin(cluster, "postgres", "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(StartError, match="must have the encoding UTF8, not LATIN1"):
        roles.ensure_roles(cluster.admin_url.removesuffix("postgres") + "latin")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://someone:secret@127.0.0.1:1/site", "cannot be reached: .*refused"),
        ("mysql://someone:secret@127.0.0.1/site", "must look like postgresql://user:password@host:5432/database"),
    ],
)
def test_unreachable_database_is_one_line_without_the_password(url: str, reason: str) -> None:
    with pytest.raises(StartError, match=reason) as failure:
        roles.ensure_roles(url)
    assert "secret" not in str(failure.value)
    assert "\n" not in str(failure.value)
