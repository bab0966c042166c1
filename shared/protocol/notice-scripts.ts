import { NOW_MS, type Script } from './scripts.ts';

/**
 * Lends out what somebody should look at: to whoever asks, until the next time is due.
 *
 * KEYS ids by when they are due. ARGV how many at most, ms until they are due again.
 * @returns ids
 */
export const TAKE_DUE: Script = {
  name: 'take-due',
  lua: `${NOW_MS}
local now = nowMs()
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do redis.call('ZADD', KEYS[1], 'XX', now + ARGV[2], id) end
return ids`,
};

/**
 * Adds a notice to its tenant's events, once, however often it is handed over within the time it is
 * remembered.
 *
 * KEYS events, webhook ids that were seen. ARGV webhook id, notice, events to keep, ms to remember
 * an id.
 * @returns 1 when it is new
 */
export const ADD_NOTICE: Script = {
  name: 'add-notice',
  lua: `${NOW_MS}
local now = nowMs()
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[4])
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'e', ARGV[2])
redis.call('ZADD', KEYS[2], now, ARGV[1])
return 1`,
};

/**
 * Says how far a request's outbox has been handed over. Another process may be further. From the
 * hand-over of its end on, the request is kept as long as others are.
 *
 * KEYS state, log, claims, outbox. ARGV entries handed over.
 */
export const HAND_OVER: Script = {
  name: 'hand-over',
  lua: `
local state = redis.call('HMGET', KEYS[1], 'status', 'outboxDone', 'retainMs')
if not state[1] or tonumber(state[2] or 0) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'outboxDone', ARGV[1])
if state[3] and tonumber(ARGV[1]) >= redis.call('LLEN', KEYS[4]) then
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, state[3]) end
end
return 1`,
};

/**
 * Cuts the next piece of a request's output, so that whoever hands it over hands over the same. A
 * piece is cut only when the one before is handed over.
 *
 * KEYS state. ARGV number of the piece, id of its last event, ms there must be since the last cut.
 * @returns 1 when this call cut it
 */
export const CUT_OUTPUT: Script = {
  name: 'cut-output',
  lua: `${NOW_MS}
local now = nowMs()
local state = redis.call('HMGET', KEYS[1], 'status', 'outputsCut', 'outputsDone', 'outputUntil',
  'outputCutMs')
local numCut = tonumber(state[2] or 0)
if not state[1] or numCut ~= tonumber(ARGV[1]) or tonumber(state[3] or 0) ~= numCut then return 0 end
if now - (state[5] or 0) < tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], 'outputsCut', numCut + 1, 'outputFrom', state[4] or '0-0',
  'outputUntil', ARGV[2], 'outputCutMs', now)
return 1`,
};

/**
 * Says that every piece of output that was cut is handed over.
 *
 * KEYS state. ARGV pieces.
 */
export const OUTPUT_DONE: Script = {
  name: 'output-done',
  lua: `
local numCut = redis.call('HGET', KEYS[1], 'outputsCut')
if numCut == ARGV[1] then redis.call('HSET', KEYS[1], 'outputsDone', numCut) end
return 1`,
};
