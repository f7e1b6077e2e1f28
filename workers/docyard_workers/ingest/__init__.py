"""From a path to chunks: finding files, reading, decoding, parsing and chunking them."""
