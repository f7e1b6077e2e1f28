"""The views of docs/views.md over millions of rows: what a dashboard waits for."""
