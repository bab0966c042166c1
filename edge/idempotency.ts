import type { Context } from 'hono';
import { PlatformError } from '../shared/errors.ts';
import { toRequestId } from '../shared/ids.ts';
import type { Job } from '../shared/protocol/job.ts';
import type { AppEnv } from './app.ts';
import type { KeyedCall } from './transport/transport.ts';

const HEADER = 'idempotency-key';
const MAX_KEY_LENGTH = 255;

/** How long a key stands for its first request, whose log is kept as long. */
export const KEY_LIFE_MS = 24 * 3_600_000;

/**
 * The job to submit for a call: its own, or, when it brings an `Idempotency-Key` that was used
 * before, the job of the first call that brought it, however far that has come and whether its
 * model is still served or not.
 *
 * Of calls that come at once each may get its own, under one id; whoever submits them is told which
 * of them stands.
 *
 * @param make makes the call's own, once it is known to be wanted
 * @throws {PlatformError} `invalid_request` for a malformed key, `idempotency_mismatch` when the
 *   key was used with another body or at another route
 */
export async function firstJobOf(
  c: Context<AppEnv>,
  body: unknown,
  make: () => Promise<Job>,
): Promise<Job> {
  const call = await keyedCallOf(c, body);
  if (call === null) return make();
  const { transport } = c.var;
  const knownId = await transport.reserved(call);
  const known = knownId === null ? null : await transport.request(toRequestId(knownId));
  if (known !== null) {
    c.set('requestId', known.id);
    return known.job;
  }
  const own = await make();
  // Whoever reserved the key before may have died before it queued the request.
  const id = toRequestId(await transport.reserve({ ...call, id: own.id, lifeMs: KEY_LIFE_MS }));
  c.set('requestId', id);
  return { ...own, id, keepMs: Math.max(own.keepMs ?? 0, KEY_LIFE_MS) };
}

/**
 * What a call's `Idempotency-Key` stands for: the id that its first call had drawn; without a key,
 * this one's.
 *
 * @param body what a retry must repeat, beside the route
 * @throws {PlatformError} as `firstJobOf`
 */
export async function firstIdOf(c: Context<AppEnv>, id: string, body: unknown): Promise<string> {
  const call = await keyedCallOf(c, body);
  return call === null ? id : c.var.transport.reserve({ ...call, id, lifeMs: KEY_LIFE_MS });
}

/**
 * Whether the call has come before, by its `Idempotency-Key`, and was not refused.
 *
 * @throws {PlatformError} as `firstJobOf`
 */
export async function isRetry(c: Context<AppEnv>): Promise<boolean> {
  const call = await keyedCallOf(c, null);
  return call !== null && (await c.var.transport.reserved(call)) !== null;
}

async function keyedCallOf(c: Context<AppEnv>, body: unknown): Promise<KeyedCall | null> {
  const key = keyOf(c);
  if (key === null) return null;
  const digest = await sha256(JSON.stringify([c.req.path, body]));
  return { tenant: c.var.tenant, key: await sha256(key), digest };
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
