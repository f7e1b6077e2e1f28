"""What jobs do: ingest, embed, and the worker process that runs them.

Stands on :mod:`docyard_queue` and :mod:`docyard_schema`. Import the parts you need; this module itself
imports nothing, for parser children load it at every start.
"""
