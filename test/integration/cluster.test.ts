import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { jobOf } from '../support/jobs.ts';
import { openTestCluster, type TestCluster } from '../support/redis-cluster.ts';
import { ScriptedGenerator, scriptedText } from '../support/scripted-generator.ts';
import { generate, openTestWorker, readAll, testQueue } from '../support/workers.ts';

const keys = new Keys();
const never = new AbortController().signal;

describe('on a cluster of three nodes', () => {
  let cluster: TestCluster;
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

  it('a second worker takes over from one that died', async () => {
    const dying = new ScriptedGenerator('by-hand');
    const killed = await openTestWorker(cluster.url, dying, { context: { workerId: 'killed' } });
    const jobs = Array.from({ length: 6 }, () => jobOf());
    const results = jobs.map((job) => generate(transport, job));
    await dying.started(6);
    dying.step();
    killed.kill();
    await using _heir = await openTestWorker(cluster.url, new ScriptedGenerator());

    for (const [i, result] of results.entries()) {
      const { texts, ids } = await result;
      expect(texts).toEqual([scriptedText(jobs[i]!)]);
      expect(ids.map((id) => Number(id.split('-')[1]))).toEqual(ids.map((_, seq) => seq));
    }
  });

  it('a queued request can be cancelled', async () => {
    const job = jobOf({ fingerprint: 'nobody' });
    const result = generate(transport, job);
    const [event] = await Promise.all([result, cancelOnceQueued(job.id)]);
    expect(event.last?.type).toBe('done');
  });

  it('a request is cancelled when nobody listens, and not while somebody does', async () => {
    const generator = new ScriptedGenerator('by-hand');
    const context = { orphanMs: 300 };
    await using _worker = await openTestWorker(cluster.url, generator, { context });
    const edge = await openRedisTransport(cluster.url);
    const [heard, orphan] = [jobOf({ maxTokens: 8000 }), jobOf({ maxTokens: 8000 })];
    const result = generate(transport, heard);
    await edge.submit(orphan, never);
    await generator.started(2);
    generator.step();
    await edge[Symbol.asyncDispose]();

    const stepping = setInterval(() => generator.step(), 5);
    const isCancelled = async () => (await transport.request(orphan.id))?.status === 'cancelled';
    await vi.waitFor(async () => expect(await isCancelled()).toBe(true), 5000);
    clearInterval(stepping);
    while (generator.numRunning > 0) generator.step();
    expect((await result).texts).toEqual([scriptedText(heard)]);
  });

  it.each(['the request', 'its queue'])('a worker outlives the node of %s', async (what) => {
    const generator = new ScriptedGenerator('by-hand');
    await using worker = await openTestWorker(cluster.url, generator);
    const job = jobOf();
    const result = generate(transport, job);
    await generator.started(1);
    const key = what === 'the request' ? keys.request(job.id).log : keys.rates(testQueue);
    const start = await cluster.killNodeOf(key);
    generator.step();
    await sleep(3000); // longer than a client of a cluster tries one command
    await start();

    const stepping = setInterval(() => generator.step(), 20);
    const ended = await Promise.race([result, worker.over]);
    clearInterval(stepping);
    expect(ended).toMatchObject({ texts: [scriptedText(job)] });
  });

  async function cancelOnceQueued(id: Parameters<RedisTransport['cancel']>[0]): Promise<void> {
    while ((await transport.cancel(id)) === null);
  }
});
