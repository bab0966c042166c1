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
/**
 * A connection that says nothing for so long when it was asked is dead, though nobody has said so:
 * a new one is made, in the time that is left for the answer.
 */
const SILENT_MS = 1500;
/** So often a subscriber, which is asked nothing else, is asked whether it is there. */
const PING_MS = 1500;
/** Where no ping reaches, the system finds out whether the other side is there after so long. */
const KEEP_ALIVE_MS = 5000;
const retryDelayMs = (numRetries: number): number => Math.min(50 * numRetries, 1000);

const answering = {
  maxRetriesPerRequest: 1,
  commandTimeout: ANSWER_WITHIN_MS,
  socketTimeout: SILENT_MS,
  keepAlive: KEEP_ALIVE_MS,
} satisfies RedisOptions;

const shared = {
  ...answering,
  lazyConnect: true,
  enableOfflineQueue: false,
  autoResubscribe: false,
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
  return { command, subscriber: pinged(await connectOne(url)), isCluster: false };
}

/** A dead subscriber would be missed by nobody: what is published is not asked for. */
function pinged(subscriber: Redis): Redis {
  const timer = setInterval(() => {
    if (subscriber.status === 'ready') subscriber.ping().catch(() => undefined); // it reconnects
  }, PING_MS);
  subscriber.on('end', () => clearInterval(timer));
  return subscriber;
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
    const advice = adviceFor(reason);
    throw new Error(`cannot reach Redis at ${host} (${reason}): ${advice}`, { cause });
  }
  isFirst = false;
  return client;
}

function adviceFor(reason: string): string {
  const isRefused = /^(NOAUTH|WRONGPASS|NOPERM)\b/.test(reason);
  return isRefused
    ? 'put user and password into REDIS_URL, as in redis://user:password@host:port'
    : 'start Redis there or set REDIS_URL';
}

async function connectCluster(
  url: string,
): Promise<Pick<RedisConnections, 'command' | 'subscriber'>> {
  const options = {
    lazyConnect: true,
    enableOfflineQueue: false,
    clusterRetryStrategy: retryDelayMs,
    redisOptions: answering,
  };
  const command = new Cluster([url], options);
  const subscriber = new Cluster([url], { ...options, shardedSubscribers: true });
  for (const client of [command, subscriber]) client.on('error', () => undefined);
  await Promise.all([command.connect(), subscriber.connect()]);
  return { command, subscriber };
}
