import type { Batch, BatchStatus } from '../../shared/protocol/batch.ts';
import { COMPLETION_WINDOW } from '../../shared/protocol/batch.ts';
import type { Webhook } from '../../shared/protocol/webhook.ts';

/** A batch as OpenAI's API shows it. */
export function toBatchObject({ spec, status, numLines, progress, timesMs, ...batch }: Batch) {
  const enteredAt = (each: BatchStatus) => toSeconds(timesMs[each]);
  return {
    id: spec.id,
    object: 'batch',
    endpoint: spec.endpoint,
    errors: batch.errors.length === 0 ? null : { object: 'list', data: batch.errors },
    input_file_id: spec.inputFileId,
    completion_window: COMPLETION_WINDOW,
    status,
    output_file_id: batch.outputFileId,
    error_file_id: batch.errorFileId,
    created_at: toSeconds(spec.createdMs),
    in_progress_at: enteredAt('in_progress'),
    expires_at: toSeconds(spec.expiresMs),
    finalizing_at: enteredAt('finalizing'),
    completed_at: enteredAt('completed'),
    failed_at: enteredAt('failed'),
    expired_at: enteredAt('expired'),
    cancelling_at: enteredAt('cancelling'),
    cancelled_at: enteredAt('cancelled'),
    request_counts: {
      total: numLines,
      completed: progress.numCompleted,
      failed: progress.numFailed,
    },
    metadata: spec.metadata,
    webhook: spec.webhook && toWebhookObject(spec.webhook),
  };
}

/** Never its secret. */
function toWebhookObject({ url, events, payload }: Webhook) {
  return { url, events, payload };
}

function toSeconds(ms: number | undefined): number | null {
  return ms === undefined ? null : Math.floor(ms / 1000);
}
