"""How many requests, how much time and how much memory it takes to give a folder its vectors."""
