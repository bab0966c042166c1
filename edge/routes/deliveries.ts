import { type Context, Hono } from 'hono';
import { PlatformError } from '../../shared/errors.ts';
import { isBatchEnded } from '../../shared/protocol/batch.ts';
import type { DeliveryAttempt } from '../../shared/protocol/webhook.ts';
import type { AppEnv } from '../app.ts';
import { toNotice } from '../batches/notice.ts';
import { methodNotAllowed } from '../errors.ts';
import { firstIdOf } from '../idempotency.ts';
import { findJob } from '../jobs/find.ts';
import type { ResendReply, Resent } from '../transport/notices.ts';
import { findBatch } from './batches.ts';

/** What became of the notices of a job; mounted with the jobs. */
export const jobDeliveries = new Hono<AppEnv>();

jobDeliveries.get('/:id/deliveries', async (c) => listAttempts(c, (await findJob(c)).id));
jobDeliveries.all('/:id/deliveries', methodNotAllowed('GET'));

jobDeliveries.post('/:id/deliveries/:webhookId/redeliver', async (c) => {
  const { id, job } = await findJob(c);
  const webhookId = c.req.param('webhookId');
  const reply = await resend(c, { type: 'job', job, webhookId });
  if (reply === 'unknown') throw noDelivery('job', webhookId);
  if (reply === 'accepted') return accepted(c, webhookId, { job_id: id });
  const message = `${webhookId} was taken, and pieces of output are kept no longer; read /v1/requests/${id}/events`;
  throw new PlatformError('conflict', message, { param: 'webhook_id' });
});
jobDeliveries.all('/:id/deliveries/:webhookId/redeliver', methodNotAllowed('POST'));

/** The same of a batch. */
export const batchDeliveries = new Hono<AppEnv>();

batchDeliveries.get('/:id/deliveries', async (c) => listAttempts(c, (await findBatch(c)).spec.id));
batchDeliveries.all('/:id/deliveries', methodNotAllowed('GET'));

batchDeliveries.post('/:id/deliveries/:webhookId/redeliver', async (c) => {
  const batch = await findBatch(c);
  const webhookId = c.req.param('webhookId');
  const notice = toNotice(batch);
  const isTold = isBatchEnded(batch.status) && notice.webhook !== null;
  if (!isTold || notice.webhookId !== webhookId) throw noDelivery('batch', webhookId);
  await resend(c, { type: 'batch', notice });
  return accepted(c, webhookId, { batch_id: batch.spec.id });
});
batchDeliveries.all('/:id/deliveries/:webhookId/redeliver', methodNotAllowed('POST'));

async function listAttempts(c: Context<AppEnv>, subject: string): Promise<Response> {
  const attempts = await c.var.transport.notices.attempts(subject);
  return c.json({ object: 'list', data: attempts.map(toDeliveryObject), has_more: false });
}

/** Once for each `Idempotency-Key`. */
export async function resend(c: Context<AppEnv>, resent: Resent): Promise<ResendReply> {
  const nonce = await firstIdOf(c, crypto.randomUUID(), null);
  return c.var.transport.notices.resend(resent, nonce);
}

/** @param about whose notice it is */
export function accepted(
  c: Context<AppEnv>,
  webhookId: string,
  about: Readonly<Record<string, string | null>>,
): Response {
  return c.json({ webhook_id: webhookId, object: 'redelivery', ...about }, 202);
}

function noDelivery(kind: string, webhookId: string): PlatformError {
  const message = `the ${kind} has no delivery ${JSON.stringify(webhookId.slice(0, 80))}`;
  return new PlatformError('not_found', message, { param: 'webhook_id' });
}

/** One attempt; several may have the same webhook id. */
export function toDeliveryObject(attempt: DeliveryAttempt) {
  return {
    object: 'delivery',
    webhook_id: attempt.webhookId,
    type: attempt.type,
    at: new Date(attempt.atMs).toISOString(),
    status: attempt.status,
    duration_ms: attempt.durationMs,
    error: attempt.error,
    answer: attempt.answer,
  };
}
