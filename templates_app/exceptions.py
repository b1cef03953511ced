from core.errors import NotFound


class TemplateInvalid(ValueError):
    """A template class that cannot be used, and why."""


class TemplateNotFound(NotFound):
    code = "template_not_found"
