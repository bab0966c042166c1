/**
 * The Lua scripts both sides rely on: every change of a request's state is one of them. Each names
 * all of its keys in KEYS, and all of those share a hash tag, so that a Redis Cluster runs it on
 * one node.
 *
 * The state is a hash:
 *
 * | field      | holds                                                                         |
 * | ---------- | ----------------------------------------------------------------------------- |
 * | status     | `queued`, `running`; then, for good, one of `END_STATUSES`                      |
 * | job        | the job, as edge wrote it                                                     |
 * | epoch      | number of the claim that may write; any other writer is refused (the fence)     |
 * | nextSeq    | length of the log over all epochs                                             |
 * | claimedSeq | `nextSeq` when the list of claims was begun anew                                |
 * | cancel     | why it is to end: empty, `cancelled` or `deadline`                            |
 * | createdMs  | by the clock of Redis, as are `startedMs` (first claim) and `endedMs`           |
 * | notify     | channel that is told of new entries of the outbox; empty to write none          |
 * | left       | readers that went away                                                        |
 * | unheardSinceMs | since when nobody has listened to its events; absent while somebody does  |
 * | progress   | of an endless request: how far it has come with the last event, as JSON       |
 * | marks      | places at which its log may be cut later, as JSON                             |
 * | trimmedTo  | seq of the first event that the log still holds; absent while it holds all      |
 * | trimmed    | how far each choice had come there, as JSON                                   |
 * | keepMs     | ms to keep it at least after its end                                          |
 * | retainMs   | ms to keep it from the hand-over of its end on; absent before its end         |
 */
export interface Script {
  readonly name: string;
  readonly lua: string;
}

/** Lua: the time by the clock of Redis, the same throughout a script. */
export const NOW_MS = `
local timeMs
local function nowMs()
  if not timeMs then
    local time = redis.call('TIME')
    timeMs = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  return timeMs
end`;

/** Lua: whether a status is final. */
export const IS_ENDED = `
local function isEnded(status)
  return status ~= 'queued' and status ~= 'running'
end`;

/**
 * Adds to the outbox of a request that somebody is told of, once for each transition, and says so.
 */
export const NOTIFY = `
local function notify(stateKey, outboxKey, what)
  local channel = redis.call('HGET', stateKey, 'notify')
  if not channel or channel == '' then return end
  local n = redis.call('LLEN', outboxKey)
  redis.call('RPUSH', outboxKey, cjson.encode({n = n, type = 'job.' .. what, atMs = nowMs()}))
  redis.call('PUBLISH', channel, string.match(stateKey, '{(.-)}'))
end`;

/** What somebody is to be told of is kept for so long after its end, should nobody hand it over. */
const UNTOLD_MS = 30 * 24 * 3_600_000;

/**
 * `fence` answers with the reason why `epoch` may not write from `firstSeq` on, or with nothing;
 * `write` with the number of those that listen: on a cluster, those at the request's own node,
 * where sharded subscriptions are.
 */
export const WRITING = `${IS_ENDED}
local function fence(state, epoch, firstSeq)
  if not state[1] then return 'unknown' end
  if epoch < tonumber(state[2]) then return 'fenced' end
  if epoch > tonumber(state[2]) or firstSeq > tonumber(state[3]) then return 'gap' end
  if isEnded(state[1]) then return 'ended' end
end
local function write(logKey, channel, publish, epoch, nextSeq, payload)
  local id = epoch .. '-' .. nextSeq
  redis.call('XADD', logKey, id, 'e', payload)
  return redis.call(publish, channel, id .. ' ' .. payload)
end
local function finish(stateKey, outboxKey, otherKeys, status, retentionMs)
  redis.call('HSET', stateKey, 'status', status, 'endedMs', nowMs())
  notify(stateKey, outboxKey, status)
  retentionMs = math.max(retentionMs, redis.call('HGET', stateKey, 'keepMs') or 0)
  if redis.call('EXISTS', outboxKey) == 1 then
    redis.call('HSET', stateKey, 'retainMs', retentionMs)
    retentionMs = math.max(retentionMs, ${UNTOLD_MS})
  end
  for _, key in ipairs({stateKey, outboxKey}) do redis.call('PEXPIRE', key, retentionMs) end
  for _, key in ipairs(otherKeys) do redis.call('PEXPIRE', key, retentionMs) end
end`;

/**
 * Makes a request known as `queued`, unless its id is already taken.
 *
 * KEYS state, outbox. ARGV job, ms to keep it if nobody ever claims it, ms to keep it at least
 * after its end, channel to tell of its outbox or empty.
 * @returns 1 when it is new, 0 when the id was known
 */
export const CREATE: Script = {
  name: 'create',
  lua: `${NOW_MS}${NOTIFY}
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'status', 'queued', 'job', ARGV[1], 'epoch', 0, 'nextSeq', 0,
  'claimedSeq', 0, 'cancel', '', 'createdMs', nowMs(), 'keepMs', ARGV[3], 'notify', ARGV[4])
notify(KEYS[1], KEYS[2], 'queued')
for i = 1, 2 do redis.call('PEXPIRE', KEYS[i], ARGV[2]) end
return 1`,
};

/**
 * Adds events to the log and tells those who listen. Sent again after a lost reply, it writes
 * nothing twice: what is already there is passed over.
 *
 * KEYS state, log, events channel. ARGV epoch, seq of the first event, PUBLISH or SPUBLISH, how far
 * the request has come with these events or empty, events...
 * @returns `ok`, next seq, cancel, ms for which nobody has listened; or why it was refused:
 *   `fenced` (a later claim writes now), `ended`, `unknown`, `gap` (Redis has lost what this writer
 *   wrote)
 */
