"""What dashboards ask of the views, and that each is asked as its page says."""

from __future__ import annotations

# Name → statement. ``%(batch)s`` is the batch of many jobs, ``%(job)s`` a dead letter's number.
QUERIES = {
    "queue_stats": "SELECT * FROM docyard.queue_stats",
    "workers": "SELECT * FROM docyard.workers",
    "job_latency, last hour": "SELECT * FROM docyard.job_latency WHERE minute > now() - interval '1 hour'",
    "job_latency, all": "SELECT * FROM docyard.job_latency",
    "throughput, last hour": "SELECT * FROM docyard.throughput WHERE minute > now() - interval '1 hour'",
    "throughput, all": "SELECT * FROM docyard.throughput",
    "jobs, any 50": "SELECT * FROM docyard.jobs LIMIT 50",
    "jobs, newest": "SELECT * FROM docyard.jobs ORDER BY id DESC LIMIT 50",
    "jobs, one": "SELECT * FROM docyard.jobs WHERE id = %(job)s",
    "jobs, by queue": "SELECT * FROM docyard.jobs WHERE queue = 'queue 3' ORDER BY id DESC LIMIT 50",
    "jobs, by kind": "SELECT * FROM docyard.jobs WHERE kind = 'kind 3' ORDER BY id DESC LIMIT 50",
    "jobs, by batch": "SELECT * FROM docyard.jobs WHERE batch_id = %(batch)s "
    "ORDER BY created_at DESC, id DESC LIMIT 50",
    "jobs, by batch and id": "SELECT * FROM docyard.jobs WHERE batch_id = %(batch)s "
    "ORDER BY id DESC LIMIT 50",
    "jobs, available": "SELECT * FROM docyard.jobs WHERE state = 'available' ORDER BY id DESC LIMIT 50",
    "jobs, running": "SELECT * FROM docyard.jobs WHERE state = 'running' ORDER BY id DESC LIMIT 50",
    "jobs, dead": "SELECT * FROM docyard.jobs WHERE state = 'dead' ORDER BY id DESC LIMIT 50",
    "jobs, dead, by dead_letters": "SELECT job.* FROM docyard.dead_letters AS letter "
    "JOIN docyard.jobs AS job ON job.id = letter.job_id ORDER BY letter.finished_at DESC LIMIT 50",
    "dead_letters, newest": "SELECT * FROM docyard.dead_letters ORDER BY finished_at DESC LIMIT 50",
    "dead_letters, last day": "SELECT count(*) FROM docyard.dead_letters "
    "WHERE finished_at > now() - interval '24 hours'",
    "attempts, of a job": "SELECT * FROM docyard.attempts WHERE job_id = %(job)s",
    "batch_progress, 100k jobs": "SELECT * FROM docyard.batch_progress WHERE batch_id = %(batch)s",
    "batch_progress, newest 50": "SELECT * FROM docyard.batch_progress ORDER BY created_at DESC LIMIT 50",
    "batch_progress, all": "SELECT * FROM docyard.batch_progress",
}
