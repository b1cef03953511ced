from templates_app.kinds.task.template import TaskTemplate

__all__ = ["TaskTemplate"]