export const APPEND: Script = {
  name: 'append',
  lua: `${NOW_MS}${WRITING}
local state = redis.call('HMGET', KEYS[1], 'status', 'epoch', 'nextSeq', 'cancel', 'unheardSinceMs')
local epoch, firstSeq = tonumber(ARGV[1]), tonumber(ARGV[2])
local refusal = fence(state, epoch, firstSeq)
if refusal then return {refusal, 0, '', 0} end
local nextSeq = tonumber(state[3])
local unheardSinceMs = state[5]
local numListening
for i = 5 + nextSeq - firstSeq, #ARGV do
  numListening = write(KEYS[2], KEYS[3], ARGV[3], epoch, nextSeq, ARGV[i])
  nextSeq = nextSeq + 1
end
if numListening then
  redis.call('HSET', KEYS[1], 'nextSeq', nextSeq)
  if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], 'progress', ARGV[4]) end
  if numListening == 0 and not unheardSinceMs then
    unheardSinceMs = nowMs()
    redis.call('HSET', KEYS[1], 'unheardSinceMs', unheardSinceMs)
  elseif numListening > 0 and unheardSinceMs then
    unheardSinceMs = nil
    redis.call('HDEL', KEYS[1], 'unheardSinceMs')
  end
end
return {'ok', nextSeq, state[4], unheardSinceMs and nowMs() - unheardSinceMs or 0}`,
};

/**
 * Keeps the places at which the log of a request that runs may be cut later, and cuts it at one
 * that was kept before, with what has to be known of the part that goes.
 *
 * KEYS state, log. ARGV epoch, JSON of the places, seq (0 to cut nothing) and id of the first event
 * that stays, JSON of its choices there.
 * @returns 1 when it was cut, or 0: also when this writer may not or that part is gone already
 */
export const TRIM: Script = {
  name: 'trim',
  lua: `
local state = redis.call('HMGET', KEYS[1], 'status', 'epoch', 'nextSeq', 'trimmedTo')
local seq = tonumber(ARGV[3])
if state[1] ~= 'running' or state[2] ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'marks', ARGV[2])
if seq <= tonumber(state[4] or 0) or seq > tonumber(state[3]) then return 0 end
redis.call('HSET', KEYS[1], 'trimmedTo', seq, 'trimmed', ARGV[5])
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[4])
return 1`,
};

/**
 * Adds the last events and ends the request, for everybody at once. One that was released may be
 * ended by its giver, under the epoch that it was left at: nobody has claimed it since.
 *
 * KEYS state, log, events channel, claims, outbox. ARGV epoch, seq of the first event, PUBLISH or
 * SPUBLISH, final status, ms to keep it from now on, events...
 * @returns as APPEND
 */
export const FINISH: Script = {
  name: 'finish',
  lua: `${NOW_MS}${NOTIFY}${WRITING}
local state = redis.call('HMGET', KEYS[1], 'status', 'epoch', 'nextSeq', 'cancel')
local epoch, firstSeq = tonumber(ARGV[1]), tonumber(ARGV[2])
if state[1] and isEnded(state[1]) and epoch == tonumber(state[2])
  and firstSeq + #ARGV - 5 == tonumber(state[3]) then
  return {'ok', tonumber(state[3]), state[4], 0}
end
local refusal = fence(state, epoch, firstSeq)
if refusal then return {refusal, 0, '', 0} end
local nextSeq = tonumber(state[3])
for i = 6 + nextSeq - firstSeq, #ARGV do
  write(KEYS[2], KEYS[3], ARGV[3], epoch, nextSeq, ARGV[i])
  nextSeq = nextSeq + 1
end
redis.call('HSET', KEYS[1], 'nextSeq', nextSeq)
finish(KEYS[1], KEYS[5], {KEYS[2], KEYS[4]}, ARGV[4], ARGV[5])
return {'ok', nextSeq, state[4], 0}`,
};

/**
 * Ends a request that has said nothing yet, here and now, under an epoch of its own; asks the
 * worker of any other to end it, by a flag and by a message.
 *
 * KEYS state, log, events channel, claims, outbox. ARGV reason, PUBLISH or SPUBLISH, ms to keep it
 * from now on, cancels channel, request id, the events of a request cancelled before it began...
 * @returns `ended`, `asked` or `unknown`
 */
export const CANCEL: Script = {
  name: 'cancel',
  lua: `${NOW_MS}${NOTIFY}${WRITING}
local state = redis.call('HMGET', KEYS[1], 'status', 'nextSeq', 'cancel')
if not state[1] then return 'unknown' end
if isEnded(state[1]) then return 'ended' end
if state[1] == 'queued' and state[2] == '0' then
  local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
  for i = 6, #ARGV do write(KEYS[2], KEYS[3], ARGV[2], epoch, i - 6, ARGV[i]) end
  redis.call('HSET', KEYS[1], 'nextSeq', #ARGV - 5, 'cancel', ARGV[1])
  local status = ARGV[1] == 'deadline' and 'expired' or ARGV[1]
  finish(KEYS[1], KEYS[5], {KEYS[2], KEYS[4]}, status, ARGV[3])
  return 'ended'
end
local reason = state[3]
if reason == '' then
  reason = ARGV[1]
  redis.call('HSET', KEYS[1], 'cancel', reason)
end
redis.call('PUBLISH', ARGV[4], ARGV[5] .. ' ' .. reason)
return 'asked'`,
};

/**
 * Counts a reader that went away.
 *
 * KEYS state.
 * @returns how many have, or 0 for an unknown request
 */
export const LEAVE: Script = {
  name: 'leave',
  lua: `
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
return redis.call('HINCRBY', KEYS[1], 'left', 1)`,
};
