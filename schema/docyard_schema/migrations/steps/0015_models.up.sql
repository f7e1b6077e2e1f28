-- What a change of models needs to know of each: how its provider is made, and where its migration ends.

ALTER TABLE docyard.embedding_models
    -- {"model": …, "dimension": …, "base_url": …} as the provider is asked for; never a key. Empty for models
    -- that were registered before: their names say enough.
    ADD COLUMN settings jsonb NOT NULL DEFAULT '{}'
        CONSTRAINT embedding_models_settings_check CHECK (jsonb_typeof(settings) = 'object'),
    -- The highest chunk when the model was registered, seen while nobody could add one: those up to it are a
    -- migration's to embed, all later ones bring jobs of their own for this model.
    ADD COLUMN backfill_to bigint NOT NULL DEFAULT 0;
