"""The serving commands: smart mcp."""
