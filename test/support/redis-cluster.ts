import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { openPrivateRedis, type PrivateRedis } from '../../infra/redis/private-redis.ts';

const NUM_NODES = 3;
const NUM_SLOTS = 16_384;

/** Three primaries without replicas, which share the slots. @returns the address of one */
export async function openTestCluster(): Promise<AsyncDisposable & { readonly url: string }> {
  await using opening = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), 'rivulet-test-cluster-'));
  opening.defer(() => rm(dir, { recursive: true, force: true }));
  const nodes: PrivateRedis[] = [];
  for (let i = 0; i < NUM_NODES; i += 1) {
    const settings = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '2000'];
    const options = { dir: join(dir, `${i}`), port: 'free', settings } as const;
    nodes.push(opening.use(await openPrivateRedis(options)));
  }
  await meet(nodes);
  const stack = opening.move();
  const [first] = nodes;
  return { url: first?.url ?? '', [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/** Hands out the slots, lets the nodes meet, and waits until each knows of all. */
async function meet(nodes: readonly PrivateRedis[]): Promise<void> {
  const clients = nodes.map(({ url }) => new Redis(url));
  for (const [i, client] of clients.entries()) {
    const first = Math.floor((i * NUM_SLOTS) / NUM_NODES);
    const last = Math.floor(((i + 1) * NUM_SLOTS) / NUM_NODES) - 1;
    await client.call('CLUSTER', 'ADDSLOTSRANGE', first, last);
    await client.call('CLUSTER', 'SET-CONFIG-EPOCH', i + 1);
  }
  for (const { port } of nodes.slice(1)) {
    await clients[0]?.call('CLUSTER', 'MEET', '127.0.0.1', port);
  }
  for (const client of clients) {
    while (!(await isWhole(client))) await new Promise((resolve) => setTimeout(resolve, 20));
    client.disconnect();
  }
}

async function isWhole(client: Redis): Promise<boolean> {
  const info = String(await client.call('CLUSTER', 'INFO'));
  return /cluster_state:ok/.test(info) && info.includes(`cluster_known_nodes:${NUM_NODES}`);
}
