from templates_app.kinds.conversation.template import ConversationTemplate

__all__ = ["ConversationTemplate"]
