-- Vectors of several models side by side: one partition each, so that a new model is loaded beside the live
-- one and an old one is dropped as a table.

CREATE TABLE docyard.embedding_models (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name <> ''),
    provider text NOT NULL,
    -- 4,000 is what an HNSW index over halfvec can hold.
    dimension integer NOT NULL CHECK (dimension BETWEEN 1 AND 4000),
    hash text NOT NULL CHECK (hash ~ '^[0-9a-f]{64}$'),
    distance text NOT NULL DEFAULT 'cosine' CHECK (distance = 'cosine'),
    state text NOT NULL DEFAULT 'building' CHECK (state IN ('building', 'ready', 'active', 'retired', 'failed')),
    created_at timestamptz NOT NULL DEFAULT docyard.clock(),
    activated_at timestamptz,
    retired_at timestamptz
);
CREATE UNIQUE INDEX embedding_models_one_active ON docyard.embedding_models ((true)) WHERE state = 'active';

CREATE TABLE docyard.embeddings (
    model_id integer NOT NULL REFERENCES docyard.embedding_models,
    chunk_id bigint NOT NULL REFERENCES docyard.chunks ON DELETE CASCADE,
    embedding pgvector.vector NOT NULL,
    -- Of the text that was embedded: where it differs from the chunk's, the vector is stale.
    content_hash bytea NOT NULL CHECK (octet_length(content_hash) = 32),
    PRIMARY KEY (chunk_id, model_id)
) PARTITION BY LIST (model_id);
-- Finds a stored vector of equal text, which is never sent again.
CREATE INDEX embeddings_content_idx ON docyard.embeddings (content_hash);

-- Texts that a model refused, so that no sweep takes them up again and again.
CREATE TABLE docyard.embedding_failures (
    model_id integer NOT NULL REFERENCES docyard.embedding_models ON DELETE CASCADE,
    chunk_id bigint NOT NULL REFERENCES docyard.chunks ON DELETE CASCADE,
    attempts integer NOT NULL DEFAULT 1,
    code text NOT NULL,
    message text NOT NULL,
    content_hash bytea NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT docyard.clock(),
    PRIMARY KEY (chunk_id, model_id)
);
