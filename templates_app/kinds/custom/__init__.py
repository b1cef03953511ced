from templates_app.kinds.custom.template import CustomTemplate

__all__ = ["CustomTemplate"]
