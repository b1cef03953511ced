"""The admin's field for a model's name."""

from collections.abc import Sequence
from typing import Any

from core.admin.parts import UnfoldAdminTextInputWidget


class ModelInput(UnfoldAdminTextInputWidget):
    """Free text with the known models as suggestions: a provider may know more models than it lists."""

    template_name = "operators/model_input.html"
    models: Sequence[str] = ()

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, value, attrs)
        context["widget"]["models"] = self.models
        context["widget"]["attrs"]["list"] = f"{name}-models"
        return context
