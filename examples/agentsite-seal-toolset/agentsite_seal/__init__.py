# What Agentsite finds by the entry point: every kind that this module names and that its package defines.
from agentsite_seal.kind import SealKind

__all__ = ["SealKind"]
