from templates_app.kinds.workflow.template import WorkflowTemplate

__all__ = ["WorkflowTemplate"]
