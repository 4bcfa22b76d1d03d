"""Which audio goes with which video: embeddings of clips, ranks, and a searchable index.

>>> from zoo.retrieval.search import retrieve
>>> retrieve("runs/mine", "barking.wav", "clips").hits

How it is done is described in docs/retrieval.md.
"""
