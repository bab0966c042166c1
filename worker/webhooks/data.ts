import { PlatformError } from '../../shared/errors.ts';
import { toErrorBody } from '../../shared/openai/error-body.ts';
import { toOutcome } from '../../shared/openai/outcome.ts';
import { ENDPOINT_PATH, type Job } from '../../shared/protocol/job.ts';
import type { Keys } from '../../shared/protocol/keys.ts';
import type { RedisClient } from '../queue/connection.ts';
import { readLog } from './request-log.ts';

/** What a body says of its job, be it thin or full. */
export function dataOf(job: Job, status: string): Record<string, unknown> {
  return {
    id: job.id,
    object: 'job',
    status,
    endpoint: ENDPOINT_PATH[job.endpoint],
    model: job.model,
    created_at: Math.floor(job.createdMs / 1000),
    metadata: job.metadata ?? {},
  };
}

/** The answer of a job as a plain request would have had it, or why there is none; its usage. */
export async function fullDataOf(
  job: Job,
  client: RedisClient,
  keys: Keys,
): Promise<Record<string, unknown>> {
  try {
    const { error, ...outcome } = await toOutcome(readLog(client, keys, job.id), job);
    return { ...outcome, error: error && toErrorBody(error).error };
  } catch (error) {
    if (!(error instanceof PlatformError)) throw error;
    return { usage: null, result: null, error: toErrorBody(error).error };
  }
}
