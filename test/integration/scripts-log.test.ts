import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createRequestId } from '../../shared/ids.ts';
import { RETENTION_MS, ScriptsBench } from '../support/request-scripts.ts';

let bench: ScriptsBench;

beforeAll(async () => {
  bench = await ScriptsBench.open();
});
afterAll(() => bench[Symbol.asyncDispose]());

describe('append', () => {
  it('numbers events from 0 on, through all epochs', async () => {
    const id = await bench.queued();
    await bench.claim(id);
    await bench.scripts.append(id, { epoch: 1, firstSeq: 0, payloads: ['a', 'b'] });
    await bench.claim(id);
    const reply = await bench.scripts.append(id, { epoch: 2, firstSeq: 2, payloads: ['c'] });

    expect(reply).toMatchObject({ type: 'ok', nextSeq: 3, cancel: null });
    expect(await bench.logOf(id)).toBe('1-0 a, 1-1 b, 2-2 c');
  });

  it('refuses the writer of an earlier epoch', async () => {
    const id = await bench.queued();
    await bench.claim(id);
    await bench.claim(id);

    const reply = await bench.scripts.append(id, { epoch: 1, firstSeq: 0, payloads: ['zombie'] });
    expect(reply.type).toBe('fenced');
    expect(await bench.logOf(id)).toBe('');
  });

  it('writes nothing twice when a lost reply makes it repeat itself', async () => {
    const id = await bench.queued();
    await bench.claim(id);
    await bench.scripts.append(id, { epoch: 1, firstSeq: 0, payloads: ['a', 'b'] });
    const reply = await bench.scripts.append(id, { epoch: 1, firstSeq: 0, payloads: ['a', 'b'] });

    expect(reply).toMatchObject({ type: 'ok', nextSeq: 2 });
    expect(await bench.logOf(id)).toBe('1-0 a, 1-1 b');
  });

  it('lets one of two writers win, whatever their order', async () => {
    const id = await bench.queued();
    const claims = await Promise.all([bench.claim(id, 'a'), bench.claim(id, 'b')]);
    await Promise.all(
      claims.flatMap(({ epoch }) =>
        Array.from({ length: 20 }, (_, seq) =>
          bench.scripts.append(id, { epoch, firstSeq: seq, payloads: [`${epoch}`] }),
        ),
      ),
    );
    expect(await bench.logOf(id)).toBe(Array.from({ length: 20 }, (_, i) => `2-${i} 2`).join(', '));
  });

  it('says so when Redis has lost what the writer wrote', async () => {
    const id = await bench.queued();
    await bench.claim(id);

    const ahead = await bench.scripts.append(id, { epoch: 1, firstSeq: 5, payloads: ['x'] });
    const unborn = await bench.scripts.append(id, { epoch: 2, firstSeq: 0, payloads: ['x'] });
    const nobody = createRequestId();
    const unknown = await bench.scripts.append(nobody, { epoch: 1, firstSeq: 0, payloads: ['x'] });

    expect([ahead.type, unborn.type, unknown.type]).toEqual(['gap', 'gap', 'unknown']);
  });

  it('publishes what it writes, under the id of the log', async () => {
    const id = await bench.queued();
    const messages: string[] = [];
    const subscriber = bench.redis.connect();
    await subscriber.subscribe(bench.keysOf(id).events);
    const third = new Promise<void>((resolve) => {
      subscriber.on('message', (_channel, message) => {
        messages.push(message);
        if (messages.length === 3) resolve();
      });
    });
    await bench.claim(id);

    await bench.scripts.append(id, { epoch: 1, firstSeq: 0, payloads: ['a', 'b'] });
    const end = { status: 'succeeded' } as const;
    await bench.scripts.finish(id, { ...end, epoch: 1, firstSeq: 2, payloads: ['done'] });

    await third;
    expect(messages).toEqual(['1-0 a', '1-1 b', '1-2 done']);
  });
});

