DROP INDEX docyard.chunks_length_idx;
DROP INDEX docyard.chunks_lexemes_idx;
ALTER TABLE docyard.chunks DROP COLUMN lexemes, DROP COLUMN length;
DROP FUNCTION docyard.lexemes_length(tsvector);
DROP FUNCTION docyard.term_frequency(text[]);
DROP FUNCTION docyard.chunk_lexemes(text, text, text[], text);
