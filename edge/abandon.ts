import type { Context } from 'hono';
import type { Job } from '../shared/protocol/job.ts';
import type { AppEnv } from './app.ts';
import { detach } from './connection.ts';

/**
 * Follows a reader's leaving: unless the request is to go on without one, it is cancelled after the
 * grace, if until then nobody came back, here or on another replica.
 *
 * @param submission settles when the request is queued; what is not queued yet cannot be cancelled
 */
export function abandon(c: Context<AppEnv>, job: Job, submission: Promise<unknown>): void {
  const { options, transport } = c.var;
  if (job.onDisconnect === 'continue' || options.shutdown.aborted) return;
  async function cancelAfterGrace(): Promise<void> {
    await submission.catch(() => undefined); // it may be queued all the same
    const numLeft = await transport.noteLeft(job.id);
    await afterMs(options.disconnectGraceMs);
    await transport.cancelUnread(job.id, numLeft);
  }
  detach(c, cancelAfterGrace());
}

function afterMs(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
