import type { Context } from 'hono';
import type { Job } from '../shared/protocol/job.ts';
import type { GenerationRequest } from '../shared/protocol/request.ts';
import type { AppEnv } from './app.ts';
import { newJob } from './new-job.ts';

/** Names that `x-ignored-parameters` has room for. */
const MAX_IGNORED_NAMES = 32;

/** A checked request as a job of this call's, for a model that is served. */
export function admit(c: Context<AppEnv>, request: GenerationRequest): Promise<Job> {
  const { catalog, options, requestId, tenant, transport } = c.var;
  const { drawSeed } = options;
  const nowMs = options.now();
  return newJob(request, { transport, catalog, id: requestId, tenant, nowMs, drawSeed });
}

/** Names the seed in effect. */
export function setSeedHeader(c: Context<AppEnv>, { sampling }: Job): void {
  c.header('x-seed', String(sampling.seed));
}

/** Names the fields of the body that had no effect. */
export function setIgnoredHeader(c: Context<AppEnv>, names: readonly string[]): void {
  if (names.length > 0) c.header('x-ignored-parameters', toNameList(names));
}

/** Names come from the client; a header has no room for all of them, nor for every character. */
function toNameList(names: readonly string[]): string {
  return names
    .slice(0, MAX_IGNORED_NAMES)
    .map((name) => encodeURIComponent(name.toWellFormed().slice(0, 64).toWellFormed()))
    .join(', ');
}
