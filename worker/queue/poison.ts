import type { RequestId } from '../../shared/ids.ts';
import { decodeJob } from '../../shared/protocol/job.ts';
import type { Claim } from '../../shared/protocol/request-scripts.ts';
import { countLost } from './lost-workers.ts';
import type { RunContext } from './request-run.ts';

/**
 * Whether claim after claim of a request led nowhere and the workers that made them are gone. Where
 * others die as well, as many more are wanted: it may have been with the wrong ones each time.
 */
export async function isPoisonous(
  { redis, keys, maxClaims, workerId }: RunContext,
  id: RequestId,
  { numClaims, job }: Claim,
): Promise<boolean> {
  if (numClaims <= maxClaims) return false;
  const { claims } = keys.request(id);
  const made = await redis.ask((client) => client.lrange(claims, 0, -1)); // this one is not there
  const query = { queue: decodeJob(job), claims: made, askedBy: workerId };
  const { claimers, others } = await countLost(redis, keys, query);
  return claimers >= maxClaims + Math.min(others, maxClaims);
}

/** A request that was set aside is kept so long, prompts and all. */
const KEPT_MS = 7 * 24 * 3_600_000;

/** Keeps a request that ends so for somebody to look at. */
export async function setAside(
  { redis, keys, log }: RunContext,
  id: RequestId,
  { job, nextSeq, numClaims }: Claim,
): Promise<void> {
  const { claims: list, setAside: key } = keys.request(id);
  const claims = await redis.ask((client) => client.lrange(list, 0, -1));
  const evidence = JSON.stringify({ job, nextSeq, claims });
  await redis.ask((client) => client.set(key, evidence, 'PX', KEPT_MS));
  log.error('request_set_aside', { id, num_lost: numClaims - 1 });
}
