from .version_1 import Translator1
from .version_2 import Translator2

# Both are in use at once.
__all__ = ["Translator1", "Translator2"]
