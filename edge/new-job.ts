import type { RequestId, TenantId } from '../shared/ids.ts';
import type { Job } from '../shared/protocol/job.ts';
import type { GenerationRequest } from '../shared/protocol/request.ts';
import type { ModelCatalog } from './catalog.ts';
import { createJob } from './job.ts';
import type { Transport } from './transport/transport.ts';

/** Whose request it is, and what is needed to make a job of it. */
export interface JobOrigin {
  readonly transport: Transport;
  readonly catalog: ModelCatalog;
  readonly id: RequestId;
  readonly tenant: TenantId;
  readonly nowMs: number;
  readonly drawSeed: () => number;
}

/**
 * Makes a job of a checked request, for the workers that serve its model now.
 *
 * @throws {PlatformError} as `ModelCatalog.find` and `createJob` do
 */
export async function newJob(request: GenerationRequest, origin: JobOrigin): Promise<Job> {
  const { transport, catalog, ...context } = origin;
  const card = await catalog.find(transport, request.model);
  const tools = await catalog.textTools(transport, card);
  return createJob(request, { ...context, card, tools });
}
