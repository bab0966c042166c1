import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import { jobOf } from '../support/jobs.ts';
import { openTestCluster } from '../support/redis-cluster.ts';
import { ScriptedGenerator, scriptedText } from '../support/scripted-generator.ts';
import { generate, openTestWorker, readAll } from '../support/workers.ts';

const never = new AbortController().signal;

describe('on a cluster of three nodes', () => {
  let cluster: Awaited<ReturnType<typeof openTestCluster>>;
  let transport: RedisTransport;

  beforeAll(async () => {
    cluster = await openTestCluster();
    transport = await openRedisTransport(cluster.url);
  });
  afterAll(async () => {
    await transport[Symbol.asyncDispose]();
    await cluster[Symbol.asyncDispose]();
  });

  it('requests go their whole way, wherever their keys are', async () => {
    await using _worker = await openTestWorker(cluster.url, new ScriptedGenerator());
    const jobs = Array.from({ length: 24 }, () => jobOf());
    const results = await Promise.all(jobs.map((job) => generate(transport, job)));

    expect(results.map(({ texts }) => texts[0])).toEqual(jobs.map((job) => scriptedText(job)));
    const [job] = jobs;
    const replay = await readAll(await transport.open(job!.id, null, never));
    expect(replay).toEqual(results[0]);
  });

  it('a second worker goes on where the first one left', async () => {
    const leaving = new ScriptedGenerator('by-hand');
    const worker = await openTestWorker(cluster.url, leaving);
    const job = jobOf();
    const result = generate(transport, job);
    await leaving.started(1);
    leaving.step();
    await worker.stop();
    await using _heir = await openTestWorker(cluster.url, new ScriptedGenerator());

    expect((await result).texts).toEqual([scriptedText(job)]);
    expect((await result).ids[0]).toBe('1-0');
  });

  it('a queued request can be cancelled', async () => {
    const job = jobOf({ fingerprint: 'nobody' });
    const result = generate(transport, job);
    const [event] = await Promise.all([result, cancelOnceQueued(job.id)]);
    expect(event.last?.type).toBe('done');
  });

  async function cancelOnceQueued(id: Parameters<RedisTransport['cancel']>[0]): Promise<void> {
    while ((await transport.cancel(id)) === null);
  }
});
