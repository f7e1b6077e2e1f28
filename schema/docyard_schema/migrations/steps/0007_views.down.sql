DROP VIEW docyard.embedding_coverage, docyard.batch_progress, docyard.workers, docyard.queue_stats,
    docyard.dead_letters, docyard.attempts, docyard.jobs;
