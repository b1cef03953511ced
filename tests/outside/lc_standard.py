"""LangChain's standard suite for chat models, against an OpenAI-compatible address.

Run by `test_langchain.py` in a pytest of its own, since it needs one event loop for all its tests.
Environment: BASE_URL, API_KEY, MODEL.
"""

import os
from typing import Any

from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestChat(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[ChatOpenAI]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": os.environ["MODEL"],
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
        return os.environ["MODEL"]

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
