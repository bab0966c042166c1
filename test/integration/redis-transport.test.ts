import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import type { RequestId } from '../../shared/ids.ts';
import { encodeEvent, type RequestEvent } from '../../shared/protocol/event.ts';
import { numChoices } from '../../shared/protocol/job.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { RequestScripts } from '../../shared/protocol/request-scripts.ts';
import { jobOf } from '../support/jobs.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { ScriptedGenerator, scriptedText } from '../support/scripted-generator.ts';
import { generate, openTestWorker, readAll } from '../support/workers.ts';

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

function tokens(text: string): RequestEvent {
  return { type: 'tokens', choice: 0, tokenIds: [1], text, logprobs: null, finishReason: null };
}

const failure = { type: 'error', code: 'internal', message: 'over', param: null } as const;

/** A request under way, its worker played by hand. */
async function begun() {
  const job = jobOf();
  const events = await transport.submit(job, never);
  const claim = await scripts.claim(job.id, 'worker', 8);
  if (claim.type !== 'claimed') throw new Error(claim.type);
  let nextSeq = 0;
  const append = async (...texts: string[]) => {
    const payloads = texts.map((text) => encodeEvent(tokens(text)));
    await scripts.append(job.id, { epoch: 1, firstSeq: nextSeq, payloads });
    nextSeq += texts.length;
  };
  const finish = () => {
    const payloads = [encodeEvent(failure)];
    const write = { epoch: 1, firstSeq: nextSeq, payloads };
    return scripts.finish(job.id, { ...write, status: 'failed' });
  };
  return { id: job.id, events, append, finish };
}

/** Reads in the background; `text` is what has come so far. */
function reader(events: Awaited<ReturnType<RedisTransport['submit']>>) {
  const state = { text: '', whole: Promise.resolve() };
  state.whole = (async () => {
    for await (const { event } of events) if (event.type === 'tokens') state.text += event.text;
  })();
  return state;
}

async function connectionsOf(id: RequestId): Promise<number> {
  const reply = await redis.client.pubsub('NUMSUB', keys.request(id).events);
  return Number(reply[1]);
}

describe('a request on its way', () => {
  it('comes back as its worker wrote it, the first event included', async () => {
    await using _worker = await openTestWorker(redis.url, new ScriptedGenerator());
    const jobs = Array.from({ length: 20 }, (_, i) =>
      jobOf({ n: 1 + (i % 3), sampling: { ...jobOf().sampling, seed: i } }),
    );

    const results = await Promise.all(jobs.map((job) => generate(transport, job)));

    for (const [i, job] of jobs.entries()) {
      const expected = Array.from({ length: numChoices(job) }, (_, k) => scriptedText(job, k));
      expect(results[i]?.texts).toEqual(expected);
      expect(results[i]?.last?.type).toBe('done');
    }
  });

  it('ends by its deadline though no worker ever takes it', async () => {
    const { last, texts } = await generate(transport, jobOf({ deadlineMs: Date.now() + 20 }));
    expect(texts).toEqual(['']);
    expect(last?.type).toBe('done');
  });

  it('is queued once, however often it is submitted', async () => {
    const job = jobOf({ fingerprint: 'nobody' });
    const first = readAll(await transport.submit(job, never));
    const second = readAll(await transport.submit(job, never));
    const { prefix, name } = keys.queue(job);

    expect(await redis.client.zcard(`${prefix}:${name}:prioritized`)).toBe(1);
    await transport.cancel(job.id);
    expect((await first).ids).toEqual((await second).ids);
  });
});

