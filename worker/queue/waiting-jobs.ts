import type { Keys, QueueOf } from '../../shared/protocol/keys.ts';
import type { RedisClient } from './connection.ts';

/** How many jobs of a queue nobody has taken, in either of BullMQ's two structures. */
export async function countWaiting(
  client: RedisClient,
  keys: Keys,
  queue: QueueOf,
): Promise<number> {
  const { wait, prioritized } = keys.waitingJobs(queue);
  const counts = await Promise.all([client.llen(wait), client.zcard(prioritized)]);
  return counts[0] + counts[1];
}
