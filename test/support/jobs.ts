import { createRequestId, toTenantId } from '../../shared/ids.ts';
import type { Job } from '../../shared/protocol/job.ts';

/** A job that a worker could be handed, with a new id. */
export function jobOf(overrides: Partial<Job> = {}): Job {
  return {
    version: 1,
    id: createRequestId(),
    tenant: toTenantId('default'),
    endpoint: 'completions',
    model: 'scripted',
    fingerprint: 'fp',
    createdMs: Date.now(),
    deadlineMs: null,
    priority: 10,
    prompts: [[1, 2, 3]],
    n: 1,
    sampling: {
      temperature: 1,
      topP: 1,
      topK: 0,
      minP: 0,
      presencePenalty: 0,
      frequencyPenalty: 0,
      repetitionPenalty: 1,
      logitBias: [],
      seed: 42,
    },
    maxTokens: 16,
    stop: [],
    topLogprobs: null,
    echo: false,
    ignoreEos: false,
    stream: true,
    includeUsage: false,
    speculation: 'auto',
    prediction: null,
    contextPolicy: { type: 'stop' },
    onDisconnect: 'cancel',
    ...overrides,
  };
}
