import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import { Keys, servedModelField } from '../../shared/protocol/keys.ts';
import { DEPART } from '../../shared/protocol/registry-scripts.ts';
import { RequestScripts, runScript } from '../../shared/protocol/request-scripts.ts';
import { OVERDUE_MS } from '../../worker/queue/registry.ts';
import { jobOf } from '../support/jobs.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { ScriptedGenerator, scriptedText } from '../support/scripted-generator.ts';
import { generate, openTestWorker, readAll, stepUntil } from '../support/workers.ts';

const keys = new Keys();
const never = new AbortController().signal;
let redis: TestRedis;
let transport: RedisTransport;
let scripts: RequestScripts;

beforeAll(async () => {
  redis = await openTestRedis();
  transport = await openRedisTransport(redis.url);
  scripts = new RequestScripts(redis.client, keys, { isCluster: false, retentionMs: 60_000 });
});
afterAll(async () => {
  await transport[Symbol.asyncDispose]();
  await redis[Symbol.asyncDispose]();
});

describe('a request whose workers die', () => {
  it('ends a request at its fourth claim in a row that leads nowhere, and keeps the evidence', async () => {
    const job = jobOf();
    const result = transport.submit(job, never).then(readAll);
    await vi.waitFor(async () => expect((await transport.request(job.id))?.status).toBe('queued'));
    for (const worker of ['a', 'b', 'c']) await scripts.claim(job.id, worker, 8);
    const generator = new ScriptedGenerator();
    await using _worker = await openTestWorker(redis.url, generator);

    expect((await result).last).toMatchObject({ type: 'error', code: 'internal' });
    expect(generator.starts).toEqual([]);
    const evidence = JSON.parse((await redis.client.get(keys.request(job.id).setAside)) ?? '');
    const workers = evidence.claims.map((claim: string) => JSON.parse(claim).worker);
    expect(workers).toEqual(['a', 'b', 'c']);
    expect(await redis.client.ttl(keys.request(job.id).setAside)).toBeGreaterThan(6 * 24 * 3600);
  });

  it('blames a request less for deaths while other workers die as well', async () => {
    const [unlucky, deadly] = [jobOf(), jobOf()];
    const results = [unlucky, deadly].map((job) => transport.submit(job, never).then(readAll));
    const claims = [
      { id: unlucky.id, workers: ['a', 'b', 'c'] },
      { id: deadly.id, workers: ['d', 'e', 'f', 'g', 'h', 'i'] },
    ];
    for (const { id, workers } of claims) {
      await vi.waitFor(async () => expect((await transport.request(id))?.status).toBe('queued'));
      for (const worker of workers) await scripts.claim(id, worker, 2);
    }
    // Four others that are last heard of now, and silent when they are asked for.
    for (const worker of ['p', 'q', 'r', 's']) {
      await redis.client.zadd(keys.workers, Date.now() + OVERDUE_MS, `elsewhere ${worker}`);
    }
    await sleep(1600);
    await using _worker = await openTestWorker(redis.url, new ScriptedGenerator());

    expect((await results[0])?.texts).toEqual([scriptedText(unlucky)]);
    expect((await results[1])?.last).toMatchObject({ type: 'error', code: 'internal' });
    expect(await redis.client.exists(keys.request(unlucky.id).setAside)).toBe(0);
    await redis.client.del(keys.workers);
  });

  it('blames a request for no worker that gave it back, nor for one that left of itself', async () => {
    const [given, left] = [jobOf(), jobOf()];
    const results = [given, left].map((job) => transport.submit(job, never).then(readAll));
    for (const { id } of [given, left]) {
      await vi.waitFor(async () => expect((await transport.request(id))?.status).toBe('queued'));
    }
    for (let epoch = 1; epoch < 12; epoch += 2) {
      await scripts.claim(given.id, `gave ${epoch}`, 2);
      expect(await scripts.release(given.id, epoch)).toBe(true);
    }
    for (const worker of ['a', 'b', 'c']) {
      await scripts.claim(left.id, worker, 2);
      const member = `${servedModelField(left)} ${worker}`;
      await runScript(redis.client, DEPART, [keys.workers, keys.departedWorkers], [member]);
    }
    await using _worker = await openTestWorker(redis.url, new ScriptedGenerator());

    for (const [i, job] of [given, left].entries()) {
      expect((await results[i])?.texts).toEqual([scriptedText(job)]);
    }
  });

  it('blames a request once for a worker that hung, claimed it again and died', async () => {
    const job = jobOf();
    const result = transport.submit(job, never).then(readAll);
    await vi.waitFor(async () => expect((await transport.request(job.id))?.status).toBe('queued'));
    for (const worker of ['x', 'x', 'y']) await scripts.claim(job.id, worker, 8);
    await using _worker = await openTestWorker(redis.url, new ScriptedGenerator());

    expect((await result).texts).toEqual([scriptedText(job)]);
  });

  it('holds the deaths of workers against the request that killed them, not those beside it', async () => {
    const killer = jobOf();
    const jobs = [jobOf(), jobOf(), killer, jobOf(), jobOf()];
    const results = jobs.map((job) => generate(transport, job));
    for (let death = 0; death < 2; death++) {
      const generator = new ScriptedGenerator('by-hand');
      const options = { context: { workerId: `death ${death}` } };
      const worker = await openTestWorker(redis.url, generator, options);
      await generator.started(jobs.length);
      worker.kill();
    }
    const generator = new ScriptedGenerator('by-hand');
    const worker = await openTestWorker(redis.url, generator, { context: { workerId: 'death 2' } });
    await generator.started(jobs.length);
    for (let numBegun = 1; !generator.begun.includes(killer.id); numBegun++) {
      generator.step(); // all that are held say that they are due
      await vi.waitFor(() => expect(generator.begun).toHaveLength(numBegun));
      const id = generator.begun.at(-1) ?? killer.id;
      if (id !== killer.id) await stepUntil(redis.client, generator, { id, count: 2 });
    }
    worker.kill();
    await using _last = await openTestWorker(redis.url, new ScriptedGenerator());

    for (const [i, job] of jobs.entries()) {
      const { texts, last } = await (results[i] ?? Promise.reject());
      if (job === killer) expect(last).toMatchObject({ type: 'error', code: 'internal' });
      else expect(texts).toEqual([scriptedText(job)]);
      expect(await redis.client.exists(keys.request(job.id).setAside)).toBe(job === killer ? 1 : 0);
    }
  });

  it('blames no request that waited for a row, however many workers died meanwhile', async () => {
    const job = jobOf();
    const result = generate(transport, job);
    for (let death = 0; death < 3; death++) {
      const generator = new ScriptedGenerator('by-hand'); // of which nothing is ever due
      const options = { context: { workerId: `death ${death}` } };
      const worker = await openTestWorker(redis.url, generator, options);
      await generator.started(1);
      worker.kill();
    }
    await using _last = await openTestWorker(redis.url, new ScriptedGenerator());

    expect((await result).texts).toEqual([scriptedText(job)]);
    expect(await redis.client.exists(keys.request(job.id).setAside)).toBe(0);
  });

  it('releases a request that waits for its last try, without counting a claim', async () => {
    const jobs = [jobOf(), jobOf()];
    const results = jobs.map((job) => generate(transport, job));
    for (const { id } of jobs) {
      await vi.waitFor(async () => expect((await transport.request(id))?.status).toBe('queued'));
      for (const worker of ['a', 'b']) await scripts.claim(id, worker, 2);
    }
    const leaving = new ScriptedGenerator('by-hand');
    const worker = await openTestWorker(redis.url, leaving);
    await leaving.started(2);
    leaving.step();
    await vi.waitFor(() => expect(leaving.begun).toHaveLength(1));
    await worker.stop();

    expect(leaving.begun).toHaveLength(1);
    for (const { id } of jobs) {
      expect(await redis.client.llen(keys.request(id).claims)).toBe(2);
    }
    await using _heir = await openTestWorker(redis.url, new ScriptedGenerator());
    for (const [i, result] of results.entries()) {
      expect((await result).texts).toEqual([scriptedText(jobs[i] ?? jobOf())]);
    }
  });
});
