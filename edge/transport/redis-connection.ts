import { Cluster, Redis, type RedisOptions } from 'ioredis';

/** A connection to one Redis, or to the nodes of a cluster. */
export type RedisClient = Redis | Cluster;

/** What a transport holds: both serve all requests of the process. */
export interface RedisConnections {
  /** Fails at once while Redis is away, so that clients are told rather than kept. */
  readonly command: RedisClient;
  /** Its subscriptions are made again by `Subscriptions`, which knows when that is done. */
  readonly subscriber: RedisClient;
  readonly isCluster: boolean;
}

const ANSWER_WITHIN_MS = 2000;
const retryDelayMs = (numRetries: number): number => Math.min(50 * numRetries, 1000);

const shared = {
  lazyConnect: true,
  enableOfflineQueue: false,
  autoResubscribe: false,
  maxRetriesPerRequest: 1,
  commandTimeout: ANSWER_WITHIN_MS,
  connectTimeout: 5000,
  /** A failover leaves us with a replica that refuses writes: find the new primary. */
  reconnectOnError: (error: Error) => (error.message.startsWith('READONLY') ? 2 : false),
} satisfies RedisOptions;

/** @throws {Error} naming the address when nothing answers there */
export async function connectRedis(url: string): Promise<RedisConnections> {
  const command = await connectOne(url);
  if (/cluster_enabled:1/.test(await command.info('cluster'))) {
    command.disconnect();
    return { ...(await connectCluster(url)), isCluster: true };
  }
  return { command, subscriber: await connectOne(url), isCluster: false };
}

async function connectOne(url: string): Promise<Redis> {
  let isFirst = true;
  const client = new Redis(url, {
    ...shared,
    retryStrategy: (numRetries) => (isFirst ? null : retryDelayMs(numRetries)),
  });
  let reason = 'no answer';
  client.on('error', (error) => {
    reason = error.message;
  });
  try {
    await client.connect();
  } catch (cause) {
    const { host } = new URL(url);
    const advice = 'start Redis there or set REDIS_URL';
    throw new Error(`cannot reach Redis at ${host} (${reason}): ${advice}`, { cause });
  }
  isFirst = false;
  return client;
}

async function connectCluster(
  url: string,
): Promise<Pick<RedisConnections, 'command' | 'subscriber'>> {
  const options = {
    lazyConnect: true,
    enableOfflineQueue: false,
    clusterRetryStrategy: retryDelayMs,
    redisOptions: { maxRetriesPerRequest: 1, commandTimeout: ANSWER_WITHIN_MS },
  };
  const command = new Cluster([url], options);
  const subscriber = new Cluster([url], { ...options, shardedSubscribers: true });
  for (const client of [command, subscriber]) client.on('error', () => undefined);
  await Promise.all([command.connect(), subscriber.connect()]);
  return { command, subscriber };
}
