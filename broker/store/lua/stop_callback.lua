#!lua flags=allow-oom
-- PURPOSE  Tell a stream's server nothing more, because it said that it is gone, until the stream's spec is put again.
-- USES     time event
-- KEYS     stream events feed life account bell ready_bell
-- ARGV     user      text
--          job       text
--          code      text
--          sentence  text
-- RETURN   done repeated
-- MOVES    none
-- EMITS    stream.callback_off
-- COST     O(1)
-- Answers  repeated when nothing is told anyway: the stream is not there, or nobody is named.
if redis.call('HEXISTS', stream, 'callback') == 0 then return {'repeated'} end
redis.call('HDEL', stream, 'callback')
redis.call('HSET', stream, 'callback_off', code, 'callback_off_sentence', sentence, 'callback_off_ms', now)
emit('stream.callback_off', '', {code = code, sentence = sentence})
return {'done'}
