import { z } from 'zod';
import { type Keys, type QueueOf, servedModelField } from '../../shared/protocol/keys.ts';
import type { PatientRedis } from './patient-redis.ts';
import { OVERDUE_MS } from './registry.ts';

/** A heartbeat that is older than this did not come: they are sent every second. */
const SILENT_MS = 1500;

const claimSchema = z.object({ worker: z.string(), claimedMs: z.number() });

export interface LostWorkers {
  /** Of those that made the claims. */
  readonly claimers: number;
  /** Of all others, since the first of the claims. */
  readonly others: number;
}

export interface LossQuery {
  readonly queue: QueueOf;
  /** Entries of the request's list of claims, oldest first. */
  readonly claims: readonly string[];
  /** Id of the worker that asks, which lives. */
  readonly askedBy: string;
}

/**
 * How many workers are gone. One whose connection was cut, that hung and came back, or that ended
 * of itself lost the request but was not killed by it.
 */
export async function countLost(
  redis: PatientRedis,
  keys: Keys,
  { queue, claims, askedBy }: LossQuery,
): Promise<LostWorkers> {
  const made = claims
    .map((claim) => claimSchema.parse(JSON.parse(claim)))
    .filter(({ worker }) => worker !== askedBy);
  const [first] = made;
  if (first === undefined) return { claimers: 0, others: 0 };
  const claimers = new Set(made.map(({ worker }) => worker)); // one may have claimed again
  const members = Array.from(claimers, (worker) => `${servedModelField(queue)} ${worker}`);
  const [seconds = 0, microseconds = 0] = (await redis.ask((client) => client.time())).map(Number);
  const silentScore = seconds * 1000 + microseconds / 1000 - SILENT_MS + OVERDUE_MS;
  const scores = await redis.ask((client) => client.zmscore(keys.workers, ...members));
  const departed = await redis.ask((client) => client.zmscore(keys.departedWorkers, ...members));
  const firstScore = first.claimedMs + OVERDUE_MS;
  const lost = await redis.ask((client) =>
    client.zrangebyscore(keys.workers, firstScore, `(${silentScore}`),
  );
  return {
    claimers: scores.filter((score, i) => !departed[i] && Number(score ?? 0) < silentScore).length,
    others: lost.filter((member) => !members.includes(member)).length,
  };
}
