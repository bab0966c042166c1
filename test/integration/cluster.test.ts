import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
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

  it('a queued request can be cancelled', async () => {
    const job = jobOf({ fingerprint: 'nobody' });
    const result = generate(transport, job);
    const [event] = await Promise.all([result, cancelOnceQueued(job.id)]);
    expect(event.last?.type).toBe('done');
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
