import type { Context } from 'hono';
import type { AppEnv } from './app.ts';

/** Connections that stay silent for longer are cut by whatever is in between. */
const MAX_WAIT_SECONDS = 60;

/**
 * How long the client would rather wait for an end than be answered before it (RFC 7240, `Prefer:
 * wait=N`). Says on the answer what of it is done.
 *
 * @returns 0 when it says nothing
 */
export function applyPreferredWait(c: Context<AppEnv>): number {
  const preferences = (c.req.header('prefer') ?? '').split(',');
  for (const preference of preferences) {
    const digits = /^\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:;.*)?$/i.exec(preference)?.[1];
    if (digits === undefined) continue; // what is not understood is ignored
    const seconds = Math.min(Number(digits), MAX_WAIT_SECONDS);
    c.header('preference-applied', `wait=${seconds}`);
    return seconds;
  }
  return 0;
}
