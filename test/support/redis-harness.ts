import type { Transport } from '../../edge/transport/transport.ts';
import { encodeEvent, isTerminal, type RequestEvent } from '../../shared/protocol/event.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { RequestScripts } from '../../shared/protocol/request-scripts.ts';
import { decodeOutboxItem } from '../../shared/protocol/webhook-outbox.ts';
import { register } from '../../worker/queue/registry.ts';
import type { NoticesHarness } from './notices-conformance.ts';
import { openTestRedis } from './redis.ts';

/** A transport over a Redis of its own, with the worker's end of it in the test's hand. */
export async function openRedisHarness(
  openTransport: (redisUrl: string) => Promise<Transport & AsyncDisposable>,
): Promise<NoticesHarness> {
  const stack = new AsyncDisposableStack();
  const redis = stack.use(await openTestRedis());
  const transport = stack.use(await openTransport(redis.url));
  const keys = new Keys();
  const options = { isCluster: false, retentionMs: 60_000 };
  const scripts = new RequestScripts(redis.client, keys, options);

  async function write(
    id: Parameters<typeof scripts.append>[0],
    epoch: number,
    events: readonly RequestEvent[],
  ) {
    const nextSeq = await redis.client.hget(keys.request(id).state, 'nextSeq');
    const payloads = events.map(encodeEvent);
    const write = { epoch, firstSeq: Number(nextSeq), payloads };
    const last = events.at(-1);
    if (last === undefined || !isTerminal(last)) return scripts.append(id, write);
    const status = last.type === 'done' ? 'succeeded' : 'failed';
    return scripts.finish(id, { ...write, status });
  }

  return {
    transport,
    async register(card, tokenizerFiles, ratePerSecond = 0) {
      const workerId = card.fingerprint;
      const registration = { card, tokenizerFiles, workerId, ratePerSecond: () => ratePerSecond };
      stack.use(await register(redis.client, redis.client, keys, registration));
    },
    async claim(id) {
      const claim = await scripts.claim(id, 'worker', 8);
      if (claim.type !== 'claimed') throw new Error(`not claimed: ${claim.type}`);
      return claim.epoch;
    },
    async append(id, epoch, events) {
      const reply = await write(id, epoch, events);
      if (reply.type !== 'ok') throw new Error(`refused: ${reply.type}`);
    },
    records: {
      async addAttempt(id, attempt) {
        await redis.client.rpush(keys.deliveriesOf(id), JSON.stringify(attempt));
      },
      async addDeadLetter(tenant, letter) {
        const { index, letter: keyOf } = keys.deadLettersOf(tenant);
        await redis.client.zadd(index, letter.atMs, letter.webhookId);
        await redis.client.hset(keyOf(letter.webhookId), 'letter', JSON.stringify(letter));
      },
      async removeDeadLetter(tenant, webhookId) {
        const { index, letter } = keys.deadLettersOf(tenant);
        await redis.client.zrem(index, webhookId);
        await redis.client.del(letter(webhookId));
      },
      async addNotice(tenant, notice) {
        await redis.client.xadd(keys.noticesOf(tenant), '*', 'e', JSON.stringify(notice));
      },
      async trimNotices(tenant, numTrimmed) {
        const stream = keys.noticesOf(tenant);
        await redis.client.xtrim(stream, 'MAXLEN', (await redis.client.xlen(stream)) - numTrimmed);
      },
      async redeliveries() {
        const texts = await redis.client.lrange(keys.webhookOutbox, 0, -1);
        const items = texts.map(decodeOutboxItem).filter((item) => item?.type === 'redelivery');
        return [...new Map(items.map(({ nonce, webhookId }) => [nonce, webhookId])).values()];
      },
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}
