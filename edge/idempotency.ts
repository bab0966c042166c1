import type { Context } from 'hono';
import { PlatformError } from '../shared/errors.ts';
import { toRequestId } from '../shared/ids.ts';
import type { Job } from '../shared/protocol/job.ts';
import type { AppEnv } from './app.ts';

const HEADER = 'idempotency-key';
const MAX_KEY_LENGTH = 255;

/** How long a key stands for its first request, whose log is kept as long. */
export const KEY_LIFE_MS = 24 * 3_600_000;

/**
 * The job that a call stands for: its own, or, when it brings an `Idempotency-Key` that was used
 * before, the job of the first call that brought it, however far that has come.
 *
 * @throws {PlatformError} `invalid_request` for a malformed key, `idempotency_mismatch` when the
 *   key was used with another body or at another route
 */
export async function firstJobOf(c: Context<AppEnv>, job: Job, body: unknown): Promise<Job> {
  if (!hasKey(c)) return job;
  const keptJob = { ...job, keepMs: Math.max(job.keepMs ?? 0, KEY_LIFE_MS) };
  const id = toRequestId(await firstIdOf(c, job.id, body));
  if (id === job.id) return keptJob;
  c.set('requestId', id);
  const first = await c.var.transport.request(id);
  // Whoever reserved the key may have died before it queued the request.
  return first?.job ?? { ...keptJob, id };
}

/**
 * What a call's `Idempotency-Key` stands for: the id that its first call had drawn; without a key,
 * this one's.
 *
 * @param body what a retry must repeat, beside the route
 * @throws {PlatformError} as `firstJobOf`
 */
export async function firstIdOf(c: Context<AppEnv>, id: string, body: unknown): Promise<string> {
  const key = keyOf(c);
  if (key === null) return id;
  const { tenant, transport } = c.var;
  const digest = await sha256(JSON.stringify([c.req.path, body]));
  const reservation = { tenant, key: await sha256(key), digest, id, lifeMs: KEY_LIFE_MS };
  return transport.reserve(reservation);
}

/** @throws {PlatformError} `invalid_request` for a malformed key */
export function hasKey(c: Context<AppEnv>): boolean {
  return keyOf(c) !== null;
}

function keyOf(c: Context<AppEnv>): string | null {
  const key = c.req.header(HEADER);
  if (key === undefined) return null;
  if (/^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(key) && key.length <= MAX_KEY_LENGTH)
    return key;
  const message = `idempotency-key has ${key.length} characters; it must have 1 to ${MAX_KEY_LENGTH} printable ones`;
  throw new PlatformError('invalid_request', message, { param: 'Idempotency-Key' });
}

export async function sha256(data: string | Uint8Array): Promise<string> {
  const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : new Uint8Array(data);
  const digest = await crypto.subtle.digest('SHA-256', bytes);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
