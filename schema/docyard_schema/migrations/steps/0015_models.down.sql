ALTER TABLE docyard.embedding_models DROP COLUMN backfill_to, DROP COLUMN settings;
