DROP FUNCTION docyard.enqueue(text, jsonb, text, integer, timestamptz, integer, interval, text, text, uuid, text,
    interval);
DROP FUNCTION docyard.payload_bytes(jsonb);
DROP FUNCTION docyard.insert_job(text, jsonb, text, integer, timestamptz, integer, double precision, text, text,
    uuid, text, interval);
DROP TABLE docyard.unique_keys;
