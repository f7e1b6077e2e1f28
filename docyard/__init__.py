"""docyard."""
