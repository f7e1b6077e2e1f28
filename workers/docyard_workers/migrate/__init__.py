"""Moves a database from one embedding model to another, beside running searches."""
