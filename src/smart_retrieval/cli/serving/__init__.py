"""What answers others: ``smart serve`` and ``smart mcp``."""
