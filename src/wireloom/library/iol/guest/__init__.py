"""What runs in a node beside IOL: ``start`` is the first process, ``bridge`` joins IOL with the node's ports.

These files go into images as they are and run there on the distribution's minimal Python, without anything of ours
around them: the standard library only, and imports of each other only.
"""
