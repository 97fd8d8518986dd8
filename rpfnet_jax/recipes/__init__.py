"""The recipes: one `get_config()` a file."""
