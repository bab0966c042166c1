import type { Script } from './scripts.ts';

/**
 * Makes room for a file among its tenant's, or sets what it takes once that is known. Forgets files
 * that have expired.
 *
 * KEYS index, expiries, sizes. ARGV file id, bytes, ms when it expires, ms now, files and bytes a
 * tenant may have.
 * @returns `ok`, or what there is too much of: `files` or `bytes`; then how many there would be
 */
export const ADMIT_FILE: Script = {
  name: 'admit-file',
  lua: `
local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[4])
for _, id in ipairs(gone) do
  redis.call('ZREM', KEYS[1], id)
  redis.call('ZREM', KEYS[2], id)
  redis.call('HDEL', KEYS[3], id)
end
local files, bytes = 1, tonumber(ARGV[2])
local sizes = redis.call('HGETALL', KEYS[3])
for i = 1, #sizes, 2 do
  if sizes[i] ~= ARGV[1] then
    files = files + 1
    bytes = bytes + sizes[i + 1]
  end
end
if files > tonumber(ARGV[5]) then return {'files', files} end
if bytes > tonumber(ARGV[6]) then return {'bytes', bytes} end
redis.call('ZADD', KEYS[1], 0, ARGV[1])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
return {'ok', files}`,
};

/**
 * Adds one piece to a file that is not complete. Sent again, it adds nothing. What is not added to
 * for a while is forgotten.
 *
 * KEYS chunks, meta. ARGV number of the piece, ms to keep it until the next one, piece.
 * @returns 1, or 0 when the pieces before are gone or the file is complete
 */
export const APPEND_FILE: Script = {
  name: 'append-file',
  lua: `
local length, index = redis.call('LLEN', KEYS[1]), tonumber(ARGV[1])
if length < index or redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
if length == index then redis.call('RPUSH', KEYS[1], ARGV[3]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1`,
};

/**
 * Makes a file complete and thereby visible.
 *
 * KEYS chunks, meta. ARGV number of pieces, meta, ms when it expires.
 * @returns 1, or 0 when pieces are missing
 */
export const SEAL_FILE: Script = {
  name: 'seal-file',
  lua: `
if redis.call('EXISTS', KEYS[2]) == 1 then return 1 end
if redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PXAT', ARGV[3])
redis.call('PEXPIREAT', KEYS[1], ARGV[3])
return 1`,
};
