#!lua flags=allow-oom
-- PURPOSE  Let a stream give nothing out; what is out goes on.
-- USES     time event ring pausing
-- KEYS     stream events feed life bell ready_bell ring user_ring fair account
-- ARGV     user      text
--          job       text
--          code      text
--          sentence  text
-- RETURN   done repeated missing
-- MOVES    none
-- EMITS    stream.paused
-- COST     O(1)
-- Answers  done, or repeated when it is paused already: the first reason stands.
if redis.call('HEXISTS', stream, 'revision') == 0 then return {'missing'} end
if redis.call('HEXISTS', stream, 'paused') == 1 then return {'repeated'} end
pause_stream(code, sentence)
return {'done'}
