DROP TABLE docyard.chunks;
DROP TABLE docyard.document_versions;
DROP TABLE docyard.documents;
