import { mkdtemp } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort, openPrivateRedis, type PrivateRedis } from '../../infra/redis/private-redis.ts';
import { Victim } from './process.ts';
import { openRelay, type Relay } from './relay.ts';

const models = fileURLToPath(new URL('../../infra/models', import.meta.url));

/** Everything that a deployment has, with relays between its parts. */
export interface Cluster extends AsyncDisposable {
  readonly edges: readonly Victim[];
  /** Through the relays of clients. */
  readonly edgeUrls: readonly string[];
  readonly workers: readonly Victim[];
  readonly webhooks: readonly Victim[];
  readonly batches: readonly Victim[];
  /** Between each process and Redis. */
  readonly redisRelays: readonly Relay[];
  /** Between clients and each edge. */
  readonly clientRelays: readonly Relay[];
  readonly logFile: string;
  restartRedis(signal: 'SIGKILL' | 'SIGTERM'): Promise<void>;
}

export interface ClusterSize {
  readonly edges: number;
  readonly workers: number;
  readonly webhooks: number;
  readonly batches: number;
}

/** A receiver that is away for `AWAY_MS` is one that is away for an hour, by a schedule of days. */
const WEBHOOKS_ENVIRONMENT = {
  WEBHOOK_RETRY_SECONDS: '0.3,0.5,1,2,4,8,8,8',
  WEBHOOK_TIMEOUT_MS: '2000',
  WEBHOOK_BREAKER_MS: '500',
  ALLOW_INSECURE_WEBHOOKS: 'true',
  LOCK_MS: '2000',
  STALLED_CHECK_MS: '1000',
  GRACE_MS: '2000',
};
export const AWAY_MS = 15_000;

const WORKER_ENVIRONMENT = {
  MODEL_DIR: join(models, 'stories-target'),
  DRAFT_MODEL_DIR: join(models, 'stories-draft'),
  CACHE_DIR: process.env.CACHE_DIR ?? join(homedir(), '.cache/rivulet'),
  NUM_THREADS: '1',
  GRACE_MS: '5000',
  // So that texts without end change hands, and lose the begin of their logs, within a run.
  QUANTUM_TOKENS: '256',
  LOG_RETENTION_MS: '60000',
};

const EDGE_ENVIRONMENT = {
  HOST: '127.0.0.1',
  // The adversary keeps clients from coming back for longer than usual.
  DISCONNECT_GRACE_MS: '25000',
  ALLOW_INSECURE_WEBHOOKS: 'true',
};

const BATCHES_ENVIRONMENT = { LOCK_MS: '2000', STALLED_CHECK_MS: '1000' };

export async function openCluster(size: ClusterSize): Promise<Cluster> {
  const dir = await mkdtemp(join(tmpdir(), 'rivulet-chaos-'));
  const logFile = join(dir, 'log');
  const stack = new AsyncDisposableStack();
  let redis: PrivateRedis = await openPrivateRedis({ dir, port: 'free' });
  const { port } = redis;
  stack.defer(() => redis[Symbol.asyncDispose]());
  process.once('exit', () => redis.process.kill('SIGKILL')); // the others end with this process

  const redisRelays: Relay[] = [];
  const clientRelays: Relay[] = [];

  /** Starts so many of a kind, each with a relay of its own to Redis. */
  async function start(
    name: string,
    { count, script, ready }: { count: number; script: string; ready: RegExp },
    environment: (i: number) => Promise<Record<string, string>> | Record<string, string>,
  ): Promise<Victim[]> {
    const victims: Victim[] = [];
    for (let i = 0; i < count; i += 1) {
      const relay = stack.use(await openRelay(port));
      redisRelays.push(relay);
      const env = { REDIS_URL: `redis://127.0.0.1:${relay.port}`, ...(await environment(i)) };
      const victim = new Victim({ name: `${name} ${i}`, script, env, logFile, readyLine: ready });
      victims.push(stack.use(victim));
      await victim.start();
    }
    return victims;
  }

  const edges = await start(
    'edge',
    { count: size.edges, script: 'edge/node.ts', ready: /edge_ready/ },
    async () => {
      const edgePort = await freePort();
      clientRelays.push(stack.use(await openRelay(edgePort)));
      return { ...EDGE_ENVIRONMENT, PORT: `${edgePort}` };
    },
  );
  const workers = await start(
    'worker',
    { count: size.workers, script: 'worker/main.ts', ready: /worker_ready/ },
    () => WORKER_ENVIRONMENT,
  );
  const webhooks = await start(
    'webhooks',
    { count: size.webhooks, script: 'worker/webhooks/main.ts', ready: /webhooks_ready/ },
    () => WEBHOOKS_ENVIRONMENT,
  );
  const batches = await start(
    'batches',
    { count: size.batches, script: 'edge/batches-node.ts', ready: /batches_ready/ },
    () => BATCHES_ENVIRONMENT,
  );

  return {
    edges,
    edgeUrls: clientRelays.map((relay) => `http://127.0.0.1:${relay.port}`),
    workers,
    webhooks,
    batches,
    redisRelays,
    clientRelays,
    logFile,
    async restartRedis(signal) {
      redis.process.kill(signal);
      await redis[Symbol.asyncDispose]();
      redis = await openPrivateRedis({ dir, port });
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}
