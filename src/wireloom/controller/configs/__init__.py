"""The config store's use cases.

* ``library.py``: look at what is stored, compare it, choose, upload, delete, take over.
* ``workers.py``: read configurations from nodes and load them into nodes, as operations.
* ``keeper.py``: what happens by itself: collecting what agents hold, schedules, retention.
* ``choices.py``: what a deploy means for active revisions.
"""
