"""From the text of a region to a kernel that can be called: the library, the cache, the compile."""
