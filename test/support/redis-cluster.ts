import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { openPrivateRedis, type PrivateRedis } from '../../infra/redis/private-redis.ts';

const NUM_NODES = 3;
const NUM_SLOTS = 16_384;

export interface TestCluster extends AsyncDisposable {
  /** Of one of the nodes. */
  readonly url: string;
  /** Kills the node that has a key. @returns starts it again, with its data */
  killNodeOf(key: string): Promise<() => Promise<void>>;
}

/** Three primaries without replicas, which share the slots. */
export async function openTestCluster(): Promise<TestCluster> {
  await using opening = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), 'rivulet-test-cluster-'));
  opening.defer(() => rm(dir, { recursive: true, force: true }));
  const nodes: PrivateRedis[] = [];
  opening.defer(async () => {
    await Promise.all(nodes.map((node) => node[Symbol.asyncDispose]()));
  });
  for (let i = 0; i < NUM_NODES; i += 1) nodes.push(await openNode(join(dir, `${i}`), 'free'));
  await meet(nodes);
  const stack = opening.move();
  const first = nodes[0]!;
  return {
    url: first.url,
    async killNodeOf(key) {
      const index = nodeOf(await slotOf(first, key));
      const { process, port } = nodes[index]!;
      process.kill('SIGKILL');
      await nodes[index]![Symbol.asyncDispose]();
      return async () => {
        nodes[index] = await openNode(join(dir, `${index}`), port);
        await untilWhole(nodes);
      };
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

function openNode(dir: string, port: number | 'free'): Promise<PrivateRedis> {
  const settings = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '2000'];
  return openPrivateRedis({ dir, port, settings });
}

function firstSlotOf(index: number): number {
  return Math.floor((index * NUM_SLOTS) / NUM_NODES);
}

async function slotOf({ url }: PrivateRedis, key: string): Promise<number> {
  const client = new Redis(url);
  const slot = await client.call('CLUSTER', 'KEYSLOT', key);
  client.disconnect();
  return Number(slot);
}

function nodeOf(slot: number): number {
  return Array.from({ length: NUM_NODES }, (_, i) => i).findLastIndex(
    (i) => firstSlotOf(i) <= slot,
  );
}

/** Hands out the slots, and lets the nodes meet. */
async function meet(nodes: readonly PrivateRedis[]): Promise<void> {
  const clients = nodes.map(({ url }) => new Redis(url));
  for (const [i, client] of clients.entries()) {
    await client.call('CLUSTER', 'ADDSLOTSRANGE', firstSlotOf(i), firstSlotOf(i + 1) - 1);
    await client.call('CLUSTER', 'SET-CONFIG-EPOCH', i + 1);
  }
  for (const { port } of nodes.slice(1)) {
    await clients[0]?.call('CLUSTER', 'MEET', '127.0.0.1', port);
  }
  for (const client of clients) client.disconnect();
  await untilWhole(nodes);
}

/** Waits until each node knows of all, and that all serve. */
async function untilWhole(nodes: readonly PrivateRedis[]): Promise<void> {
  for (const { url } of nodes) {
    const client = new Redis(url);
    while (!(await isWhole(client))) await new Promise((resolve) => setTimeout(resolve, 20));
    client.disconnect();
  }
}

async function isWhole(client: Redis): Promise<boolean> {
  const info = String(await client.call('CLUSTER', 'INFO'));
  return /cluster_state:ok/.test(info) && info.includes(`cluster_known_nodes:${NUM_NODES}`);
}
