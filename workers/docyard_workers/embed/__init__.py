"""What turns chunks into vectors: the providers, and later the jobs that call them."""
