import { IS_ENDED, NOTIFY, NOW_MS, type Script, WRITING } from './scripts.ts';

/** Adds to the list of the claims that may be held against a request. */
const ENTERING = `
local function enter(claimsKey, worker, epoch, nextSeq)
  redis.call('RPUSH', claimsKey, cjson.encode({epoch = epoch, worker = worker, claimedMs = nowMs(),
    nextSeq = nextSeq}))
end`;

/** Lua: whether a claim is the last of the list. */
const IS_ENTERED = `
local function isEntered(claimsKey, epoch)
  local last = redis.call('LINDEX', claimsKey, -1)
  return last and cjson.decode(last).epoch == epoch
end`;

/**
 * Raises the epoch: from here on only the claimer may write. A log that grew by ARGV[2] events
 * since the list of claims was begun begins it anew, so that only claims that lead nowhere add up.
 * A claim in a row beyond ARGV[3] is not entered there: ENTER does that when it comes to be tried.
 *
 * KEYS state, log, claims, outbox. ARGV worker id, events that count as progress, claims in a row
 * that are entered at once.
 * @returns `claimed`, epoch, next seq, claims, job, cancel, ms it was queued before its first
 *   claim; or `ended`; or `unknown`
 */
export const CLAIM: Script = {
  name: 'claim',
  lua: `${NOW_MS}${IS_ENDED}${NOTIFY}${ENTERING}
local state = redis.call('HMGET', KEYS[1], 'status', 'nextSeq', 'claimedSeq', 'job', 'cancel',
  'createdMs', 'startedMs')
if not state[1] then return {'unknown'} end
if isEnded(state[1]) then return {'ended'} end
local now = nowMs()
local claims = redis.call('LLEN', KEYS[3]) + 1
if claims == 1 or state[2] - state[3] >= tonumber(ARGV[2]) then
  claims = 1
  redis.call('DEL', KEYS[3])
  redis.call('HSET', KEYS[1], 'claimedSeq', state[2])
end
local startedMs = state[7] or now
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'status', 'running', 'startedMs', startedMs)
if claims <= tonumber(ARGV[3]) then enter(KEYS[3], ARGV[1], epoch, tonumber(state[2])) end
if not state[7] then notify(KEYS[1], KEYS[4], 'started') end
for i = 1, 4 do redis.call('PERSIST', KEYS[i]) end
return {'claimed', epoch, tonumber(state[2]), claims, state[4], state[5], startedMs - state[6]}`,
};

/**
 * Enters a claim in the list that CLAIM did not, unless it is there: should the worker die from now
 * on, the request may be why.
 *
 * KEYS state, claims. ARGV worker id, epoch.
 * @returns `ok`, or why it was refused, as APPEND
 */
export const ENTER: Script = {
  name: 'enter',
  lua: `${NOW_MS}${WRITING}${ENTERING}${IS_ENTERED}
local state = redis.call('HMGET', KEYS[1], 'status', 'epoch', 'nextSeq')
local epoch, nextSeq = tonumber(ARGV[2]), tonumber(state[3])
local refusal = fence(state, epoch, nextSeq)
if refusal then return refusal end
if not isEntered(KEYS[2], epoch) then enter(KEYS[2], ARGV[1], epoch, nextSeq) end
return 'ok'`,
};

/**
 * Gives a request back for another worker to claim. Its epoch goes up by one, so that nothing of
 * the giver's can follow; the claim is taken off the list, if it was entered there.
 *
 * KEYS state, claims. ARGV epoch.
 * @returns 1, or 0 when the request was not the giver's
 */
export const RELEASE: Script = {
  name: 'release',
  lua: `${IS_ENTERED}
local state = redis.call('HMGET', KEYS[1], 'status', 'epoch')
if state[1] ~= 'running' or state[2] ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'status', 'queued', 'epoch', state[2] + 1)
if isEntered(KEYS[2], tonumber(ARGV[1])) then redis.call('RPOP', KEYS[2]) end
return 1`,
};
