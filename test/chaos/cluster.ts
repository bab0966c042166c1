import { mkdtemp } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort, openPrivateRedis, type PrivateRedis } from '../../infra/redis/private-redis.ts';
import { Victim } from './process.ts';
import { openRelay, type Relay } from './relay.ts';

const models = fileURLToPath(new URL('../../infra/models', import.meta.url));

/** Everything that a deployment has, each part behind a relay of its own to Redis. */
export interface Cluster extends AsyncDisposable {
  readonly edges: readonly Victim[];
  readonly edgeUrls: readonly string[];
  readonly workers: readonly Victim[];
  readonly webhooks: readonly Victim[];
  /** Between a process and Redis, by the order of `edges`, `workers` and then `webhooks`. */
  readonly relays: readonly Relay[];
  /** Of Redis itself, past all relays. */
  readonly redisUrl: string;
  readonly logFile: string;
  restartRedis(signal: 'SIGKILL' | 'SIGTERM'): Promise<void>;
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

export interface ClusterSize {
  readonly edges: number;
  readonly workers: number;
  readonly webhooks: number;
}

export async function openCluster(size: ClusterSize): Promise<Cluster> {
  const dir = await mkdtemp(join(tmpdir(), 'rivulet-chaos-'));
  const logFile = join(dir, 'log');
  const stack = new AsyncDisposableStack();
  let redis: PrivateRedis = await openPrivateRedis({ dir, port: 'free' });
  const { port } = redis;
  stack.defer(() => redis[Symbol.asyncDispose]());
  process.once('exit', () => redis.process.kill('SIGKILL')); // the others end with this process

  const relays: Relay[] = [];
  const urlOfRedis = async () => {
    const relay = stack.use(await openRelay(port));
    relays.push(relay);
    return `redis://127.0.0.1:${relay.port}`;
  };

  const edges: Victim[] = [];
  const edgeUrls: string[] = [];
  for (let i = 0; i < size.edges; i += 1) {
    const edgePort = await freePort();
    edgeUrls.push(`http://127.0.0.1:${edgePort}`);
    const env = {
      PORT: `${edgePort}`,
      HOST: '127.0.0.1',
      REDIS_URL: await urlOfRedis(),
      // The adversary keeps clients from coming back for longer than usual.
      DISCONNECT_GRACE_MS: '25000',
      ALLOW_INSECURE_WEBHOOKS: 'true',
    };
    const script = 'edge/node.ts';
    edges.push(new Victim({ name: `edge ${i}`, script, env, logFile, readyLine: /edge_ready/ }));
  }
  const workers: Victim[] = [];
  for (let i = 0; i < size.workers; i += 1) {
    const env = {
      REDIS_URL: await urlOfRedis(),
      MODEL_DIR: join(models, 'stories-target'),
      DRAFT_MODEL_DIR: join(models, 'stories-draft'),
      CACHE_DIR: process.env.CACHE_DIR ?? join(homedir(), '.cache/rivulet'),
      NUM_THREADS: '1',
      GRACE_MS: '5000',
    };
    const script = 'worker/main.ts';
    const readyLine = /worker_ready/;
    workers.push(new Victim({ name: `worker ${i}`, script, env, logFile, readyLine }));
  }
  const webhooks: Victim[] = [];
  for (let i = 0; i < size.webhooks; i += 1) {
    const env = { REDIS_URL: await urlOfRedis(), ...WEBHOOKS_ENVIRONMENT };
    const script = 'worker/webhooks/main.ts';
    const readyLine = /webhooks_ready/;
    webhooks.push(new Victim({ name: `webhooks ${i}`, script, env, logFile, readyLine }));
  }
  for (const victim of [...edges, ...workers, ...webhooks]) {
    stack.use(victim);
    await victim.start();
  }

  return {
    edges,
    edgeUrls,
    workers,
    webhooks,
    relays,
    redisUrl: `redis://127.0.0.1:${port}`,
    logFile,
    async restartRedis(signal) {
      redis.process.kill(signal);
      await redis[Symbol.asyncDispose]();
      redis = await openPrivateRedis({ dir, port });
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}
