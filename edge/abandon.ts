import type { Context } from 'hono';
import { PlatformError } from '../shared/errors.ts';
import type { RequestId } from '../shared/ids.ts';
import type { Job } from '../shared/protocol/job.ts';
import type { AppEnv } from './app.ts';
import { detach } from './connection.ts';
import { hasKey } from './idempotency.ts';
import { patiently } from './transport/patience.ts';
import type { Transport } from './transport/transport.ts';

/** Looks for a reader during the grace. */
const NUM_LOOKS = 10;
/** After so long without a look, readers may have come that could not listen yet. */
const MAX_BLIND_MS = 1000;

/**
 * Follows a reader's leaving: unless the request is to go on without one, it is cancelled after the
 * grace, if until then nobody came back, here or on another replica. Where this process ends before
 * that, the request's worker finds out that nobody listens.
 *
 * @param submission settles when the request is queued; what is not queued yet cannot be cancelled
 */
export function abandon(c: Context<AppEnv>, job: Job, submission: Promise<unknown>): void {
  const { options, transport } = c.var;
  if (job.onDisconnect === 'continue' || options.shutdown.aborted) return;
  async function cancelAfterGrace(): Promise<void> {
    await submission.catch(() => undefined); // it may be queued all the same
    const isForgotten = await staysUnread(transport, job.id, options.disconnectGraceMs);
    if (isForgotten) await patiently(() => transport.cancel(job.id));
  }
  detach(c, cancelAfterGrace());
}

/**
 * Whether nobody listens for as long as the grace, without a break. When Redis was away nobody did,
 * though clients were there: their edges have to find their way back first.
 */
export async function staysUnread(
  transport: Transport,
  id: RequestId,
  graceMs: number,
): Promise<boolean> {
  const numLeft = await patiently(() => transport.noteLeft(id));
  const lookMs = graceMs / NUM_LOOKS;
  const endMs = performance.now() + graceMs;
  let unreadSinceMs = performance.now();
  for (let lastLookMs = unreadSinceMs; ; ) {
    await afterMs(lookMs);
    const readers = await patiently(() => transport.readersOf(id));
    if (readers.numLeft !== numLeft) return false; // whoever left later sees to it
    const nowMs = performance.now();
    const isRead = readers.numListening > 0;
    if (isRead && nowMs >= endMs) return false;
    if (isRead || nowMs - lastLookMs > lookMs + MAX_BLIND_MS) unreadSinceMs = nowMs;
    else if (nowMs - unreadSinceMs >= graceMs) return true;
    lastLookMs = nowMs;
  }
}

/**
 * Follows a submission that failed half-way: its client was told so, and sends another. One with a
 * key is left alone, since it is the same request that comes again.
 */
export function callOff(c: Context<AppEnv>, { id }: Job, failure: unknown): void {
  const isRefused = failure instanceof PlatformError && failure.code !== 'unavailable';
  if (isRefused || hasKey(c)) return;
  detach(
    c,
    patiently(() => c.var.transport.cancel(id)),
  );
}

function afterMs(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
