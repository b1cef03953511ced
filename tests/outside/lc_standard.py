"""LangChain's standard suite for chat models, against an OpenAI-compatible address.

Run by `test_langchain.py` in a pytest of its own, since it needs one event loop for all its tests.
Environment: BASE_URL, API_KEY, MODELS (their names, with blanks between): each has a class of tests of its own.
"""

import os
from typing import Any

from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class ChatTests(ChatModelIntegrationTests):
    served: str

    @property
    def chat_model_class(self) -> type[ChatOpenAI]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": self.served,
            "base_url": os.environ["BASE_URL"],
            "api_key": os.environ["API_KEY"],
            "max_retries": 0,
            "timeout": 30,
            "stream_usage": True,
            "use_responses_api": False,
        }

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return self.served

    # These inputs would be fetched from public addresses.
    @property
    def supports_image_inputs(self) -> bool:
        return False

    @property
    def supports_pdf_inputs(self) -> bool:
        return False

    @property
    def supports_audio_inputs(self) -> bool:
        return False


for number, name in enumerate(os.environ["MODELS"].split()):
    globals()[f"TestChat{number}"] = type(f"TestChat{number}", (ChatTests,), {"served": name, "__module__": __name__})
