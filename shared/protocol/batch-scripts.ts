import { NOW_MS, type Script } from './scripts.ts';

/**
 * The state of a batch is a hash:
 *
 * | field                     | holds                                    |
 * | ------------------------- | ---------------------------------------- |
 * | spec                      | what the client asked for                |
 * | status                    | as OpenAI names it                       |
 * | epoch                     | number of the claim that may write       |
 * | numLines                  | lines of the input, once it is validated |
 * | nextLine, byteOffset      | what is read of the input                |
 * | numCompleted, numFailed   | what is written of the results           |
 * | outputBytes, errorBytes   | length of what is written                |
 * | at:<status>               | when it came to this status, in ms       |
 * | errors                    | what is wrong with the input             |
 * | outputFileId, errorFileId | files that are complete                  |
 * | notified                  | '1' once its end was handed over         |
 */
const ENTER = `${NOW_MS}
local function enter(status)
  redis.call('HSET', KEYS[1], 'status', status, 'at:' .. status, nowMs())
end
local function isEnded(status)
  return status == 'failed' or status == 'completed' or status == 'expired' or status == 'cancelled'
end`;

/**
 * Makes room for a batch among its tenant's open ones. Forgets those that are over.
 *
 * KEYS open batches. ARGV id, ms when it is over at the latest, ms now, how many may be open.
 * @returns its place among them, from 0; -1 when there are too many
 */
export const ADMIT_BATCH: Script = {
  name: 'admit-batch',
  lua: `
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[3])
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[4]) then
  return -1
end
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
return redis.call('ZRANK', KEYS[1], ARGV[1])`,
};

/**
 * KEYS state. ARGV spec, ms when it is forgotten.
 * @returns 1 when it is new
 */
export const CREATE_BATCH: Script = {
  name: 'create-batch',
  lua: `${ENTER}
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'spec', ARGV[1], 'epoch', 0, 'numLines', 0, 'nextLine', 0, 'byteOffset', 0,
  'numCompleted', 0, 'numFailed', 0, 'outputBytes', 0, 'errorBytes', 0)
enter('validating')
redis.call('PEXPIREAT', KEYS[1], ARGV[2])
return 1`,
};

/**
 * Raises the epoch: from here on only the claimer may write.
 *
 * KEYS state.
 * @returns the epoch, 0 for a batch that is unknown
 */
export const CLAIM_BATCH: Script = {
  name: 'claim-batch',
  lua: `
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
return redis.call('HINCRBY', KEYS[1], 'epoch', 1)`,
};

/**
 * Moves a batch on, unless somebody cancels it meanwhile: then only its end follows.
 *
 * KEYS state. ARGV epoch, status, fields and values...
 * @returns `ok`, `fenced` or `unknown`; the status it has now
 */
export const ENTER_BATCH: Script = {
  name: 'enter-batch',
  lua: `${ENTER}
local state = redis.call('HMGET', KEYS[1], 'epoch', 'status')
if not state[1] then return {'unknown', 'failed'} end
if state[1] ~= ARGV[1] then return {'fenced', state[2]} end
if isEnded(state[2]) or state[2] == ARGV[2] then return {'ok', state[2]} end
if state[2] == 'cancelling' and not isEnded(ARGV[2]) then return {'ok', state[2]} end
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
enter(ARGV[2])
return {'ok', ARGV[2]}`,
};

/**
 * Writes results together with how far they reach: both or neither. Sent again, it writes nothing.
 *
 * KEYS state, output chunks, error chunks. ARGV epoch, ms when it is forgotten, next line, byte
 * offset, completed, failed, output, errors.
 * @returns `ok`, `fenced` or `unknown`; the status
 */
export const COMMIT_BATCH: Script = {
  name: 'commit-batch',
  lua: `
local state = redis.call('HMGET', KEYS[1], 'epoch', 'status', 'nextLine')
if not state[1] then return {'unknown', 'failed'} end
if state[1] ~= ARGV[1] then return {'fenced', state[2]} end
if tonumber(state[3]) >= tonumber(ARGV[3]) then return {'ok', state[2]} end
redis.call('HSET', KEYS[1], 'nextLine', ARGV[3], 'byteOffset', ARGV[4], 'numCompleted', ARGV[5],
  'numFailed', ARGV[6])
for i, field in ipairs({'outputBytes', 'errorBytes'}) do
  local text = ARGV[6 + i]
  for start = 1, #text, 262144 do
    redis.call('RPUSH', KEYS[1 + i], string.sub(text, start, start + 262143))
  end
  if #text > 0 then
    redis.call('HINCRBY', KEYS[1], field, #text)
    redis.call('PEXPIREAT', KEYS[1 + i], ARGV[2])
  end
end
return {'ok', state[2]}`,
};

/**
 * Ends a batch: its files become complete with it, for everybody at once.
 *
 * KEYS state, output chunks, output meta, error chunks, error meta. ARGV epoch, status, output file
 * id, its meta, error file id, its meta, ms when the files expire, errors of the input.
 * @returns as ENTER_BATCH
 */
export const END_BATCH: Script = {
  name: 'end-batch',
  lua: `${ENTER}
local state = redis.call('HMGET', KEYS[1], 'epoch', 'status')
if not state[1] then return {'unknown', 'failed'} end
if state[1] ~= ARGV[1] then return {'fenced', state[2]} end
if isEnded(state[2]) then return {'ok', state[2]} end
for i, field in ipairs({'outputFileId', 'errorFileId'}) do
  if redis.call('EXISTS', KEYS[2 * i]) == 1 then
    redis.call('SET', KEYS[2 * i + 1], ARGV[2 * i + 2], 'PXAT', ARGV[7])
    redis.call('PEXPIREAT', KEYS[2 * i], ARGV[7])
    redis.call('HSET', KEYS[1], field, ARGV[2 * i + 1])
  end
end
redis.call('HSET', KEYS[1], 'errors', ARGV[8])
enter(ARGV[2])
return {'ok', ARGV[2]}`,
};

/**
 * Asks for a batch to be ended early.
 *
 * KEYS state.
 * @returns its status; `unknown` for none
 */
export const CANCEL_BATCH: Script = {
  name: 'cancel-batch',
  lua: `${ENTER}
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 'unknown' end
if status == 'validating' or status == 'in_progress' then
  enter('cancelling')
  return 'cancelling'
end
return status`,
};
