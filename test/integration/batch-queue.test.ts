import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { toTenantId } from '../../shared/ids.ts';
import type { Batch } from '../../shared/protocol/batch.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { BATCH_NOTICES } from '../../shared/protocol/webhook.ts';
import { startBatchRunner } from '../support/batch-runner.ts';
import { TestBatches } from '../support/batches.ts';
import { openReceiver } from '../support/receivers.ts';
import { jobFor, verified, waitForCount } from '../support/webhook-jobs.ts';
import { openTestWebhooks } from '../support/webhooks.ts';

const keys = new Keys();
let batches: TestBatches;

beforeAll(async () => {
  batches = await TestBatches.open();
});
afterAll(() => batches[Symbol.asyncDispose]());

const ann = toTenantId('ann');
const bob = toTenantId('bob');
/** One place, and a window so small that a batch takes many steps. */
const onePlace = { BATCH_CONCURRENCY: '1', BATCH_WINDOW: '2' };
const isRunning = ({ progress }: Batch) => progress.nextLine > 0;
const isOver = ({ isNotified }: Batch) => isNotified;

async function end(ids: readonly string[]): Promise<void> {
  for (const id of ids) await batches.transport.batches.cancel(id);
  for (const id of ids) await batches.workUntil(id, isOver);
}

describe('a batch that waits for a place', () => {
  it('is ended when it is cancelled or expires, though all places are taken', async () => {
    const { transport } = batches;
    const running = await batches.create(1000);
    await using _runner = await startBatchRunner(batches.redis.url, onePlace);
    await batches.workUntil(running, isRunning);
    await using receiver = await openReceiver();
    await using _webhooks = await openTestWebhooks(batches.redis.url);
    const { webhook = null } = jobFor(receiver.url, { events: [...BATCH_NOTICES] });
    const cancelled = await batches.create(10, { webhook });
    const expired = await batches.create(10, { webhook, expiresMs: Date.now() + 500 });
    const untouched = await batches.create(10);
    await batches.redis.client.zadd(keys.dueBatches, 0, expired, 0, untouched); // it is time
    await transport.batches.cancel(cancelled);
    await batches.workUntil(cancelled, isOver);
    await batches.redis.client.zadd(keys.dueBatches, 'XX', 0, expired);
    await batches.workUntil(expired, isOver);

    expect(await batches.find(cancelled)).toMatchObject({ status: 'cancelled', numLines: 0 });
    expect(await batches.find(expired)).toMatchObject({
      status: 'expired',
      progress: { numCompleted: 0, numFailed: 10 },
    });
    expect(await batches.find(untouched)).toMatchObject({ status: 'validating', epoch: 0 });
    expect((await batches.find(running)).epoch).toBe(1);
    await waitForCount(receiver, 2);
    expect(verified(receiver).map(({ type, data }) => [type, data.id])).toEqual([
      ['batch.cancelled', cancelled],
      ['batch.expired', expired],
    ]);
    await end([running, untouched]);
    expect(await batches.redis.client.zcard(keys.dueBatches)).toBe(0);
    expect(await batches.redis.client.zcard(keys.openBatchesOf(ann))).toBe(0);
  });

  it('is queued though its edge died before it could do so', async () => {
    const spec = await batches.specOf(4);
    const { transport, redis } = batches;
    await transport.batches.create(spec, 100);
    const { prefix, name } = keys.batchQueue;
    await redis.client.del(`${prefix}:${name}:${spec.id}`, `${prefix}:${name}:prioritized`);
    await redis.client.zadd(keys.dueBatches, 0, spec.id);
    await using _runner = await startBatchRunner(redis.url, onePlace);
    await batches.workUntil(spec.id, ({ status }) => status === 'completed');
  });

  it('gets its turn beside long batches of another tenant, and they go on', async () => {
    const long = [await batches.create(400), await batches.create(400)];
    await using _runner = await startBatchRunner(batches.redis.url, {
      ...onePlace,
      BATCH_TURN_MS: '200',
    });
    await batches.workUntil(long[0]!, isRunning);
    const short = await batches.create(10, { tenant: bob });
    await batches.workUntil(short, ({ status }) => status === 'completed');

    const [first, second] = [await batches.find(long[0]!), await batches.find(long[1]!)];
    expect(first.status).toBe('in_progress');
    expect(second.epoch).toBe(0); // behind the first of its tenant
    const { nextLine } = first.progress;
    const later = await batches.workUntil(long[0]!, ({ progress }) => progress.nextLine > nextLine);
    expect(later.epoch).toBeGreaterThan(1);
    await end(long);
  });

  it('is refused where its tenant has as many as may be, until one of them is over', async () => {
    const { transport } = batches;
    const tenant = toTenantId('eve');
    const [first, second] = [await batches.specOf(1, tenant), await batches.specOf(1, tenant)];
    await transport.batches.create(first, 1);
    await transport.batches.create(first, 1); // sent again
    await expect(transport.batches.create(second, 1)).rejects.toMatchObject({
      code: 'rate_limit_exceeded',
      message: '1 batches of yours are open already',
    });
    expect(await transport.batches.find(second.id)).toBeNull();
    await using _runner = await startBatchRunner(batches.redis.url, onePlace);
    await end([first.id]);
    await transport.batches.create(second, 1);
    await end([second.id]);
  });
});
