"""Jobs in a Redis: how they lie there, the scripts that change them, how to reach one.

The common ground of the Redis broker and of workers that report straight to Redis. It
knows the standard library and redis-py (imported only where a server is called), and
nothing else of this package.
"""
