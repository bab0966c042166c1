import type { Context } from 'hono';
import { PlatformError } from '../shared/errors.ts';
import type { Job } from '../shared/protocol/job.ts';
import type { AppEnv } from './app.ts';
import { detach } from './connection.ts';
import { hasKey } from './idempotency.ts';
import { patiently } from './transport/patience.ts';

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
    const numLeft = await patiently(() => transport.noteLeft(job.id));
    await afterMs(options.disconnectGraceMs);
    await patiently(() => transport.cancelUnread(job.id, numLeft));
  }
  detach(c, cancelAfterGrace());
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
