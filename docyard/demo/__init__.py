"""``make demo``: docyard at work on real texts, with nothing but what is installed here."""
