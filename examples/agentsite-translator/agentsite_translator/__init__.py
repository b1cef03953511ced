from agentsite_translator.template import TranslatorTemplate

__all__ = ["TranslatorTemplate"]
