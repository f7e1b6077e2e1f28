"""Runs attempts in child processes of their own, so that a handler can crash nobody but itself.

::

    apart       in the worker: one attempt, from the request to the outcome
    nursery     in the worker: starts children, kills them, hears how they end
    forking     a process that has docyard imported and nothing open, and forks children from itself
    child       in the child: finds the handler, runs it, says what became of it
    reference   how a child finds the handler: never from a job's row
    messages    what the two sides say to each other, as JSON
"""
