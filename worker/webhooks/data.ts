import { PlatformError } from '../../shared/errors.ts';
import { collect } from '../../shared/openai/collect.ts';
import type { Job } from '../../shared/protocol/job.ts';
import type { Keys } from '../../shared/protocol/keys.ts';
import type { RedisClient } from '../queue/connection.ts';
import { readLog } from './request-log.ts';

const ENDPOINT_PATH = { completions: '/v1/completions', chat: '/v1/chat/completions' } as const;

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

/** The answer of a job as a plain request would have had it, or why there is none. */
export async function fullDataOf(
  job: Job,
  client: RedisClient,
  keys: Keys,
): Promise<Record<string, unknown>> {
  try {
    return { result: await collect(readLog(client, keys, job.id), job), error: null };
  } catch (error) {
    if (!(error instanceof PlatformError)) throw error;
    const { code, message, param } = error;
    return { result: null, error: { code, message, param } };
  }
}
