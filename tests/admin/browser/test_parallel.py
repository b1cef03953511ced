"""Pages of two tenants asked for at the same time, of one real server: none carries the other's links or rows."""

from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice

import httpx

from tests.outside.site import Server

PAGES = ("", "agents/agent/", "tenants/membership/", "audit/auditevent/", "agents/agent/add/")


def signed_in(server: Server) -> httpx.Client:
    admin = server.site.demo()["admin"]
    client = httpx.Client(base_url=server.base_url, timeout=60, trust_env=False, follow_redirects=True)
    client.get("/admin/login/?next=/")
    form = {**admin, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
    response = client.post("/admin/login/?next=/", data=form, headers={"Referer": f"{server.base_url}/admin/login/"})
    assert "/admin/" in str(response.url)
    return client


def test_two_tenants_at_once(server: Server) -> None:
    client = signed_in(server)
    wanted = [(tenant, page) for page in PAGES for tenant in ("acme", "globex")]

    def fetch(which: tuple[str, str]) -> None:
        tenant, page = which
        other = {"acme": "globex", "globex": "acme"}[tenant]
        response = client.get(f"/t/{tenant}/admin/{page}")
        assert response.status_code == 200
        assert f"Working in <strong>{tenant.title()}</strong>" in response.text
        assert f'href="/t/{tenant}/admin/runs/run/"' in response.text
        assert f'href="/t/{other}/' not in response.text
        assert 'href="/admin/' not in response.text

    with ThreadPoolExecutor(8) as threads:
        assert len(list(threads.map(fetch, islice(cycle(wanted), 60)))) == 60
    client.close()
