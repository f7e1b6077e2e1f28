DROP INDEX docyard.job_attempts_lost_idx;
ALTER TABLE docyard.procrastinate_jobs DROP COLUMN alone, DROP COLUMN began_alone;
