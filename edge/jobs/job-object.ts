import { ENDPOINT_PATH, type Job } from '../../shared/protocol/job.ts';
import type { QueuePlace } from '../transport/jobs.ts';
import type { RequestState } from '../transport/transport.ts';

/** What a list shows of a job. Never its secret. */
export function toJobObject({ id, status, job, timesMs }: RequestState) {
  return {
    id,
    object: 'job',
    status,
    endpoint: ENDPOINT_PATH[job.endpoint],
    model: job.model,
    system_fingerprint: job.fingerprint,
    seed: job.sampling.seed,
    priority: job.priority,
    metadata: job.metadata ?? {},
    webhook: toWebhookObject(job),
    created_at: toSeconds(job.createdMs),
    started_at: toSeconds(timesMs.started),
    ended_at: toSeconds(timesMs.ended),
    expires_at: toSeconds(job.deadlineMs),
    timings: toTimings(timesMs),
  } as const;
}

function toWebhookObject({ webhook }: Job) {
  if (webhook === undefined) return null;
  const { url, events, payload } = webhook;
  return { url, events, payload };
}

/** When a job that waits is likely to be begun. */
export function toPlaceObject(place: QueuePlace | null, nowMs: number) {
  if (place === null) return { position: null, estimated_start_at: null };
  const { numAhead, ratePerSecond } = place;
  const startMs = ratePerSecond > 0 ? nowMs + (numAhead / ratePerSecond) * 1000 : null;
  return { position: numAhead + 1, estimated_start_at: toSeconds(startMs) };
}

function toTimings({ created, started, ended }: RequestState['timesMs']) {
  const begun = started ?? ended;
  return {
    queued_ms: begun === null ? null : begun - created,
    running_ms: started === null || ended === null ? null : ended - started,
  };
}

function toSeconds(ms: number | null): number | null {
  return ms === null ? null : Math.floor(ms / 1000);
}
