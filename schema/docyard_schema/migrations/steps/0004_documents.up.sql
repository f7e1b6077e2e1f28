-- Everything stored and searchable is a document. What it says is an immutable chain of versions; what is
-- searched is the chunks of the current one.

CREATE TABLE docyard.documents (
    id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind <> ''),
    collection text NOT NULL CHECK (collection <> ''),
    source_uri text,
    title text,
    -- The tip of the chain. Not "the newest created_at": that is wrong after an import, and now() stands
    -- still within a transaction. NULL until the first version is written, in the same transaction.
    current_version uuid,
    owner_id uuid,
    visibility text NOT NULL DEFAULT 'private' CHECK (visibility IN ('private', 'group', 'public')),
    shared_with_groups uuid[] NOT NULL DEFAULT '{}',
    tags text[] NOT NULL DEFAULT '{}',
    metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    created_at timestamptz NOT NULL DEFAULT docyard.clock(),
    updated_at timestamptz NOT NULL DEFAULT docyard.clock(),
    accessed_at timestamptz,
    expires_at timestamptz,
    deleted_at timestamptz,
    UNIQUE (collection, source_uri)
);
CREATE INDEX documents_kind_idx ON docyard.documents (kind, created_at DESC, id DESC);
CREATE INDEX documents_owner_idx ON docyard.documents (owner_id, created_at DESC, id DESC)
    WHERE owner_id IS NOT NULL;
CREATE INDEX documents_collection_idx ON docyard.documents (collection, created_at DESC, id DESC);

CREATE TABLE docyard.document_versions (
    document_id uuid NOT NULL REFERENCES docyard.documents ON DELETE CASCADE,
    version uuid NOT NULL,
    previous_version uuid,
    -- The exact text that was received: hashes and signatures are checked against it. NULL for a binary
    -- original, whose bytes are in the blob store.
    raw text,
    contents jsonb,
    media_type text NOT NULL,
    blob_uri text,
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    signature jsonb,
    pipeline_version text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT docyard.clock(),
    PRIMARY KEY (document_id, version),
    -- The optimistic lock: two writers that replace the same version cannot both commit.
    CONSTRAINT document_versions_chain UNIQUE NULLS NOT DISTINCT (document_id, previous_version)
);
-- raw is read rarely and compresses well; lz4 costs a third of pglz's time.
DO $$
BEGIN
    ALTER TABLE docyard.document_versions ALTER COLUMN raw SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported OR invalid_parameter_value THEN
    NULL; -- a server built without lz4 keeps pglz
END;
$$;

-- No version column: one edit would rewrite every row of a book. An unchanged chunk keeps its row and its
-- vectors; its identity is (content hash, occurrence), and at most its ordinal moves.
CREATE TABLE docyard.chunks (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    document_id uuid NOT NULL REFERENCES docyard.documents ON DELETE CASCADE,
    ordinal integer NOT NULL CHECK (ordinal >= 0),
    occurrence integer NOT NULL DEFAULT 0 CHECK (occurrence >= 0),
    text text NOT NULL,
    heading_path text[] NOT NULL DEFAULT '{}',
    -- sha256 of what is embedded, the heading path and the text: equal hash, equal vector.
    content_hash bytea NOT NULL CHECK (octet_length(content_hash) = 32),
    token_count integer NOT NULL CHECK (token_count >= 0),
    -- A text search configuration. Text and not regconfig, which pg_upgrade refuses.
    language text NOT NULL DEFAULT 'english',
    UNIQUE (document_id, content_hash, occurrence)
);
CREATE INDEX chunks_order_idx ON docyard.chunks (document_id, ordinal);
CREATE INDEX chunks_content_idx ON docyard.chunks (content_hash);
