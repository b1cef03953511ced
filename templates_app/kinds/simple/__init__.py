from templates_app.kinds.simple.template import SimpleTemplate

__all__ = ["SimpleTemplate"]