describe('a reader', () => {
  it('reads from the log what no message told it', async () => {
    const { id, events, append, finish } = await begun();
    const { state, log } = keys.request(id);
    const reading = reader(events);
    await append('a');
    await redis.client.xadd(log, '1-1', 'e', encodeEvent(tokens('b')));
    await redis.client.hset(state, 'nextSeq', 2);
    await scripts.append(id, { epoch: 1, firstSeq: 2, payloads: [encodeEvent(tokens('c'))] });
    await vi.waitFor(() => expect(reading.text).toBe('abc'));

    await transport.cancel(id);
    await finish().catch(() => undefined);
  });

  it('passes over what it has seen, and what an earlier epoch says late', async () => {
    const { id, events, append, finish } = await begun();
    const reading = reader(events);
    await append('a', 'b');
    const channel = keys.request(id).events;
    await redis.client.publish(channel, `1-0 ${encodeEvent(tokens('again'))}`);
    await redis.client.publish(channel, `0-2 ${encodeEvent(tokens('zombie'))}`);
    await append('c');
    await finish();

    await reading.whole;
    expect(reading.text).toBe('abc');
  });

  it.each(['pubsub', 'normal'] as const)('survives the loss of %s connections', async (type) => {
    const { events, append, finish } = await begun();
    const reading = reader(events);
    for (let round = 0; round < 5; round += 1) {
      await append(`${round}`);
      await redis.client.call('CLIENT', 'KILL', 'TYPE', type, 'SKIPME', 'yes');
      await append('x');
    }
    await finish();

    await reading.whole;
    expect(reading.text).toBe('0x1x2x3x4x');
  });

  it('reads the log as soon as it hears again, without waiting for a message', async () => {
    const { events, append, finish } = await begun();
    const reading = reader(events);
    await redis.client.call('CLIENT', 'KILL', 'TYPE', 'pubsub', 'SKIPME', 'yes');
    await append('unheard');
    await vi.waitFor(() => expect(reading.text).toBe('unheard'));
    await finish();
    await reading.whole;
  });

  it('gets everything in order though it reads late and slowly', async () => {
    const { events, append, finish } = await begun();
    const texts = Array.from({ length: 600 }, (_, i) => `${i}:${'.'.repeat(2000)}`);
    for (let i = 0; i < texts.length; i += 50) await append(...texts.slice(i, i + 50));
    await finish();

    const { texts: read, ids } = await readAll(events);
    expect(read[0]).toBe(texts.join(''));
    expect(ids).toEqual(Array.from({ length: 601 }, (_, seq) => `1-${seq}`));
  });

  it('shares a channel with others, which is left with the last of them', async () => {
    const { id, events, append, finish } = await begun();
    const leaving = new AbortController();
    const unread = await transport.open(id, null, leaving.signal);
    expect(await connectionsOf(id)).toBe(1);
    leaving.abort();
    const reading = reader(events);
    await append('a');
    await finish();

    await reading.whole;
    expect((await readAll(unread)).ids).toEqual([]);
    await vi.waitFor(async () => expect(await connectionsOf(id)).toBe(0));
  });
});

describe('when Redis stops', () => {
  it.each(['SIGTERM', 'SIGKILL'] as const)(
    'streams wait, and lose nothing (%s)',
    async (signal) => {
      const { id, events, append, finish } = await begun();
      const reading = reader(events);
      await append('before ');

      await redis.stop(signal);
      const appended = append('after').then(finish);
      await redis.start();
      await appended;

      await reading.whole;
      expect(reading.text).toBe('before after');
      expect((await readAll(await transport.open(id, null, never))).texts).toEqual([
        'before after',
      ]);
    },
  );

  it('calls fail rather than hang, and work again once it is back', async () => {
    await redis.stop();
    const unavailable = { code: 'unavailable', retryAfterSeconds: 1 };

    await expect(transport.submit(jobOf(), never)).rejects.toMatchObject(unavailable);
    await expect(transport.models()).rejects.toMatchObject(unavailable);
    await redis.start();
    await vi.waitFor(() => transport.ping(), { timeout: 10_000 });
    await using _worker = await openTestWorker(redis.url, new ScriptedGenerator());
    const job = jobOf();
    await vi.waitFor(async () => {
      expect((await generate(transport, job)).texts).toEqual([scriptedText(job)]);
    });
  });
});
