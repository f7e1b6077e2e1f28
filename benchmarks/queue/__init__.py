"""docyard's queue beside other queues on Postgres. Run as ``python -m benchmarks.queue``."""
