import { NOW_MS, type Script } from './scripts.ts';

// Which workers live, what they serve and how fast. As in scripts.ts, all keys of a script share a
// hash tag.

/**
 * Says that a worker lives and what it serves. Of several workers with one model, the first has
 * said since when there is one. Forgets models that nobody has served for a day.
 *
 * KEYS model cards, workers, when each model was served last. ARGV field of the model, card, member
 * of the worker, ms until the next heartbeat is overdue.
 */
export const HEARTBEAT: Script = {
  name: 'heartbeat',
  lua: `${NOW_MS}
local now = nowMs()
local known = redis.call('HGET', KEYS[1], ARGV[1])
local created = known and string.match(known, '"createdMs":%d+')
local card = created and string.gsub(ARGV[2], '"createdMs":%d+', created, 1) or ARGV[2]
redis.call('HSET', KEYS[1], ARGV[1], card)
redis.call('ZADD', KEYS[3], now, ARGV[1])
redis.call('ZADD', KEYS[2], now + ARGV[4], ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - 60000)
for _, field in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now - 86400000)) do
  redis.call('HDEL', KEYS[1], field)
  redis.call('ZREM', KEYS[3], field)
end`,
};

/**
 * Says that a worker ends of itself: it is remembered for an hour as one that did not die.
 *
 * KEYS workers, departed workers. ARGV member of the worker.
 */
export const DEPART: Script = {
  name: 'depart',
  lua: `${NOW_MS}
local now = nowMs()
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - 3600000)`,
};

/**
 * KEYS model cards, workers.
 * @returns fields and cards in turns; members of the workers that are alive
 */
export const SERVED_MODELS: Script = {
  name: 'served-models',
  lua: `${NOW_MS}
return {redis.call('HGETALL', KEYS[1]), redis.call('ZRANGEBYSCORE', KEYS[2], nowMs(), '+inf')}`,
};

/**
 * Says how many requests of its queue a worker can finish in a second, and how many it takes at a
 * time.
 *
 * KEYS rates. ARGV worker id, rate, ms until the next heartbeat is overdue, requests at a time.
 */
export const REPORT_RATE: Script = {
  name: 'report-rate',
  lua: `${NOW_MS}
redis.call('HSET', KEYS[1], ARGV[1], (nowMs() + ARGV[3]) .. ' ' .. ARGV[2] .. ' ' .. ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[3])`,
};

/**
 * How long a queue is, and how fast it moves: by the workers that are alive, those that have
 * measured nothing yet taken for the mean of the others. Forgets the rates of those that are gone.
 *
 * KEYS waiting list of BullMQ, its sorted set of prioritized jobs, its list of those under way,
 * rates. ARGV priority.
 * @returns requests that wait; those that have to end before a new one of this priority begins; and
 *   requests finished a second, as text: 0 when nothing is measured
 */
export const QUEUE_LOAD: Script = {
  name: 'queue-load',
  lua: `${NOW_MS}
local first = redis.call('LLEN', KEYS[1])
local numQueued = first + redis.call('ZCARD', KEYS[2])
local behind = '(' .. string.format('%.0f', (ARGV[1] + 1) * 0x100000000)
local numAhead = first + redis.call('ZCOUNT', KEYS[2], '-inf', behind)
local now, sum, numMeasured, numWorkers, numRows = nowMs(), 0, 0, 0, 0
local rates = redis.call('HGETALL', KEYS[4])
for i = 1, #rates, 2 do
  local expiresMs, rate, rows = string.match(rates[i + 1], '(%S+) (%S+) ?(%d*)')
  if tonumber(expiresMs) < now then
    redis.call('HDEL', KEYS[4], rates[i])
  else
    numWorkers = numWorkers + 1
    numRows = numRows and rows ~= '' and numRows + rows
    if tonumber(rate) > 0 then
      numMeasured = numMeasured + 1
      sum = sum + rate
    end
  end
end
if numMeasured > 0 then sum = sum * numWorkers / numMeasured end
if numRows and numRows > 0 then
  numAhead = math.max(numAhead + redis.call('LLEN', KEYS[3]) + 1 - numRows, 0)
end
return {numQueued, numAhead, tostring(sum)}`,
};
