"""What the templates that work in steps share: `workflow` and `task`."""
