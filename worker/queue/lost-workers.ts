import { z } from 'zod';
import { type Keys, type QueueOf, servedModelField } from '../../shared/protocol/keys.ts';
import type { RedisClient } from './connection.ts';
import { OVERDUE_MS } from './registry.ts';

/** A heartbeat that is older than this did not come: they are sent every second. */
const SILENT_MS = 1500;

const claimSchema = z.object({ worker: z.string() });

/**
 * How many of the workers that made these claims are gone. One whose connection was cut, or that hung and came
 * back, lost the request but was not killed by it.
 *
 * @param claims entries of the request's list of claims
 */
export async function countLost(
  client: RedisClient,
  keys: Keys,
  queue: QueueOf,
  claims: readonly string[],
): Promise<number> {
  const workers = claims.map((claim) => claimSchema.parse(JSON.parse(claim)).worker);
  if (workers.length === 0) return 0;
  const members = workers.map((worker) => `${servedModelField(queue)} ${worker}`);
  const [seconds = 0, microseconds = 0] = (await client.time()).map(Number);
  const nowMs = seconds * 1000 + microseconds / 1000;
  const scores = await client.zmscore(keys.workers, ...members);
  return scores.filter((score) => {
    const lastBeatMs = score === null ? 0 : Number(score) - OVERDUE_MS;
    return nowMs - lastBeatMs > SILENT_MS;
  }).length;
}
