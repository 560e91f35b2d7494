-- The store's time in milliseconds, the only clock that decides.
local clock_reply = redis.call('TIME')
local now = clock_reply[1] * 1000 + math.floor(clock_reply[2] / 1000)
