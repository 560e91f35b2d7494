"""Is this node fit for a launcher, and what has to change? Each point is looked at by itself, and really tried.

`findings` are what a check says, `points` the table of all checks, `node` what they look at, `packages` which package
brings what. Nothing stays behind but what a launcher would leave as well: the cache folder and what is built into it.
"""
