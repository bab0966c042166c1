import { Hono } from 'hono';
import { PlatformError } from '../../shared/errors.ts';
import type { DeliveryAttempt } from '../../shared/protocol/webhook.ts';
import type { AppEnv } from '../app.ts';
import { methodNotAllowed } from '../errors.ts';
import { firstIdOf } from '../idempotency.ts';
import { findJob } from '../jobs/find.ts';

/** What became of the notices of a job; mounted with the jobs. */
export const deliveries = new Hono<AppEnv>();

deliveries.get('/:id/deliveries', async (c) => {
  const { id } = await findJob(c);
  const attempts = await c.var.transport.jobs.deliveries(id);
  return c.json({ object: 'list', data: attempts.map(toDeliveryObject), has_more: false });
});
deliveries.all('/:id/deliveries', methodNotAllowed('GET'));

deliveries.post('/:id/deliveries/:webhookId/redeliver', async (c) => {
  const { id, job } = await findJob(c);
  const webhookId = c.req.param('webhookId');
  const nonce = await firstIdOf(c, crypto.randomUUID(), null);
  if (await c.var.transport.jobs.redeliver(job, webhookId, nonce)) {
    return c.json({ webhook_id: webhookId, object: 'redelivery', job_id: id }, 202);
  }
  const message = `the job has no delivery ${JSON.stringify(webhookId.slice(0, 80))}`;
  throw new PlatformError('not_found', message, { param: 'webhook_id' });
});
deliveries.all('/:id/deliveries/:webhookId/redeliver', methodNotAllowed('POST'));

/** One attempt; several may have the same webhook id. */
function toDeliveryObject(attempt: DeliveryAttempt) {
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
