"""The worker process: claims jobs, runs them, finishes them, stops gracefully."""

from docyard_workers.process.isolation.reference import Recipe
from docyard_workers.process.options import WorkerOptions
from docyard_workers.process.worker import Worker

__all__ = ["Recipe", "Worker", "WorkerOptions"]
