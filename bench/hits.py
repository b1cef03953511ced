"""What a cached answer costs the gateway, beside a call of a provider: processor time of its process, by turns.

python -m bench.hits BASE_URL TOKEN, with the environment of a site; prints the ratios as JSON.
"""

import asyncio
import json
import subprocess
import sys
import time

from bench.processes import environment
from bench.site import CHECKOUT, Site

ROUNDS, CALLS = 24, 50


def ratios(where: Site, base_url: str) -> list[float]:
    """Of ROUNDS rounds: a hit to a call."""
    command = [sys.executable, "-m", "bench.hits", base_url, where.token]
    env = environment(where.server) | {"DJANGO_SETTINGS_MODULE": "agentsite.settings"}
    done = subprocess.run(command, cwd=CHECKOUT, env=env, check=True, capture_output=True, text=True)
    found: list[float] = json.loads(done.stdout)
    return found


async def measured(base_url: str, token: str) -> list[float]:
    from llm.calls import CachePolicy, CallContext, Unpaid, calling
    from llm.gateway import gateway
    from llm.providers.base import ProviderConnection
    from llm.targets import ModelTarget
    from llm.wire import ChatRequest
    from tenants.authentication import authenticate_api_key

    tenant = (await asyncio.to_thread(authenticate_api_key, token)).tenant_id
    target = ModelTarget(ProviderConnection("bench", "openai", base_url, None, {}, tenant_id=tenant), "m")
    request = ChatRequest("m", [{"role": "user", "content": "go"}], {})
    called = CallContext(tenant, Unpaid())
    hit = CallContext(tenant, Unpaid(), cache=CachePolicy(3600, "bench"))

    async def cost(context: CallContext) -> float:
        with calling(context):
            began = time.process_time()
            for _ in range(CALLS):
                await gateway.complete(request, target)
            return time.process_time() - began

    await cost(called)
    await cost(hit)
    return [await cost(hit) / await cost(called) for _ in range(ROUNDS)]


if __name__ == "__main__":
    import django

    django.setup()
    print(json.dumps(asyncio.run(measured(*sys.argv[1:]))))
