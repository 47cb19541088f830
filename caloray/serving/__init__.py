"""What a shower service is, without the web framework and without Ray.

A request becomes pieces of blocks, pieces of many requests are sampled in joint batches, and every reply is a
pure function of its request. :mod:`caloray.distributed.serve` puts HTTP and Ray Serve around it.
"""
