import type { Batch } from '../../shared/protocol/batch.ts';
import type { PushedNotice } from '../../shared/protocol/webhook-outbox.ts';
import { toBatchObject } from './batch-object.ts';

/**
 * What there is to say about the end of a batch: to its webhook, if that wants it, and to the list
 * of events.
 */
export function toNotice(batch: Batch): PushedNotice {
  const { spec, status, timesMs } = batch;
  const event = `batch.${status}`;
  const isWanted = spec.webhook?.events.includes(event) ?? false;
  return {
    webhookId: `msg_${spec.id}_0`,
    subject: spec.id,
    tenant: spec.tenant,
    event,
    atMs: timesMs[status] ?? spec.createdMs,
    webhook: isWanted ? spec.webhook : null,
    data: spec.webhook?.payload === 'full' ? toBatchObject(batch) : { id: spec.id },
  };
}
