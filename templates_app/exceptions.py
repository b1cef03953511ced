from core.errors import NotFound


class TemplateInvalid(ValueError):
    """A template class that cannot be used, and why."""


class ConfigNotMigrated(ValueError):
    """A template cannot turn a config of another version into its own, and why: people read it."""


class TemplateNotFound(NotFound):
    code = "template_not_found"
