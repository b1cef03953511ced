"""Kinds of toolsets that ask models or agents, and so stand above `toolsets`; found as those of `toolsets.kinds`."""
