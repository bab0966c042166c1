import type { Script } from './scripts.ts';

/**
 * Where a request stands in its queue, whichever of BullMQ's two structures it is in: the list is
 * served first, from its right end, then the sorted set.
 *
 * KEYS waiting list, sorted set of prioritized jobs. ARGV request id.
 * @returns requests before it, or -1 when it does not wait
 */
export const QUEUE_PLACE: Script = {
  name: 'queue-place',
  lua: `
local rank = redis.call('ZRANK', KEYS[2], ARGV[1])
if rank then return redis.call('LLEN', KEYS[1]) + rank end
local index = redis.call('LPOS', KEYS[1], ARGV[1])
if index then return redis.call('LLEN', KEYS[1]) - 1 - index end
return -1`,
};

/**
 * A page of a sorted set, greatest score first.
 *
 * KEYS sorted set. ARGV member to go on after or empty, members.
 * @returns members, or nothing when the one to go on after is not there
 */
export const PAGE_AFTER: Script = {
  name: 'page-after',
  lua: `
local first = 0
if ARGV[1] ~= '' then
  local rank = redis.call('ZREVRANK', KEYS[1], ARGV[1])
  if not rank then return false end
  first = rank + 1
end
return redis.call('ZREVRANGE', KEYS[1], first, first + ARGV[2] - 1)`,
};

/**
 * Forgets a request that has ended, and all that it left, unless somebody is to be told first.
 *
 * KEYS state, outbox, then all else that is to go with it. ARGV 1 when somebody is told of it.
 * @returns `forgotten`, `untold`, `open` or `unknown`
 */
export const FORGET: Script = {
  name: 'forget',
  lua: `
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 'unknown' end
if status == 'queued' or status == 'running' then return 'open' end
local numDone = tonumber(redis.call('HGET', KEYS[1], 'outboxDone') or 0)
if ARGV[1] == '1' and numDone < redis.call('LLEN', KEYS[2]) then return 'untold' end
for _, key in ipairs(KEYS) do redis.call('DEL', key) end
return 'forgotten'`,
};
