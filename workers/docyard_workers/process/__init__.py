"""The worker process: claims jobs, runs them, finishes them, stops gracefully."""

from docyard_workers.process.worker import Worker, WorkerOptions

__all__ = ["Worker", "WorkerOptions"]
