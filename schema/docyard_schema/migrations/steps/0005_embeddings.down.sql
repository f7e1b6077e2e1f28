DROP TABLE docyard.embedding_failures;
DROP TABLE docyard.embeddings;
DROP TABLE docyard.embedding_models;