describe('append, to those who listen', () => {
  it('says for how long there is nobody, from claim to claim, and forgets it once there is', async () => {
    const id = await bench.queued();
    const append = async (epoch: number) => {
      const nextSeq = Number(await bench.field(id, 'nextSeq'));
      return bench.scripts.append(id, { epoch, firstSeq: nextSeq, payloads: ['x'] });
    };
    await bench.claim(id);
    expect((await append(1)).unheardMs).toBe(0);
    await vi.waitFor(async () => expect((await append(1)).unheardMs).toBeGreaterThan(20));
    await bench.claim(id);
    expect((await append(2)).unheardMs).toBeGreaterThan(20);

    const subscriber = bench.redis.connect();
    await subscriber.subscribe(bench.keysOf(id).events);
    expect((await append(2)).unheardMs).toBe(0);
    await subscriber.unsubscribe();
    expect((await append(2)).unheardMs).toBe(0);
    const again = await bench.scripts.append(id, { epoch: 2, firstSeq: 0, payloads: ['x'] });
    expect(again).toMatchObject({ type: 'ok', nextSeq: Number(await bench.field(id, 'nextSeq')) });
  });
});

describe('finish', () => {
  const end = { epoch: 1, firstSeq: 0, status: 'succeeded' } as const;

  it('writes last event and status together, and lets all of it expire', async () => {
    const id = await bench.queued();
    await bench.claim(id);

    expect(await bench.scripts.finish(id, { ...end, payloads: ['a', 'done'] })).toMatchObject({
      type: 'ok',
      nextSeq: 2,
    });
    expect(await bench.logOf(id)).toBe('1-0 a, 1-1 done');
    expect(await bench.field(id, 'status')).toBe('succeeded');
    const { state, log, claims } = bench.keysOf(id);
    for (const key of [state, log, claims]) {
      expect(await bench.redis.client.pttl(key)).toBeGreaterThan(0);
      expect(await bench.redis.client.pttl(key)).toBeLessThanOrEqual(RETENTION_MS);
    }
  });

  it('can be repeated, and lets nothing follow', async () => {
    const id = await bench.queued();
    await bench.claim(id);
    await bench.scripts.finish(id, { ...end, payloads: ['done'] });

    expect((await bench.scripts.finish(id, { ...end, payloads: ['done'] })).type).toBe('ok');
    const late = await bench.scripts.append(id, { epoch: 1, firstSeq: 1, payloads: ['late'] });
    expect(late.type).toBe('ended');
    expect((await bench.scripts.finish(id, { ...end, payloads: ['a', 'b'] })).type).toBe('ended');
    expect(await bench.logOf(id)).toBe('1-0 done');
  });

  it('refuses an earlier epoch', async () => {
    const id = await bench.queued();
    await bench.claim(id);
    await bench.claim(id);

    expect((await bench.scripts.finish(id, { ...end, payloads: ['done'] })).type).toBe('fenced');
    expect(await bench.field(id, 'status')).toBe('running');
  });
});

describe('trim', () => {
  it('keeps marks, and cuts once and forward, for the one who writes', async () => {
    const id = await bench.queued();
    await bench.claim(id);
    const payloads = Array.from({ length: 9 }, (_, i) => `${i}`);
    await bench.scripts.append(id, { epoch: 1, firstSeq: 0, payloads });
    const trim = (epoch: number, seq: number | null) => {
      const cut = seq === null ? null : { seq, firstKept: `1-${seq}`, choices: [] };
      return bench.over(bench.redis.connect()).trim(id, { epoch, marks: `of ${epoch}`, cut });
    };
    expect(await trim(1, null)).toBe(false);
    expect(await bench.field(id, 'marks')).toBe('of 1');
    const replies = await Promise.all(Array.from({ length: 6 }, () => trim(1, 6)));
    expect(replies.filter((isCut) => isCut)).toHaveLength(1);
    expect([await trim(1, 4), await trim(1, 12), await trim(2, 8)]).toEqual([false, false, false]);

    expect(await bench.logOf(id)).toBe('1-6 6, 1-7 7, 1-8 8');
    await bench.claim(id);
    expect(await trim(1, 8)).toBe(false);
    expect(await bench.field(id, 'marks')).toBe('of 1');
    expect(await bench.field(id, 'trimmedTo')).toBe('6');
  });
});
