DROP FUNCTION docyard.join_text(text[], text);
DROP FUNCTION docyard.clock();
