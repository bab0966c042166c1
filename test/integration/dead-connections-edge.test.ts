import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import { encodeEvent, type LoggedEvent } from '../../shared/protocol/event.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { RequestScripts } from '../../shared/protocol/request-scripts.ts';
import { openRelay, type Relay } from '../chaos/relay.ts';
import { jobOf } from '../support/jobs.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { tokensOf } from '../support/transport-conformance.ts';

const never = new AbortController().signal;
/** A reader that hears nothing for so long looks into the log by itself. */
const IDLE_MS = 5000;
let redis: TestRedis;
let scripts: RequestScripts;

beforeAll(async () => {
  redis = await openTestRedis();
  const options = { isCluster: false, retentionMs: 60_000 };
  scripts = new RequestScripts(redis.client, new Keys(), options);
});
afterAll(() => redis[Symbol.asyncDispose]());

/** A transport on connections that can be forgotten: the first is that of commands. */
async function open(): Promise<{ relay: Relay; transport: RedisTransport } & AsyncDisposable> {
  const stack = new AsyncDisposableStack();
  const relay = stack.use(await openRelay(redis.port));
  const transport = stack.use(await openRedisTransport(`redis://127.0.0.1:${relay.port}`));
  return { relay, transport, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/** A stream under way. @returns how long the next event takes to arrive, in ms */
async function begin(transport: RedisTransport) {
  const job = jobOf();
  const events = (await transport.submit(job, never))[Symbol.asyncIterator]();
  await scripts.claim(job.id, 'worker', 8);
  let nextSeq = 0;
  return async (): Promise<number> => {
    const startMs = performance.now();
    const payloads = [encodeEvent(tokensOf('a'))];
    await scripts.append(job.id, { epoch: 1, firstSeq: nextSeq, payloads });
    const { value }: IteratorResult<LoggedEvent> = await events.next();
    expect(value?.id.seq).toBe(nextSeq);
    nextSeq += 1;
    return performance.now() - startMs;
  };
}

describe('connections that die without a word', () => {
  it('delay calls and streams, and fail none', async () => {
    await using opened = await open();
    const { relay, transport } = opened;
    const next = await begin(transport);
    await next();

    relay.swallow();
    const [delayMs, other] = await Promise.all([next(), begin(transport), transport.ping()]);

    expect(delayMs).toBeLessThan(IDLE_MS);
    expect(await next()).toBeLessThan(1000);
    expect(await other()).toBeLessThan(1000);
  });

  it('are found out where they only listen, before the log is looked into', async () => {
    await using opened = await open();
    const { relay, transport } = opened;
    const next = await begin(transport);
    await next();

    relay.swallow(1);
    expect(await next()).toBeLessThan(IDLE_MS);
    expect(await next()).toBeLessThan(1000);
  });
});
