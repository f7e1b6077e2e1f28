"""Benchmarks: docyard beside others, measured in one run on one machine.

Shared by all: ``environment`` (what it was measured on), ``isolation`` (others' own environments),
``servers`` (a Postgres that is gone afterwards), ``results`` (the table and the JSON).
"""
